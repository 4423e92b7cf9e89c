"""What makes a staged backbone dynamic, whichever framework the backbone comes from."""

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from las_mm.accounting import NetworkCost, block_cost, conv_macs
from las_mm.layers import BlockTrace, DynamicBlock
from las_mm.ops import conv_size, parse_granularity
from las_mm.ops.executors import check_executor

from .fitting import check_fit
from .framework_backbone import Backbone

Stage = Sequence[DynamicBlock]


class DynamicBackbone(Backbone):
    """Mixin for backbones whose stages consist of :class:`DynamicBlock`.

    By default the stages are ``layer1``, ``layer2``, …, and what lies outside of them is a stem; a
    family built otherwise overrides :attr:`dynamic_stages`, :attr:`stem_layers` and
    :meth:`fixed_macs`. The traces of the last forward stay in :attr:`traces`, where losses, hooks
    and reports read them.
    """

    # All that comes before the first block where there is no deep stem, in order; () if something
    # else does, too, so that these layers must not run in one piece.
    stem_names: tuple[str, ...] = ('conv1', 'bn1', 'relu', 'maxpool')
    freeze_maskers: bool = False
    input_size: tuple[int, int]

    def make_dynamic(
        self,
        granularity: str | Sequence[int],
        executor: str = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
    ) -> None:
        """Give every block its masker.

        Args:
            granularity: S_net, one S per stage, as ``'4-4-7-1'`` or a sequence of integers.
            executor: Executor of inference, see :mod:`las_mm.ops.executors`.
            freeze_maskers: Whether frozen stages freeze their maskers, too.
            masker: Further arguments of every :class:`~las_mm.layers.Masker`.

        Raises:
            TypeError, ValueError: If an argument is not one of the allowed ones.
        """
        stages = self.dynamic_stages
        self.granularity = parse_granularity(granularity, len(stages))
        for (name, stage), size in zip(stages.items(), self.granularity, strict=True):
            for index, block in enumerate(stage):
                block.make_dynamic(size, name=f'{name}.{index}', **(masker or {}))
        self.freeze_maskers = freeze_maskers
        self.executor = executor
        self.register_load_state_dict_pre_hook(check_fit)

    @property
    def dynamic_stages(self) -> dict[str, Stage]:
        """The stages, each a sequence of blocks, by their names in the state dict."""
        children = self.named_children()
        return {name: cast(Stage, stage) for name, stage in children if name.startswith('layer')}

    @property
    def title(self) -> str:
        """The network's name, for people."""
        return f'LAS-ResNet-{self.depth}'

    @property
    def blocks(self) -> list[DynamicBlock]:
        """The dynamic blocks, in order of execution."""
        return [block for block in self.modules() if isinstance(block, DynamicBlock)]

    @property
    def traces(self) -> list[BlockTrace]:
        """What each block did in the last forward.

        Raises:
            ValueError: If there was no forward yet.
        """
        blocks = self.blocks
        traces = [trace for block in blocks if (trace := block.trace) is not None]
        if len(traces) < len(blocks):
            raise ValueError('traces: there are none before the first forward of the backbone')
        return traces

    @property
    def executor(self) -> str:
        """Executor of inference; training is always dense."""
        return self._executor

    @executor.setter
    def executor(self, name: str) -> None:
        self._executor = check_executor(name)
        for block in self.blocks:
            block.executor = name

    def set_temperature(self, temperature: float, noise: bool = True) -> None:
        """Set τ of every masker (Eq. 1), and whether training samples or decides as inference."""
        for block in self.blocks:
            block.masker.temperature, block.masker.noise = temperature, noise

    def cost(self, extra_macs: int = 0) -> NetworkCost:
        """MACs for one image of the last forward's size.

        Args:
            extra_macs: What else belongs to the network, such as the classifier.
        """
        blocks = zip(self.blocks, self.traces, strict=True)
        return NetworkCost(self.fixed_macs() + extra_macs, tuple(block_cost(*b) for b in blocks))

    @property
    def stem_layers(self) -> list[nn.Conv2d | nn.MaxPool2d]:
        """Convolutions and pooling before the first block, in order."""
        stem = self.stem if getattr(self, 'deep_stem', False) else self.conv1
        layers: list[nn.Conv2d | nn.MaxPool2d]
        layers = [module for module in stem.modules() if isinstance(module, nn.Conv2d)]
        return [*layers, self.maxpool] if hasattr(self, 'maxpool') else layers

    def fixed_macs(self) -> int:
        """MACs outside of the blocks for one image of the last forward's size: the stem's."""
        macs, size = 0, self.input_size
        for layer in self.stem_layers:
            if isinstance(layer, nn.Conv2d):
                size = conv_size(size, layer.stride[0])
                macs += conv_macs(layer, size)
            else:
                size = conv_size(size, cast(int, layer.stride))
        return macs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The framework's forward on images (N, 3, H, W); remembers (H, W) for :meth:`cost`."""
        height, width = x.shape[-2:]
        self.input_size = height, width
        return super().forward(x)

    def train(self, mode: bool = True) -> 'DynamicBackbone':
        """The framework's, which need not return the module as torch's does."""
        super().train(mode)
        return self

    def _freeze_stages(self) -> None:
        """Freeze as the framework does, but let maskers of frozen stages learn on request."""
        super()._freeze_stages()
        if self.freeze_maskers:
            return
        for stage in list(self.dynamic_stages.values())[: max(self.frozen_stages, 0)]:
            for block in stage:
                if hasattr(block, 'masker'):
                    block.masker.requires_grad_(True).train(self.training)


def refuse_options(options: dict, *names: str) -> None:
    """Refuse options of a framework's backbone that put more than convolutions into its blocks.

    Raises:
        ValueError: If one of them is given.
    """
    for name in names:
        if options.get(name) is not None:
            raise ValueError(
                f'{name}: got {options[name]!r}; a dynamic block has plain convolutions only, '
                f'leave {name} out'
            )


def find_backbone(model: nn.Module) -> DynamicBackbone:
    """The dynamic backbone inside a detector, a classifier or a wrapper of one.

    Raises:
        ValueError: If there is none.
    """
    for module in model.modules():
        if isinstance(module, DynamicBackbone):
            return module
    raise ValueError(
        f'model: {type(model).__name__} has no dynamic backbone; '
        "use backbone=dict(type='LASResNet', granularity='4-4-7-1', ...)"
    )


def classifier_macs(model: nn.Module) -> int:
    """MACs of a classifier's linear layers for one image; 0 for a detector (Sec. 4.3)."""
    head = getattr(model, 'head', None)
    layers = head.modules() if head is not None else ()
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
