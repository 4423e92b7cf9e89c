"""What makes a staged backbone dynamic, whichever framework the backbone comes from."""

from collections.abc import Sequence
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor, nn

from las_mm.accounting import NetworkCost, block_cost
from las_mm.executors import find_executor
from las_mm.executors.cpu.int8 import expect_ranges
from las_mm.layers import BlockTrace, DynamicBlock, Executor, check_channel_masker, conv_macs
from las_mm.ops import parse_granularity

from .checkpoint_fit import check_fit
from .framework_backbone import Backbone
from .layout import restore_layout
from .stem import STEM_LAYERS, StemLayer, size_after

Stage = Sequence[DynamicBlock]
Grains = int | str | None | Sequence[int | str | None]


class DynamicBackbone(Backbone):
    """Mixin for backbones whose stages consist of :class:`~las_mm.layers.DynamicBlock`.

    By default the stages are ``layer1``, ``layer2``, …, and what lies outside of them is a stem; a
    family built otherwise overrides :attr:`dynamic_stages`, :attr:`stem_layers` and
    :meth:`layers_after`. The traces of the last forward stay in :attr:`traces`, where losses, hooks
    and reports read them.
    """

    # All that comes before the first block where there is no deep stem, in order; () if something
    # else does, too, so that these layers must not run in one piece.
    stem_names: tuple[str, ...] = ('conv1', 'bn1', 'relu', 'maxpool')
    freeze_maskers: bool = False
    _executor: Executor[DynamicBlock] | None = None
    any_layout: bool = False  # whether outputs may be in channels-last memory, see restore_layout
    precision: torch.dtype | None = None  # in which blocks compute, None for that of the images
    input_size: tuple[int, int]

    def make_dynamic(
        self,
        granularity: Grains,
        executor: str | Executor[DynamicBlock] = 'dense',
        freeze_maskers: bool = False,
        masker: dict | None = None,
        channel_groups: Grains = None,
        channel_masker: dict | None = None,
    ) -> None:
        """Give every block its maskers.

        Args:
            granularity: S_net, one S per stage, as ``'4-4-7-1'`` or a sequence; ``'all'`` in the
                place of an S computes the blocks of that stage whole or not at all, None computes
                every pixel of them.
            executor: Executor of inference, see :mod:`las_mm.executors`.
            freeze_maskers: Whether frozen stages freeze their maskers, too.
            masker: Further arguments of every :class:`~las_mm.layers.SpatialMasker`.
            channel_groups: Channels per group of those that LAUDNet skips between the
                convolutions, one number per stage, as ``'2-2-2-2'`` or a sequence; None computes
                every channel.
            channel_masker: Further arguments of every :class:`~las_mm.layers.ChannelMasker`.

        Raises:
            TypeError, ValueError: If an argument is not one of the allowed ones.
        """
        stages = self.dynamic_stages
        self.granularity = parse_granularity(granularity, len(stages))
        self.channel_groups = parse_granularity(channel_groups, len(stages), 'channel_groups', ())
        if channel_masker is not None:
            if channel_groups is None:
                raise ValueError(
                    f'channel_masker: got {channel_masker!r} without channel_groups; give both'
                )
            check_channel_masker(**channel_masker)
        if not any(grain is not None for grain in (*self.granularity, *self.channel_groups)):
            raise ValueError(
                f'granularity: got {granularity!r} without channel_groups, which skips nothing; '
                "give patches such as '4-4-7-1', 'all', or channel_groups such as '2-2-2-2'"
            )
        names = {module: name for name, module in self.named_modules()}
        grains = zip(stages.values(), self.granularity, self.channel_groups, strict=True)
        for number, (stage, grain, group) in enumerate(grains):
            for block in stage:
                block.make_dynamic(
                    grain,
                    names[block],
                    number,
                    cast(int | None, group),
                    channel_masker,
                    **(masker or {}),
                )
        self.freeze_maskers = freeze_maskers
        self.executor = executor
        self.register_load_state_dict_pre_hook(expect_ranges)
        self.register_load_state_dict_pre_hook(check_fit)
        self.register_forward_hook(restore_layout)

    @property
    def dynamic_stages(self) -> dict[str, Stage]:
        """The stages, each a sequence of blocks, by their names in the state dict."""
        children = self.named_children()
        return {name: cast(Stage, stage) for name, stage in children if name.startswith('layer')}

    @property
    def title(self) -> str:
        """The network's name, for people."""
        return type(self).__name__

    @property
    def blocks(self) -> list[DynamicBlock]:
        """The blocks that can skip something, in order of execution; inside of any wrappers."""
        blocks = [part for part in self.modules() if isinstance(part, DynamicBlock)]
        return [block for block in blocks if not block.always_runs]

    @property
    def sequences(self) -> list[nn.Sequential]:
        """The stages that run their blocks one after another."""
        stages = cast(list[nn.Module], list(self.dynamic_stages.values()))
        return [stage for stage in stages if isinstance(stage, nn.Sequential)]

    @property
    def single_convs(self) -> list[nn.Module]:
        """mmcv's ConvModules outside of blocks, which inference runs in one piece where it can."""
        return []

    @property
    def traces(self) -> list[BlockTrace]:
        """What each block did in the last forward; empty before the first one."""
        traces = [block.trace for block in self.blocks]
        return [] if None in traces else cast(list[BlockTrace], traces)

    @property
    def executor(self) -> str:
        """Name of the executor of inference; training is always dense."""
        return 'dense' if self._executor is None else self._executor.name

    @executor.setter
    def executor(self, name: str | Executor[DynamicBlock]) -> None:
        self.hand_out(find_executor(name))

    def hand_out(self, executor: Executor[DynamicBlock] | None) -> Executor[DynamicBlock] | None:
        """Give all blocks an executor, None for their own dense forward; returns the one before."""
        before, self._executor = self._executor, executor
        for block in self.modules():
            if isinstance(block, DynamicBlock):
                block.executor = executor
        return before

    def set_temperature(self, temperature: float, noise: bool = True) -> None:
        """Set τ of every masker (Eq. 1), and whether training samples or decides as inference."""
        for masker in (masker for block in self.blocks for masker in block.maskers):
            masker.temperature, masker.noise = temperature, noise

    def cost(self, extra_macs: int = 0, traces: list[BlockTrace] | None = None) -> NetworkCost:
        """MACs for one image of the last forward's size.

        Args:
            extra_macs: What else belongs to the network, such as the classifier.
            traces: Of an earlier forward, instead of the last one.

        Raises:
            ValueError: If there was no forward yet.
        """
        traces = traces or self.traces
        if not traces:
            raise ValueError('traces: there are none before the first forward of the backbone')
        blocks = zip(self.blocks, traces, strict=True)
        return NetworkCost(self.fixed_macs() + extra_macs, tuple(block_cost(*b) for b in blocks))

    @property
    def stem_layers(self) -> list[StemLayer]:
        """Convolutions and pooling before the first block, in order, as they are now.

        What was made before the first stage is taken for what runs before it.
        """
        first = next(iter(self.dynamic_stages)).partition('.')[0]
        stem = takewhile(lambda child: child[0] != first, self.named_children())
        return [
            part for _, child in stem for part in child.modules() if isinstance(part, STEM_LAYERS)
        ]

    @property
    def stem_sizes(self) -> list[tuple[StemLayer, tuple[int, int]]]:
        """The layers of the stem, each with the (H, W) of its output in the last forward."""
        size, sizes = self.input_size, []
        for layer in self.stem_layers:
            size = size_after(layer, size)
            sizes.append((layer, size))
        return sizes

    def layers_after(self, stage: int) -> list[StemLayer]:
        """Convolutions and pooling between a stage, counted from 0, and the next one."""
        return []

    def fixed_macs(self) -> int:
        """MACs outside of the blocks for one image of the last forward's size."""
        layers = self.stem_sizes
        for index, stage in enumerate(self.dynamic_stages.values()):
            size = cast(BlockTrace, stage[-1].trace).size
            for layer in self.layers_after(index):
                size = size_after(layer, size)
                layers.append((layer, size))
        return sum(conv_macs(layer, size) for layer, size in layers if isinstance(layer, nn.Conv2d))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The framework's forward on images (N, 3, H, W); remembers (H, W) for :meth:`cost`."""
        height, width = x.shape[-2:]
        if torch.jit.is_tracing():  # which makes tensors of sizes, and asks for properties later
            height, width = int(height), int(width)
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
                for masker in block.maskers if isinstance(block, DynamicBlock) else ():
                    masker.requires_grad_(True).train(self.training)


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


