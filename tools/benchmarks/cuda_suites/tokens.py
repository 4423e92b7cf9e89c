"""Dynamic vision transformers: right against float64, and dynamic against static ones."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from benchmark_transformers import CASES as SHARES
from benchmark_transformers import replay
from mmpretrain.models.backbones import VisionTransformer
from torch import Tensor, nn

from las_mm.executors.triton import Options, TritonExecutor
from las_mm.layers.encoder_branch import HEAD_MODES
from las_mm.models.transformer_mmpretrain import LASVisionTransformer
from las_mm.ops.cuda_graphs import capture

from .check import FLOAT32_BOUND, TIMES_CUDNN
from .setup import DTYPES, FLOAT32, Machine, Task, graphed, measure, ratio, set_precision

TINY = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
# (precision, batch) in the order of importance: time may run out.
CASES = (('fp16', 1), ('fp16', 64), ('fp32', 1), ('fp32', 64), ('bf16', 64))
COMPILED = ('tokens', 'joint')  # also by torch.compile, which takes long
PATCH = {False: 16, True: 8}  # pixels of a token, by whether it is a dry run
EDGE = {False: 224, True: 40}  # pixels of an image


def tasks(machine: Machine, results: dict) -> Iterator[Task]:
    """Every mode and precision against float64, then every case of shares."""
    precisions = ('fp32', 'fp16') if machine.dry else ('fp32', 'fp16', 'bf16')
    for mode in HEAD_MODES[:1] if machine.dry else HEAD_MODES:
        for precision in precisions:
            run = partial(check, machine, mode, precision)
            yield Task(f'against float64, {mode} {precision}', 5, run)
    for precision, batch in CASES[:1] if machine.dry else CASES:
        yield Task(f'{precision} batch {batch}', 60, partial(compare, machine, precision, batch))


def make_images(machine: Machine, batch: int, precision: str) -> Tensor:
    """Random images (N, 3, H, W)."""
    edge = EDGE[machine.dry]
    images = torch.rand(batch, 3, edge, edge, device=machine.device)
    return images.to(DTYPES[precision])


def make_network(machine: Machine, precision: str, **options: Any) -> LASVisionTransformer:
    """A dynamic DeiT-S in inference, whose maskers depend on the image."""
    torch.manual_seed(0)
    dry = machine.dry
    network = LASVisionTransformer(
        TINY if dry else 'deit-small', img_size=EDGE[dry], patch_size=PATCH[dry], **options
    )
    for name, module in network.named_modules():
        if name.endswith('_masker'):
            nn.init.normal_(module.mlp_head.weight)
            nn.init.zeros_(module.mlp_head.bias)
    return network.eval().to(machine.device, DTYPES[precision])


def captured(
    machine: Machine, network: nn.Module, example: Tensor
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """The network as a CUDA graph of its forward on the example; itself in a dry run."""
    if machine.dry:
        return network
    own = example.clone()
    graph, outs = capture(lambda: network(own))

    def run(images: Tensor) -> tuple[Tensor, ...]:
        own.copy_(images)
        graph.replay()
        return outs

    return run


@torch.no_grad()
def check(machine: Machine, mode: str, precision: str) -> Iterator[dict]:
    """A captured network on images that it has not seen, beside the dense one's own error."""
    set_precision(precision)
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills what is allocated with NaN
    failures, images = [], 3
    try:
        for with_mlp in (True, False):
            network = make_network(machine, precision, head_mode=mode, tokens_with_mlp=with_mlp)
            dense = copy.deepcopy(network)
            network.executor = TritonExecutor(Options(tune=False))
            first, *others = (make_images(machine, 2, precision) for _ in range(images))
            run = captured(machine, network, first)
            for x in others:
                fault = find_fault(run, network, dense, x, precision)
                failures += [f'tokens_with_mlp {with_mlp}: {fault}'] if fault else []
    finally:
        torch.use_deterministic_algorithms(False)
    yield {'checks': 2 * (images - 1), 'failures': failures}


def find_fault(
    run: Callable[[Tensor], tuple[Tensor, ...]],
    network: LASVisionTransformer,
    dense: LASVisionTransformer,
    x: Tensor,
    precision: str,
) -> str | None:
    """What is wrong with a network on images, None if nothing."""
    by_torch, out = dense(x)[0], run(x)[0]
    wanted, found = (
        [mask for block in net.blocks for mask in block.last[0]] for net in (dense, network)
    )
    if not all(map(torch.equal, found, wanted)):
        return 'other masks'
    exact = copy.deepcopy(dense).double()
    for own, block in zip(dense.blocks, exact.blocks, strict=True):
        for masker, mask in zip(block.maskers, own.last[0], strict=True):
            masker.decided = mask
    reference = exact(x.double())[0]
    scale = reference.abs().max()
    dense_error, error = (
        ((y.double() - reference).abs().max() / scale).nan_to_num(nan=float('inf')).item()
        for y in (by_torch, out)
    )
    bound = FLOAT32_BOUND if precision == 'fp32' else TIMES_CUDNN * dense_error
    return None if error <= bound else f'error {error:.2e}, allowed {bound:.2e}'


@torch.no_grad()
def compare(machine: Machine, precision: str, batch: int) -> Iterator[dict]:
    """Times of a dynamic network at shares of what it decides on, and of the static one."""
    set_precision(precision)
    images = make_images(machine, 2 if machine.dry else batch, precision)
    static = static_runs(machine, precision, images)
    for name, shares in SHARES.items():
        network = make_network(machine, precision, policies=tuple(shares))
        network.executor = TritonExecutor(Options(float32=FLOAT32[precision]))
        replay(network, shares, len(images), network.token_grid(tuple(images.shape[-2:])))
        network(images)
        cost = network.cost()
        macs = cost.dynamic([trace.shares for trace in network.traces])
        runs = {'dynamic': graphed(machine, partial(network, images))}
        if name in COMPILED and not machine.dry:
            with torch._dynamo.config.patch(recompile_limit=64):  # a graph for each layer
                compiled = torch.compile(network)
                runs['dynamic, torch.compile'] = graphed(machine, partial(compiled, images))
        times = measure(machine, static | runs)
        yield {
            'shares': name, 'macs': float(torch.as_tensor(macs).mean()) / cost.static,
            'ms': times, 'ratio': ratio(fastest(times, 'dynamic'), fastest(times, 'static')),
        }  # fmt: skip


def static_runs(
    machine: Machine, precision: str, images: Tensor
) -> dict[str, Callable[[], object]]:
    """The static DeiT-S with PyTorch's fused attention, as it is and compiled."""
    dry = machine.dry
    network = VisionTransformer(
        TINY if dry else 'deit-small', img_size=EDGE[dry], patch_size=PATCH[dry]
    )
    network.eval()  # returns nothing
    network.to(machine.device, DTYPES[precision])
    for part in network.modules():
        if hasattr(part, 'drop_prob'):  # a NumPy number, which would break its graph
            part.drop_prob = float(part.drop_prob)
    runs = {'static': graphed(machine, partial(network, images))}
    if not dry:
        with torch._inductor.config.patch(freezing=True):
            compiled = torch.compile(network, mode='max-autotune-no-cudagraphs')
            runs['static, torch.compile'] = graphed(machine, partial(compiled, images))
    return runs


def fastest(times: dict[str, float | None], kind: str) -> float | None:
    """The least time of a kind of network, None if there is none."""
    return min((ms for name, ms in times.items() if name.startswith(kind) and ms), default=None)
