"""Networks of the authors' simulator: milliseconds per image, as they evaluate them."""

from collections.abc import Callable, Sequence

from ..checks import check_rate, require_integer, require_one_of
from ..networks import build_network
from .blocks import Bottleneck, channel, layer, spatial, static
from .hardware import Hardware
from .transformers import TRANSFORMERS, Shares
from .transformers import network as transformer

# Quirk: stem, pooling and classifier are not counted.
DEPTHS = {'resnet50': (3, 4, 6, 3), 'resnet101': (3, 4, 23, 3)}
CONVOLUTIONAL = (*DEPTHS, 'regnety_400mf', 'regnety_800mf')
NETWORKS = (*CONVOLUTIONAL, *TRANSFORMERS)
# Images per forward that the authors evaluate each device with.
BATCHES = {'v100': 128, 'rtx3090': 128, 'rtx3060': 128, 'tx2': 1, 'nano': 1}
# Beyond it the masker of the first block would have no hidden channel.
LARGEST_GROUP = 4
MODES = ('static', 'spatial', 'layer', 'channel', 'joint')

# What a mode skips of a transformer.
_SKIPPED = {
    'static': (),
    'spatial': ('tokens',),
    'layer': ('blocks',),
    'channel': ('heads',),
    'joint': ('tokens', 'blocks', 'heads'),
}


def blocks_of(network: str) -> list[tuple[int, Bottleneck]]:
    """(stage, block) of a network at 224 x 224."""
    require_one_of('network', network, CONVOLUTIONAL)
    return _resnet(DEPTHS[network]) if network in DEPTHS else _regnety(network)


def _resnet(depths: Sequence[int]) -> list[tuple[int, Bottleneck]]:
    found, inputs = [], 64
    for stage, depth in enumerate(depths):
        width, size = 64 << stage, 56 >> stage
        for index in range(depth):
            stride = 2 if stage and not index else 1
            found.append((stage, Bottleneck(inputs, width, 4 * width, size, stride)))
            inputs = 4 * width
    return found


def _regnety(network: str) -> list[tuple[int, Bottleneck]]:
    return [
        (
            block.stage,
            Bottleneck(
                block.in_channels,
                block.inner_channels,
                block.out_channels,
                block.height,
                block.stride,
                block.reader.groups,
                sum(layer.squeeze for layer in block.layers),
            ),
        )
        for block in build_network(network).conv_blocks
    ]


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
        network: One of ``NETWORKS``.
        mode: One of ``MODES``: what is skipped; of a transformer, tokens, blocks, heads or, where
            joint, all of these, which a convolutional network cannot.
        rate: Share of the patches, layers or channels that run.
        grains: Of each stage, S where patches are skipped, channels per group where channels are;
            a transformer has none.

    Raises:
        ValueError: If an argument is not one of the allowed ones.
    """
    require_one_of('device', device, BATCHES)
    require_one_of('network', network, NETWORKS)
    is_transformer = network in TRANSFORMERS
    require_one_of('mode', mode, MODES if is_transformer else MODES[:-1])
    share = float(check_rate('rate', rate))
    hardware, batch = Hardware.of(device), BATCHES[device]
    if is_transformer:
        shares = Shares(**dict.fromkeys(_SKIPPED[mode], share))
        return 1e3 * transformer(hardware, TRANSFORMERS[network], batch, shares) / batch
    if len(grains) != 4:
        raise ValueError(f'grains: got {tuple(grains)!r}; give one for each of four stages')
    for grain in grains:
        require_integer('grains', grain, 1)
    if mode == 'channel' and max(grains) > LARGEST_GROUP:
        raise ValueError(f'grains: got {max(grains)}; give at most {LARGEST_GROUP} per group')
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
