"""What is measured: single blocks at given activation rates, backbones at given FLOPs ratios."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean, median

import torch
from torch import Tensor, nn

from las_mm.executors import find_executor
from las_mm.inference import make_static, optimize_for_inference
from las_mm.inference.stage import InferenceStage
from las_mm.inference.stand_ins import stand_in
from las_mm.layers import DynamicBlock
from las_mm.models.backbone import DynamicBackbone
from las_mm.models.resnet_torch import TorchLASResNet
from las_mm.ops import conv_size

from .families import channels_and_stride, make_block
from .masks import decide_masks, make_mask
from .measure import interleave, ratio
from .static import static_variants


def block_flops_ratio(block: DynamicBlock, rate: float, dilated_rate: float) -> float:
    """conv1 at the dilated rate, the others at r; .235·r_dilated + .765·r for a ResNet's block."""
    first, *rest = [step.op.weight.numel() for step in block.branch.steps]
    return (first * dilated_rate + sum(rest) * rate) / (first + sum(rest))


@torch.inference_mode()
def measure_blocks(args) -> Iterator[dict]:
    """One record per stage, input size, granularity, kind of mask and activation rate.

    Blocks run as in a stage: some of the same shape in a row, each with weights and a mask of its
    own. Latencies are of one block.
    """
    for size in args.sizes:
        for stage in args.stages:
            channels, stride = channels_and_stride(args.family, stage)
            feature = conv_size(size, stride)
            x = torch.randn(args.batch, channels, *feature).relu_().to(getattr(torch, args.dtype))
            x = x.contiguous(memory_format=torch.channels_last)
            for granularity in args.granularity:
                if granularity <= max(feature):
                    blocks = [
                        make_block(args.family, stage, granularity) for _ in range(args.length)
                    ]
                    row = nn.Sequential(*blocks).eval()
                    yield from _measure_blocks(row, x, size, stage, args)


def in_place(blocks: nn.Sequential, x: Tensor) -> Callable[[], Tensor]:
    """Run the blocks as part of an optimized stage, on a feature of their own."""
    stand_in(blocks, InferenceStage)
    features = x.clone(memory_format=torch.preserve_format)
    return lambda: blocks(features, private=True)


def _measure_blocks(blocks: nn.Sequential, x, size, stage, args) -> Iterator[dict]:
    static = copy.deepcopy(blocks)
    for block in static:
        block.make_static()
    # PyTorch's variants run in single precision whatever ours do: the best fp32 static is the bar.
    variants = static_variants(static, x.float(), args.variants)
    pytorch = list(variants)
    own, executor = copy.deepcopy(static), find_executor('cpu')
    for block in own:
        block.executor = executor
    variants['own static'] = in_place(own, x)
    dynamic = {}
    for masks in args.masks:
        for rate in args.rates:
            twins, executor = copy.deepcopy(blocks), find_executor(args.executor)
            for seed, twin in enumerate(twins):
                twin.executor = executor
                grid = conv_size(x.shape[-2:], twin.masker.granularity)
                twin.masker.decided = make_mask(grid, rate, seed, masks == 'smooth')
            name = f'{masks} {rate}'
            variants[name] = in_place(twins, x)
            dynamic[name] = (twins, masks)
    times = interleave(variants, args.rounds)
    for name, (twins, masks) in dynamic.items():
        rates = [float(twin.trace.activation_rate.mean()) for twin in twins]
        dilated = [float(twin.trace.dilated_rate.mean()) for twin in twins]
        yield {
            'size': 'x'.join(map(str, size)),
            'stage': stage,
            'granularity': twins[0].masker.granularity,
            'masks': masks,
            'rate': mean(rates),
            'dilated_rate': mean(dilated),
            'flops': block_flops_ratio(twins[0], mean(rates), mean(dilated)),
            'milliseconds': {
                other: median(values) / len(twins)
                for other, values in times.items()
                if other not in dynamic or other == name
            },
            'to_pytorch': ratio(times, name, pytorch) if pytorch else None,
            'to_own': ratio(times, name, ['own static']),
            'to_best': ratio(times, name, [*pytorch, 'own static']),
        }


@torch.inference_mode()
def measure_networks(args) -> Iterator[dict]:
    """One record per backbone, input size, batch size, kind of mask and FLOPs ratio."""
    for title, make in _backbones(args).items():
        for size in args.sizes:
            for batch in args.batches:
                net, x = make().eval(), torch.randn(batch, 3, *size)
                net(x)
                yield from _measure_network(
                    net,
                    x,
                    args,
                    {
                        'network': f'{title} {_s_net(net)}'.strip(),
                        'size': 'x'.join(map(str, size)),
                        'batch': batch,
                    },
                )


def _s_net(net: DynamicBackbone) -> str:
    """Its granularity; nothing where it does not decide on patches."""
    return '-'.join(map(str, net.granularity)) if any(net.granularity) else ''


def _backbones(args) -> dict[str, Callable[[], DynamicBackbone]]:
    backbones = {
        f'LAS-R{depth}': partial(TorchLASResNet, depth, args.granularity) for depth in args.depths
    }
    if args.channel_groups:
        for depth in args.depths:
            backbones[f'LAUD-R{depth} channels {args.channel_groups}'] = partial(
                TorchLASResNet, depth, None, channel_groups=args.channel_groups
            )
    if args.regnets:
        from las_mm.models.regnet_mmpretrain import LASRegNet

        for arch in args.regnets:
            backbones[f'LAS-{arch}'] = partial(
                LASRegNet, arch, args.granularity, out_indices=(0, 1, 2, 3)
            )
    if args.mobilenets:
        from las_mm.models.mobilenet_mmpretrain import LASMobileNetV2

        for width in args.mobilenets:
            backbones[f'LAS-MobileNetV2-{width:g}'] = partial(
                LASMobileNetV2, width, args.granularity
            )
    return backbones


def _measure_network(net, x, args, labels: dict) -> Iterator[dict]:
    variants = static_variants(make_static(net), x, args.variants)
    pytorch = list(variants)
    own = optimize_for_inference(make_static(net))
    variants['own static'] = lambda: own(x)
    reached = {}
    for masks in args.masks:
        for target in args.ratios:
            twin, name = copy.deepcopy(net), f'{masks} {target}'
            twin(x)
            reached[name] = masks, decide_masks(twin, target, masks == 'smooth')['macs_ratio']
            optimize_for_inference(twin, args.executor)
            variants[name] = lambda twin=twin: twin(x)
    times = interleave(variants, args.rounds)
    for name, (masks, flops) in reached.items():
        yield {
            **labels,
            'masks': masks,
            'flops': flops,
            'milliseconds': {
                other: median(values)
                for other, values in times.items()
                if other not in reached or other == name
            },
            'to_pytorch': ratio(times, name, pytorch) if pytorch else None,
            'to_own': ratio(times, name, ['own static']),
            'to_best': ratio(times, name, [*pytorch, 'own static']),
        }
