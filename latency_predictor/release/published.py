"""LAUDNet's main figure: accuracy over latency, read off it (top-1 to 0.02, x to 0.5 %)."""

import functools
from dataclasses import dataclass

import numpy as np

from ..macs import network_macs, rate_for_macs_ratio
from ..network import NetworkSpec
from ..networks import build_network
from ..spec import WHOLE
from .networks import released_ms


@dataclass(frozen=True)
class Line:
    """One line of the figure.

    Attributes:
        label: As in the figure.
        family: ``'ResNet'``, ``'RegNetY'`` or ``'T2T-ViT-19'``.
        top1: Top-1 accuracy of each point, %.
        latency_ms: Milliseconds per image of each point, by device.
        gmacs: G multiply-accumulates of each point.
        run: Network and mode of :func:`~latency_predictor.release.released_ms`, if it has them.
        rates: Of each point, where they are printed.
    """

    label: str
    family: str
    top1: tuple[float, ...]
    latency_ms: dict[str, tuple[float, ...]]
    gmacs: tuple[float, ...] = ()
    run: tuple[str, str] | None = None
    rates: tuple[float, ...] = ()


def _line(
    label: str,
    family: str,
    top1: str,
    gmacs: str = '',
    run: str = '',
    rates: str = '',
    **devices: str,
) -> Line:
    def numbers(text: str) -> tuple[float, ...]:
        return tuple(float(part) for part in text.split())

    latency = {device: numbers(text) for device, text in devices.items()}
    network, _, mode = run.partition(' ')
    both = (network, mode) if run else None
    return Line(label, family, numbers(top1), latency, numbers(gmacs), both, numbers(rates))


LINES = (
    _line('ResNet-50', 'ResNet', '76.14', '4.10', 'resnet50 static', tx2='17.23', v100='.908'),
    _line('ResNet-101', 'ResNet', '77.81', '7.80', 'resnet101 static', tx2='32.24', v100='1.677'),
    _line(
        'LAUD-s R50 4-4-2-1',
        'ResNet',
        '76.64 77.10 77.48',
        '2.26 2.66 2.98',
        'resnet50 spatial',
        tx2='11.2 12.5 13.8',
        v100='.733 .837 .917',
    ),
    _line(
        'LAUD-c R50 2222',
        'ResNet',
        '75.69 76.39 76.76 77.05 77.26',
        '1.55 1.92 2.31 2.77 3.29',
        'resnet50 channel',
        tx2='8.41 9.62 10.94 12.8 14.85',
        v100='.487 .55 .621 .712 .815',
    ),
    _line(
        'LAUD-l R50',
        'ResNet',
        '75.95 76.52 76.82 77.07 77.38',
        '2.24 2.49 2.66 3.00 3.26',
        'resnet50 layer',
        tx2='9.78 10.81 11.46 13.03 14.06',
        v100='.510 .565 .599 .686 .739',
    ),
    _line(
        'LAUD-s R101 4-4-2-1',
        'ResNet',
        '77.88 78.31 78.63 78.75',
        tx2='17.98 20.3 22.67 25.46',
        v100='1.134 1.290 1.451 1.645',
    ),
    _line(
        'LAUD-c R101 2222',
        'ResNet',
        '77.73 78.23 78.33 78.56',
        '2.86 3.64 4.41 5.23',
        'resnet101 channel',
        tx2='15.0 17.5 20.27 23.49',
        v100='.844 .979 1.120 1.285',
    ),
    _line(
        'LAUD-l R101',
        'ResNet',
        '77.76 78.11 78.42 78.58 78.61',
        '3.45 4.04 4.53 5.21 5.79',
        'resnet101 layer',
        tx2='15.07 17.52 19.47 22.50 24.74',
        v100='.787 .916 1.016 1.178 1.291',
    ),
    _line('DynConv R101', 'ResNet', '75.63 76.99 77.87 78.03', tx2='15.24 20.58 25.41 28.13'),
    _line('ConvNet-AIG R101', 'ResNet', '77.22 77.52', tx2='17.23 21.82', v100='.932 1.165'),
    _line(
        'RegNetY-400MF', 'RegNetY', '74.1', '.403', 'regnety_400mf static', tx2='3.65', nano='7.62'
    ),
    _line(
        'RegNetY-800MF', 'RegNetY', '76.3', '.835', 'regnety_800mf static', tx2='5.41', nano='12.53'
    ),
    _line(
        'LAUD-s 400MF 4-4-2-1',
        'RegNetY',
        '72.59 73.14 73.52',
        '.27 .29 .32',
        'regnety_400mf spatial',
        tx2='3.28 3.39 3.49',
        nano='6.57 6.85 7.16',
    ),
    _line(
        'LAUD-c 400MF 2222',
        'RegNetY',
        '71.99 72.81 73.56 74.03',
        '.21 .25 .29 .33',
        'regnety_400mf channel',
        tx2='3.18 3.37 3.56 3.76',
        nano='5.68 6.18 6.68 7.21',
    ),
    _line(
        'LAUD-l 400MF',
        'RegNetY',
        '72.48 73.20 73.63',
        '.27 .29 .32',
        'regnety_400mf layer',
        tx2='2.66 2.89 3.12',
        nano='5.53 5.99 6.45',
    ),
    _line(
        'LAUD-s 800MF 4-4-2-1',
        'RegNetY',
        '75.39 75.97 76.53',
        '.52 .57 .64',
        'regnety_800mf spatial',
        tx2='4.56 4.73 5.02',
        nano='9.95 10.48 11.21',
    ),
    _line(
        'LAUD-c 800MF 2222',
        'RegNetY',
        '75.34 76.06 76.46',
        '.44 .52 .60',
        'regnety_800mf channel',
        tx2='4.09 4.43 4.80',
        nano='8.28 9.17 10.16',
    ),
    _line(
        'LAUD-l 800MF',
        'RegNetY',
        '75.31 75.94 76.21',
        '.54 .59 .65',
        'regnety_800mf layer',
        tx2='3.79 4.08 4.45',
        nano='8.71 9.39 10.19',
    ),
    _line(
        'T2T-ViT-19',
        'T2T-ViT-19',
        '81.9',
        run='t2t_vit_19 static',
        rates='1',
        tx2='44.33',
        rtx3060='3.414',
        v100='2.203',
    ),
    _line(
        'LAUD-s T2T-ViT-19',
        'T2T-ViT-19',
        '81.04 81.12 81.24 81.36',
        run='t2t_vit_19 spatial',
        rates='.3 .4 .6 .7',
        tx2='25.02 28.31 33.25 35.28',
        rtx3060='1.737 1.927 2.364 2.591',
        v100='1.131 1.246 1.554 1.705',
    ),
    _line(
        'LAUD-c T2T-ViT-19',
        'T2T-ViT-19',
        '79.56 80.60 81.17 81.55',
        tx2='25.76 27.68 30.46 33.40',
        rtx3060='2.042 2.149 2.374 2.601',
        v100='1.279 1.360 1.507 1.653',
    ),
    _line(
        'LAUD-l T2T-ViT-19',
        'T2T-ViT-19',
        '79.95 80.92 81.64 81.98',
        tx2='19.69 23.84 27.96 32.11',
        rtx3060='1.555 1.867 2.176 2.486',
        v100='.991 1.192 1.396 1.599',
    ),
    _line(
        'LAUD-scl T2T-ViT-19',
        'T2T-ViT-19',
        '80.52 80.77 81.15 81.37',
        tx2='16.63 18.90 22.74 26.47',
        rtx3060='1.193 1.345 1.640 1.984',
        v100='.745 .863 1.054 1.291',
    ),
)
# S_net and G_net of the figure's dynamic networks that its labels name.
GRAINS = {'spatial': (4, 4, 2, 1), 'channel': (2, 2, 2, 2)}
PANELS = (
    *(('ResNet', 'tx2'), ('ResNet', 'v100'), ('RegNetY', 'tx2'), ('RegNetY', 'nano')),
    *(('T2T-ViT-19', 'tx2'), ('T2T-ViT-19', 'rtx3060'), ('T2T-ViT-19', 'v100')),
)

