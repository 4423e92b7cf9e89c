"""Commands ``devices``, ``block`` and ``network``."""

import argparse
import dataclasses
from collections.abc import Mapping

from numpy.typing import ArrayLike

from ..device import load_devices
from ..fusion import Fusion
from ..macs import network_macs, rate_for_macs_ratio
from ..model import LatencyModel
from ..network import AnyBlock, NetworkSpec
from ..report import load_report
from ..spec import DILATED, SHARES
from . import arguments as args
from .output import Answer, emit


def add_parsers(subparsers: argparse._SubParsersAction) -> None:
    devices = subparsers.add_parser('devices', help='list the devices and their constants')
    devices.add_argument('name', nargs='?', help='show every number of this device with its source')
    args.add_output(devices)
    devices.set_defaults(run=run_devices)

    block = subparsers.add_parser('block', help='one block, operator by operator')
    args.add_model(block)
    args.add_network(block)
    block.add_argument(
        '--block',
        default='layer1.1',
        metavar='NAME',
        help='block of the network (default: %(default)s)',
    )
    block.add_argument('--rate', type=float, default=0.5, help='activation rate r (default: 0.5)')
    block.add_argument('--dilated-rate', type=float, help='share of conv1 computed when unfused')
    args.add_channel_rate(block)
    args.add_shares(block)
    _add_fusion(block)
    args.add_output(block)
    block.set_defaults(run=run_block)

    network = subparsers.add_parser('network', help='a whole network on one or more devices')
    args.add_model(network)
    args.add_network(network)
    rates = network.add_mutually_exclusive_group()
    rates.add_argument('--rate', type=float, help='one activation rate for all blocks')
    rates.add_argument(
        '--macs-ratio',
        type=float,
        metavar='T',
        help='solve for the activation rate at which F_dyn / F_stat is T',
    )
    rates.add_argument(
        '--rates',
        metavar='FILE',
        help='latency_report.json of a test run; it gives the network and the rates of each block',
    )
    network.add_argument('--per-block', action='store_true', help='one row per block')
    args.add_channel_rate(network)
    args.add_shares(network)
    _add_fusion(network)
    args.add_output(network)
    network.set_defaults(run=run_network)


def _add_fusion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--masker-conv1',
        choices=('auto', 'fused', 'separate'),
        default='auto',
        help='auto fuses when r > r_th (default)',
    )
    parser.add_argument('--no-gather-conv2', action='store_true', help='gather in its own kernel')
    parser.add_argument('--no-scatter-add', action='store_true', help='scatter, then add')


def _fusion(arguments: argparse.Namespace) -> Fusion:
    choice = {'auto': None, 'fused': True, 'separate': False}[arguments.masker_conv1]
    return Fusion(choice, not arguments.no_gather_conv2, not arguments.no_scatter_add)


def run_devices(arguments: argparse.Namespace) -> None:
    rows: list[tuple]
    if arguments.name:
        (device,) = load_devices(arguments.name)
        entry = device.to_dict()
        rows = [
            (key, q['value'], q['unit'], q['source'])
            for key, q in entry.items()
            if key not in ('label', 'lanes')
        ]
        rows[2:2] = [
            (f'lanes, {p}', q['value'], q['unit'], q['source']) for p, q in entry['lanes'].items()
        ]
        answer = Answer(
            f'{device.name}: {device.label}', ('quantity', 'value', 'unit', 'source'), rows
        )
    else:
        rows = [
            (
                d.name,
                d.label,
                d.processing_engines,
                d.frequency,
                d.offchip_bandwidth,
                d.onchip_bandwidth,
                ' '.join(f'{p}:{v:g}' for p, v in d.lanes.items()),
                float(d.kernel_launch),
            )
            for d in load_devices()
        ]
        answer = Answer(
            'Devices',
            (
                'name',
                'label',
                'PE',
                'MHz',
                'off-chip GB/s',
                'on-chip GB/s',
                'MAC/cycle/PE',
                'launch us',
            ),
            rows,
        )
    emit(answer, arguments.form, arguments.output)


def run_block(arguments: argparse.Namespace) -> None:
    spec = args.network(arguments)
    found = [block for block in spec.blocks if block.name == arguments.block]
    if not found:
        raise ValueError(
            f'--block: got {arguments.block!r}; choose one of '
            f'{", ".join(b.name for b in spec.blocks)}'
        )
    if arguments.mode not in ('spatial', 'joint') and arguments.dilated_rate is not None:
        raise ValueError(
            f'--dilated-rate: got {arguments.dilated_rate:g}; leave it out in mode '
            f'{arguments.mode!r}, only masks of patches have one'
        )
    for model in args.models(arguments):
        emit(_block_answer(model, spec, found[0], arguments), arguments.form, arguments.output)