def dynamic_backbones(model: nn.Module) -> dict[str, DynamicBackbone]:
    """The dynamic backbones inside a detector, a classifier or a wrapper of one, by their names.

    Raises:
        ValueError: If there is none.
    """
    modules = model.named_modules()
    found = {name: module for name, module in modules if isinstance(module, DynamicBackbone)}
    if not found:
        raise ValueError(
            f'model: {type(model).__name__} has no dynamic backbone; '
            "use backbone=dict(type='LASResNet', granularity='4-4-7-1', ...)"
        )
    return found


def find_backbone(model: nn.Module, name: str | None = None) -> DynamicBackbone:
    """The dynamic backbone that predicts in a detector, a classifier or a wrapper of one.

    Of the two of mmdet's semi-supervised detectors it is that of the network which their
    ``semi_test_cfg`` lets predict.

    Args:
        model: The model.
        name: Its name in the model, such as ``'student.backbone'``, where there are several.

    Raises:
        ValueError: If there is none, none of that name, or several and no name.
    """
    found = dynamic_backbones(model)
    if name is not None:
        if name not in found:
            raise ValueError(f'backbone: got {name!r}; choose one of {", ".join(found)}')
        return found[name]
    if len(found) > 1:
        for part in model.modules():
            if hasattr(part, 'semi_test_cfg') and hasattr(part, 'student'):
                options = cast(dict, part.semi_test_cfg or {})
                return find_backbone(getattr(part, options.get('predict_on', 'teacher')))
        raise ValueError(
            f'model: {type(model).__name__} has several dynamic backbones; choose one of '
            f"{', '.join(found)}, as backbone='{next(iter(found))}' of the hook"
        )
    return next(iter(found.values()))


def classifier_macs(model: nn.Module) -> int:
    """MACs of a classifier's linear layers for one image; 0 for a detector (Sec. 4.3).

    Of a wrapper, such as that of test-time augmentation, it is the model inside that counts.
    """
    while not hasattr(model, 'head') and isinstance(getattr(model, 'module', None), nn.Module):
        model = cast(nn.Module, model.module)
    head = getattr(model, 'head', None)
    layers = head.modules() if head is not None else ()
    return sum(layer.weight.numel() for layer in layers if isinstance(layer, nn.Linear))