# G multiply-accumulates of the whole network as the authors count them, at rates 0, 1/2 and 1: with
# layers a line, with channels (G = 2) a parabola.
_GMACS = {
    ('resnet50', 'layer'): (0.4816, 2.2863, 4.0910),
    ('resnet101', 'layer'): (0.4817, 4.1425, 7.8033),
    ('resnet50', 'channel'): (0.4874, 1.8297, 4.0969),
    ('resnet101', 'channel'): (0.4912, 3.1983, 7.8129),
}


def rate_of(run: tuple[str, str], gmacs: float) -> float:
    """The rate, one for all blocks, at which a network computes so many MACs.

    Where the authors' count is not known at three rates, it is that of this package, for masks of
    independent patches: those of the figure were smoother, so that their rates were higher.
    """
    network, mode = run
    if mode == 'static':
        return 1.0
    if run not in _GMACS:
        spec = decided(build_network(network, head=True), mode)
        low, high = (network_macs(spec, rate).ratio for rate in (0.0, 1.0))
        target = gmacs * 1e9 / network_macs(spec).static
        return rate_for_macs_ratio(spec, min(max(target, low), high))
    grid = np.linspace(0, 1, 10001)
    curve = np.polyval(np.polyfit((0, 0.5, 1), _GMACS[run], 2), grid)
    return float(np.interp(gmacs, curve, grid))


def decided(network: NetworkSpec, mode: str) -> NetworkSpec:
    """A network that decides as those of the figure do in a mode."""
    if mode == 'channel':
        return network.with_channel_groups(GRAINS[mode])
    return network if mode == 'static' else network.with_granularity(GRAINS.get(mode, WHOLE))


def reproduced_ms(line: Line, device: str) -> tuple[float, ...]:
    """Latencies of a line's points, at the rates that their MACs imply; () if it has no run."""
    return () if line.run is None else _run_ms(line.run, line.gmacs, line.rates, device)


@functools.cache
def _run_ms(
    run: tuple[str, str], gmacs: tuple[float, ...], rates: tuple[float, ...], device: str
) -> tuple[float, ...]:
    network, mode = run
    grains = GRAINS.get(mode, (1, 1, 1, 1))
    solved = rates or [rate_of(run, count) for count in gmacs]
    return tuple(released_ms(device, network, mode, rate, grains) for rate in solved)
