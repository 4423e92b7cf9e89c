"""Argument groups that commands share, and how they become specs and models."""

import argparse

from ..deciding import MODES
from ..device import PRECISION_BYTES, load_devices
from ..encoder_spec import POLICIES
from ..model import LatencyModel
from ..network import NetworkSpec
from ..networks import NETWORK_NAMES, build_network, usual_granularity
from ..schedule import TILE_SETS
from ..spec import SHARES

USUAL = 'usual'  # a granularity: the network's own
# What a transformer decides on in each mode, as LAUDNet has it.
POLICIES_OF = {
    'spatial': ('tokens',),
    'layer': ('blocks',),
    'channel': ('heads',),
    'joint': POLICIES,
}


def add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--json',
        dest='form',
        action='store_const',
        const='json',
        default='table',
        help='print JSON',
    )
    group.add_argument('--csv', dest='form', action='store_const', const='csv', help='print CSV')
    parser.add_argument('--output', metavar='FILE', help='write to FILE instead of the console')


def add_model(parser: argparse.ArgumentParser, devices: str = 'v100') -> None:
    parser.add_argument(
        '--device',
        default=devices,
        metavar='NAMES',
        help='device names or .yaml files, separated by commas; "all" is every '
        'shipped device (default: %(default)s)',
    )
    parser.add_argument(
        '--precision',
        default='fp32',
        choices=tuple(PRECISION_BYTES),
        help='number format (default: %(default)s)',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images per forward; latencies are for all of them (default: 1)',
    )
    parser.add_argument(
        '--tiles',
        choices=TILE_SETS,
        help='tile candidates: powers of two as in the paper, or also exact '
        "divisors (default: what the device's file says)",
    )


def add_network(parser: argparse.ArgumentParser, granularity: str | None = USUAL) -> None:
    parser.add_argument(
        '--network',
        default='resnet101',
        metavar='NAME',
        help=f'{", ".join(NETWORK_NAMES)}, or a .yaml/.json file (default: %(default)s)',
    )
    parser.add_argument(
        '--input-size',
        metavar='HxW',
        help='image size, such as 800x1344 (default: 224, of ResNets for CIFAR 32)',
    )
    parser.add_argument(
        '--granularity',
        default=granularity,
        metavar='S_NET',
        help="one S per stage like 4-4-7-1, or 'all' for whole blocks (default: %(default)s; "
        f'usual is {usual_granularity("")}, where there are other than four stages another)',
    )
    parser.add_argument(
        '--mode',
        choices=MODES,
        default='spatial',
        help='what is skipped: patches, whole blocks, channels, patches and channels; of '
        'transformers tokens, attention and MLP, heads, all of them (default: %(default)s)',
    )
    parser.add_argument(
        '--channel-groups',
        default=2,
        metavar='G_NET',
        help='channels per decision like 2-2-2-2, where channels are skipped '
        '(default: %(default)s in each stage)',
    )


def add_channel_rate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--channel-rate',
        type=float,
        metavar='C',
        help='share of inner channels that run (default: the activation rate)',
    )


def add_shares(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--shares',
        metavar='NAME=R,...',
        help=f'shares of single decisions instead of the rate, such as heads=.5; names are '
        f'{", ".join(SHARES)}',
    )


def shares(text: str | None) -> dict[str, float]:
    """'tokens=.5,heads=.8' as shares by name; {} of None."""
    found = {}
    for part in text.split(',') if text else ():
        name, equals, value = part.partition('=')
        if name not in SHARES or not equals:
            raise ValueError(
                f'--shares: got {part!r}; give NAME=R with a name of {", ".join(SHARES)}'
            )
        (found[name],) = numbers(value, '--shares')
    return found


def models(arguments: argparse.Namespace) -> list[LatencyModel]:
    """One LatencyModel per device asked for."""
    names = None if arguments.device == 'all' else arguments.device
    devices = load_devices(names)
    if not devices:
        raise ValueError("--device: got nothing; give at least one name, or 'all'")
    return [
        LatencyModel(d, arguments.precision, arguments.batch_size, arguments.tiles) for d in devices
    ]


def network(arguments: argparse.Namespace) -> NetworkSpec:
    """The network asked for."""
    size = None if arguments.input_size is None else input_size(arguments.input_size)
    granularity = arguments.granularity
    if granularity == USUAL:
        granularity = usual_granularity(arguments.network)
    found = build_network(arguments.network, size, granularity)
    if found.is_transformer:
        (token_patch,) = found.granularity
        return found.with_policies(POLICIES_OF[arguments.mode], int(token_patch or 1))
    if arguments.mode in ('spatial', 'joint'):
        chosen = found
    else:
        chosen = found.with_granularity('all' if arguments.mode == 'layer' else None)
    skips_channels = arguments.mode in ('channel', 'joint')
    return chosen.with_channel_groups(arguments.channel_groups) if skips_channels else chosen


def input_size(text: str) -> tuple[int, ...]:
    """'224' or '800x1344' as (height, width)."""
    parts = text.lower().split('x')
    if len(parts) not in (1, 2) or not all(part.isdigit() for part in parts):
        raise ValueError(f'--input-size: got {text!r}; give one like 224 or 800x1344')
    return tuple(int(part) for part in (parts * 2 if len(parts) == 1 else parts))


def numbers(text: str, option: str) -> list[float]:
    """'0.2,0.5' or 'start:stop:step' (stop included) as floats."""
    try:
        if ':' in text:
            start, stop, step = (float(part) for part in text.split(':'))
            if step <= 0:
                raise ValueError
            count = int((stop - start) / step + 1e-9) + 1
            return [round(start + i * step, 10) for i in range(count)]
        return [float(part) for part in text.split(',')]
    except ValueError:
        raise ValueError(
            f'{option}: got {text!r}; give numbers like 0.2,0.5 or start:stop:step'
        ) from None
