"""Plain description of layers and blocks: what the latency model needs to know and nothing more.

A block is a list of layers, a layer names the shares that it runs at, and what the block decides
gives a share. Everything is a frozen dataclass of numbers and strings.
"""

import dataclasses
from dataclasses import dataclass
from math import prod

from .checks import is_integer, require_integer, require_one_of

# Names of shares: of pixels that the next layer reads, of pixels, of inner channels, of images.
DILATED, SITES, CHANNELS, BRANCH = _CONV_SHARES = ('dilated', 'sites', 'channels', 'branch')
# Of encoder layers: of tokens, of heads, of images whose attention or MLP runs.
TOKENS, HEADS, ATTENTION, MLP = _ENCODER_SHARES = ('tokens', 'heads', 'attention', 'mlp')
SHARES = (*_CONV_SHARES, *_ENCODER_SHARES)
LAYER_KINDS = ('conv', 'max_pool', 'avg_pool', 'fc', 'gate', 'concat', 'norm', 'unfold')
JOINS = ('add', 'concat', 'none')
MASKERS = ('pool', 'squeeze')
WHOLE = 'all'  # a granularity: the block runs for an image or it does not

Size = tuple[int, int]  # height and width


@dataclass(frozen=True)
class LayerSpec:
    """One operator of a block, of a stem or of a head.

    Attributes:
        kind: ``'conv'``, ``'max_pool'``, ``'avg_pool'``, ``'fc'`` (height = width = 1),
            ``'gate'`` (squeeze-and-excitation), ``'concat'`` (a copy of several maps into one,
            with whatever is done to each element on the way), ``'norm'`` (a layer norm of each
            token of a grid) or ``'unfold'`` (windows of a map, one beside the other).
        in_channels: C_in.
        out_channels: C_out.
        height: Of the *output* map.
        width: Of the output map.
        kernel: Edge of the window.
        stride: As in a convolution.
        groups: As in a convolution.
        dilation: As in a convolution.
        name: Unique within a block, such as ``conv1``.
        runs_at: Names of the shares that its work is multiplied by wherever the block decides on
            them, see ``SHARES``; () for what always runs. ``'channels'`` stands once for each side,
            inputs and outputs, that has inner channels.
        squeeze: Channels inside a gate.
    """

    kind: str
    in_channels: int
    out_channels: int
    height: int = 1
    width: int = 1
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    name: str = ''
    runs_at: tuple[str, ...] = ()
    squeeze: int = 0

    def __post_init__(self) -> None:
        owner = f'layer {self.name or self.kind!r}'
        require_one_of(f'{owner}, kind', self.kind, LAYER_KINDS)
        for field in ('in_channels', 'out_channels', 'height', 'width', 'kernel', 'stride'):
            require_integer(f'{owner}, {field}', getattr(self, field), 1)
        for field in ('groups', 'dilation'):
            require_integer(f'{owner}, {field}', getattr(self, field), 1)
        require_integer(f'{owner}, squeeze', self.squeeze, int(self.kind == 'gate'))
        for field in ('in_channels', 'out_channels'):
            if getattr(self, field) % self.groups:
                raise ValueError(
                    f'{owner}, groups: got {self.groups}; give a divisor of {field} = '
                    f'{getattr(self, field)}'
                )
        for name in self.runs_at:
            require_one_of(f'{owner}, runs_at', name, SHARES)
        object.__setattr__(self, 'runs_at', tuple(self.runs_at))

    @property
    def size(self) -> Size:
        """(height, width) of the output."""
        return self.height, self.width

    @property
    def is_depthwise(self) -> bool:
        """Whether each output channel has an input channel of its own."""
        return 1 < self.groups == self.in_channels == self.out_channels

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image; copies and pooling count none."""
        if self.kind == 'gate':
            return 2 * self.in_channels * self.squeeze
        if self.kind not in ('conv', 'fc'):
            return 0
        per_output = self.in_channels // self.groups * self.kernel**2
        return per_output * self.out_channels * self.height * self.width


@dataclass(frozen=True)
class BlockSpec:
    """One residual or dense block, static or dynamic. ``blocks.py`` builds the usual ones.

    Attributes:
        name: Unique within the network, such as ``layer1.0``.
        stage: From 0; blocks of one stage share a feature size and a granularity.
        layers: In order of execution. At most one runs at ``'dilated'``: the one before that whose
            window decides which pixels are read.
        input_size: (height, width) of the block's input.
        shortcut: What the input goes through beside the layers; always dense, () for the identity.
        join: ``'add'`` to the shortcut, ``'concat'`` where new features stand beside the old ones,
            so that skipped pixels of them are zero, or ``'none'`` where the result stands alone,
            so that no pixel of it can be skipped.
        granularity: S, edge of a patch in pixels of the output; ``'all'`` where the block runs for
            an image as a whole or not at all; None where it decides on neither.
        channel_group: Inner channels that share a decision; None where none are skipped.
        masker: What decides on patches: ``'pool'``, a 1x1 convolution of their means, or
            ``'squeeze'``, DynConv's 3x3 convolution and linear layer of the mean, for S = 1.
    """

    name: str
    stage: int
    layers: tuple[LayerSpec, ...]
    input_size: Size
    shortcut: tuple[LayerSpec, ...] = ()
    join: str = 'add'
    granularity: int | str | None = None
    channel_group: int | None = None
    masker: str = 'pool'

    def __post_init__(self) -> None:
        for field in ('layers', 'shortcut', 'input_size'):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        owner = f'block {self.name!r}'
        require_integer(f'{owner}, stage', self.stage, 0)
        require_one_of(f'{owner}, masker', self.masker, MASKERS)
        require_one_of(f'{owner}, join', self.join, JOINS)
        if not self.convs:
            raise ValueError(f'{owner}, layers: got no convolution; give at least one')
        if len(self.input_size) != 2 or not all(is_integer(e) and e > 0 for e in self.input_size):
            raise ValueError(f'{owner}, input_size: got {self.input_size!r}; give [height, width]')
        self._check_layers(owner)
        self._check_granularity(owner)
        self._check_channels(owner)

    @property
    def convs(self) -> tuple[LayerSpec, ...]:
        """The convolutions among the layers."""
        return tuple(layer for layer in self.layers if layer.kind == 'conv')

    @property
    def in_channels(self) -> int:
        """Channels of the block's input."""
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        """Channels of the last layer's output."""
        return self.layers[-1].out_channels

    @property
    def height(self) -> int:
        """Of the output."""
        return self.layers[-1].height

    @property
    def width(self) -> int:
        """Of the output."""
        return self.layers[-1].width

    @property
    def stride(self) -> int:
        """Stride of all layers together."""
        return prod(layer.stride for layer in self.convs)

    @property
    def dilated(self) -> LayerSpec | None:
        """The layer that runs at the pixels that :attr:`reader` reads; None if none does."""
        return next((layer for layer in self.layers if DILATED in layer.runs_at), None)

    @property
    def reader(self) -> LayerSpec:
        """The first layer that runs at active pixels alone: the window of its kernel is read."""
        return next((x for x in self.convs if SITES in x.runs_at), self.convs[-1])

    def source_of(self, layer: LayerSpec) -> Size:
        """(height, width) of a layer's input."""
        index = self.layers.index(layer)
        return self.layers[index - 1].size if index else self.input_size

    @property
    def decided(self) -> frozenset[str]:
        """Names of the shares that the block's decisions give."""
        names = {BRANCH} if self.granularity == WHOLE else set()
        if is_integer(self.granularity):
            names |= {SITES, DILATED}
        if self.channel_group is not None:
            names.add(CHANNELS)
        return frozenset(names)

    @property
    def patch(self) -> int:
        """S; of a block that does not decide on patches, the longer edge of its output."""
        whole = not isinstance(self.granularity, int)
        return max(self.height, self.width) if whole else int(self.granularity or 0)

    @property
    def grid(self) -> Size:
        """Rows and columns of patches; the last ones are cut where S does not divide the map."""
        return -(-self.height // self.patch), -(-self.width // self.patch)

    @property
    def inner_channels(self) -> int:
        """Channels that a decision on channels is about: the first convolution's outputs."""
        return self.convs[0].out_channels

    def with_granularity(self, granularity: int | str | None) -> 'BlockSpec':
        """The same block with another S, ``'all'`` or None."""
        return dataclasses.replace(self, granularity=granularity)

    def with_channel_group(self, channel_group: int | None) -> 'BlockSpec':
        """The same block with another number of channels per decision."""
        return dataclasses.replace(self, channel_group=channel_group)

    def static(self) -> 'BlockSpec':
        """The same block without decisions."""
        return dataclasses.replace(self, granularity=None, channel_group=None)

    def _check_layers(self, owner: str) -> None:
        for before, layer in zip(self.layers, self.layers[1:], strict=False):
            if layer.in_channels != before.out_channels:
                raise ValueError(
                    f'{owner}, layers: got {layer.in_channels} input channels of {layer.name!r}; '
                    f'give the {before.out_channels} that {before.name!r} puts out'
                )
        dilated = [index for index, x in enumerate(self.layers) if DILATED in x.runs_at]
        if len(dilated) > 1 or any(self.layers[i + 1 : i + 2] != (self.reader,) for i in dilated):
            raise ValueError(
                f"{owner}, layers: got 'dilated' in {len(dilated)} of them; give it to the one "
                "before the first that runs at 'sites' alone"
            )

    def _check_granularity(self, owner: str) -> None:
        if self.granularity is None:
            return
        field, largest = (
            f'{owner}, granularity: got {self.granularity!r}',
            max(self.layers[-1].size),
        )
        if self.join == 'none':
            raise ValueError(f'{field}; give None, without a shortcut no pixel can be skipped')
        if self.granularity == WHOLE:
            return
        if not is_integer(self.granularity) or not 1 <= int(self.granularity) <= largest:
            raise ValueError(
                f"{field}; give 'all' or an integer from 1 to {largest}, the longer edge of its "
                'output map'
            )
        for layer in self.convs[self.convs.index(self.reader) + 1 :]:
            if layer.kernel > 1 or layer.stride > 1:
                raise ValueError(
                    f'{field}; give None, its layer {layer.name} reads beyond the active pixels'
                )

    def _check_channels(self, owner: str) -> None:
        if self.channel_group is None:
            return
        field = f'{owner}, channel_group'
        require_integer(field, self.channel_group, 1)
        if not any(CHANNELS in layer.runs_at for layer in self.layers):
            raise ValueError(
                f'{field}: got {self.channel_group}; give None, no layer skips channels'
            )
        if self.inner_channels % self.channel_group:
            raise ValueError(
                f'{field}: got {self.channel_group}; give a divisor of its '
                f'{self.inner_channels} inner channels'
            )