def _block_answer(
    model: LatencyModel, spec: NetworkSpec, block: AnyBlock, arguments: argparse.Namespace
) -> Answer:
    latency = model.block(block, _given_shares(arguments), _fusion(arguments))
    if latency.masker_fused is None:
        said = f'{arguments.mode} skipping, expected latency'
    else:
        said = f'masker {"fused into" if latency.masker_fused else "separate from"} conv1'
    rows: list[tuple] = [
        (o.name, o.total_us, o.data_us, o.compute_us, o.launch_us, 'x'.join(map(str, o.tile)))
        for o in latency.operators
    ]
    rows += [
        ('dynamic', latency.dynamic_us, None, None, None, None),
        ('static', latency.static_us, None, None, None, None),
    ]
    return Answer(
        f'{block.name} of {spec.name} on {model.device.name}, S = {block.granularity}, '
        f'r = {latency.activation_rate:g}',
        ('operator', 'total us', 'data us', 'compute us', 'launch us', 'tile PxCxHxW'),
        rows,
        (f'ratio r_l = {latency.ratio:.3f}; {said}',),
        {'block': dataclasses.asdict(latency), 'ratio': latency.ratio},
    )


def _given_shares(arguments: argparse.Namespace, rate: float | None = None) -> dict[str, float]:
    """The shares that the options give, by name."""
    rate = arguments.rate if rate is None else rate
    channels = rate if arguments.channel_rate is None else arguments.channel_rate
    shares = {'sites': rate, 'branch': rate, 'channels': channels}
    shares |= {'tokens': rate, 'heads': channels, 'attention': rate, 'mlp': rate}
    dilated = getattr(arguments, 'dilated_rate', None)
    shares |= {} if dilated is None else {'dilated': dilated}
    return shares | args.shares(arguments.shares)


def _measured_or_given(
    arguments: argparse.Namespace,
) -> tuple[NetworkSpec, Mapping[str, ArrayLike], str]:
    """Network and shares asked for, and a sentence on where they are from."""
    if arguments.shares and (arguments.rates or arguments.macs_ratio is not None):
        raise ValueError(
            f'--shares: got {arguments.shares!r} with --rates or --macs-ratio; give one of them'
        )
    if arguments.rates:
        measured = load_report(arguments.rates)
        mean = measured.activation_rates.mean()
        return measured.network, measured.shares, f'rates measured per block, mean r = {mean:.3f}'
    spec = args.network(arguments)
    if arguments.macs_ratio is not None:
        rate = rate_for_macs_ratio(spec, arguments.macs_ratio)
        said = f'r = {rate:.3f}, solved for F_dyn/F_stat = {arguments.macs_ratio}'
        return spec, dict.fromkeys((s for s in SHARES if s != DILATED), rate), said
    rate = 0.5 if arguments.rate is None else arguments.rate
    said = f'r = {rate:g} in every block'
    said += f', but {arguments.shares}' if arguments.shares else ''
    return spec, _given_shares(arguments, rate), said


def run_network(arguments: argparse.Namespace) -> None:
    spec, shares, said = _measured_or_given(arguments)
    results = [model.network(spec, shares, _fusion(arguments)) for model in args.models(arguments)]
    columns: tuple[str, ...]
    rows: list[tuple]
    if arguments.per_block:
        columns = ('device', 'block', 'r', 'static us', 'dynamic us', 'r_l', 'masker fused')
        rows = [
            (
                n.device,
                b.name,
                b.activation_rate,
                b.static_us,
                b.dynamic_us,
                b.ratio,
                b.masker_fused,
            )
            for n in results
            for b in n.blocks
        ]
    else:
        columns = ('device', 'static ms', 'dynamic ms', 'r_l', 'fused maskers')
        rows = [
            (
                n.device,
                n.static_ms,
                n.dynamic_ms,
                n.ratio,
                sum(bool(b.masker_fused) for b in n.blocks),
            )
            for n in results
        ]
    macs = network_macs(spec, shares)
    s_net = '-'.join('static' if s is None else str(s) for s in spec.granularity)
    emit(
        Answer(
            f'{spec.name} {spec.input_size[0]}x{spec.input_size[1]}, S_net = {s_net}, '
            f'{arguments.precision}, batch {arguments.batch_size}',
            columns,
            rows,
            (said, f'{macs.static / 1e9:.1f} G MACs static, F_dyn/F_stat = {macs.ratio:.3f}'),
            {'macs_static': macs.static, 'macs_dynamic': macs.dynamic},
        ),
        arguments.form,
        arguments.output,
    )
