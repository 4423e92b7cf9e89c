"""Networks of the authors' simulator: milliseconds per image, as they evaluate them."""

from collections.abc import Callable, Sequence

from ..checks import check_rate, require_integer, require_one_of
from .blocks import Bottleneck, channel, layer, spatial, static
from .hardware import Hardware

# Quirk: stem, pooling and classifier are not counted.
DEPTHS = {'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3)}
# Images per forward that the authors evaluate each device with.
BATCHES = {'v100': 128, 'rtx3090': 128, 'rtx3060': 128, 'tx2': 1, 'nano': 1}
# Beyond it the masker of the first block would have no hidden channel.
LARGEST_GROUP = 4
MODES = ('static', 'spatial', 'layer', 'channel')


def blocks_of(network: str) -> list[tuple[int, Bottleneck]]:
    """(stage, block) of a ResNet at 224 x 224."""
    require_one_of('network', network, DEPTHS)
    found, inputs = [], 64
    for stage, depth in enumerate(DEPTHS[network]):
        width, size = 64 << stage, 56 >> stage
        for index in range(depth):
            stride = 2 if stage and not index else 1
            found.append((stage, Bottleneck(inputs, width, 4 * width, size, stride)))
            inputs = 4 * width
    return found


def released_ms(
    device: str,
    network: str,
    mode: str = 'static',
    rate: float = 1.0,
    grains: Sequence[int] = (1, 1, 1, 1),
) -> float:
    """Milliseconds per image of a network on a device, as the authors' released code gives them.

    Args:
        device: One of ``BATCHES``.
        network: One of ``DEPTHS``.
        mode: One of ``MODES``: what is skipped.
        rate: Share of the patches, layers or channels that run.
        grains: Of each stage, S where patches are skipped, channels per group where channels are.

    Raises:
        ValueError: If an argument is not one of the allowed ones.
    """
    require_one_of('device', device, BATCHES)
    require_one_of('mode', mode, MODES)
    share = float(check_rate('rate', rate))
    if len(grains) != 4:
        raise ValueError(f'grains: got {tuple(grains)!r}; give one for each of four stages')
    for grain in grains:
        require_integer('grains', grain, 1)
    if mode == 'channel' and max(grains) > LARGEST_GROUP:
        raise ValueError(f'grains: got {max(grains)}; give at most {LARGEST_GROUP} per group')
    hardware, batch = Hardware.of(device), BATCHES[device]
    run: dict[str, Callable[[Bottleneck, int], float]] = {
        'static': lambda block, _: static(hardware, block, batch),
        'layer': lambda block, _: layer(hardware, block, share, batch),
        'channel': lambda block, group: channel(hardware, block, share, group, batch),
        'spatial': lambda block, size: spatial(hardware, block, share, size, batch),
    }
    known: dict[tuple[int, Bottleneck], float] = {}
    total = 0.0
    for stage, block in blocks_of(network):
        if (stage, block) not in known:
            known[stage, block] = run[mode](block, grains[stage])
        total += known[stage, block]
    return 1e3 * total / batch
