#!/usr/bin/env python
"""Measure vision transformers that skip tokens, heads and blocks on a CPU, against static PyTorch.

Every row is the ratio of the medians of interleaved forwards: the dynamic network over the fastest
of the static one's, as it is and compiled. Decisions are replayed at random, the shares given.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
import torch._dynamo.config as dynamo
import torch._inductor.config as inductor
from benchmarking.token_merging import merge_tokens
from mmpretrain.models.backbones import T2T_ViT, VisionTransformer
from torch import Tensor, nn

from las_mm.layers import EncoderBlock
from las_mm.models.transformer_mmpretrain import LAST2T_ViT, LASVisionTransformer

NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[[], nn.Module]]] = {
    'deit_s': (
        lambda **options: LASVisionTransformer('deit-small', **options),
        lambda: VisionTransformer('deit-small'),
    ),
    't2t_vit_19': (
        lambda **options: LAST2T_ViT(19, **options),
        lambda: T2T_ViT(embed_dims=448, num_layers=19, layer_cfgs=dict(num_heads=7)),
    ),
}
CASES = {
    'tokens': dict(tokens=0.5),
    'heads': dict(heads=0.5),
    'blocks': dict(blocks=0.5),
    'joint': dict(tokens=0.7, heads=0.7, blocks=0.7),
    'all on': dict(tokens=1.0, heads=1.0, blocks=1.0),
}


def replay(
    network: nn.Module,
    shares: dict[str, float],
    images: int,
    grid: tuple[int, int] = (14, 14),
) -> None:
    """Let maskers decide at random, each image for itself, with exactly the shares given."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if not isinstance(layer, EncoderBlock):
            continue
        for masker in layer.maskers:
            shape = {
                'tokens': (images, 1, *grid),
                'heads': (images, layer.attn.num_heads),
                'blocks': (images, 2),
            }[masker.axis]
            order = torch.rand(shape, generator=generator).flatten(1).argsort(1).argsort(1)
            kept = round(shares[masker.axis] * order.shape[1])
            kind = dict(device=layer.attn.qkv.weight.device, dtype=masker.dtype)
            masker.decided = (order < kept).to(**kind).reshape(shape)


def medians(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each, one after the other in every round."""
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds + 2):
        for times, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    return [sorted(times[2:])[rounds // 2] for times in seconds]


def merged_share(network: nn.Module, reduction: int) -> float:
    """MACs of ToMe over those of the network, both without the embedding."""
    width, length, layers = network.embed_dims, 14 * 14 + 1, len(network.layers)
    macs = [0, 0]
    for way, less in enumerate((reduction, 0)):
        tokens = length
        for _ in range(layers):
            after = tokens - min(less, (tokens - 1) // 2)
            macs[way] += 4 * tokens * width**2 + 2 * tokens**2 * width + 8 * after * width**2
            tokens = after
    return macs[0] / macs[1]


def measure(
    name: str,
    batch: int,
    cases: Sequence[str],
    rounds: int,
    compiled: bool,
    executor: str,
    reduction: int,
) -> None:
    """Print one line a case."""
    make, make_static = NETWORKS[name]
    x = torch.randn(batch, 3, 224, 224)
    static = make_static()
    static.eval()
    for part in static.modules():
        if hasattr(part, 'drop_prob'):  # a NumPy number, which would break its graph
            part.drop_prob = float(part.drop_prob)
    statics: list[nn.Module | Callable[[Tensor], object]] = [static]
    if compiled:
        inductor.freezing = True  # weights packed for the machine
        dynamo.recompile_limit = 64  # a graph for each layer
        statics.append(torch.compile(static))
    networks, ratios = [], []
    for case in cases:
        shares = CASES[case]
        network = make(policies=tuple(shares), executor=executor).eval()
        network.load_state_dict(static.state_dict(), strict=False)
        replay(network, shares, batch)
        network(x)
        cost = network.cost()
        macs = cost.dynamic([trace.shares for trace in network.traces])
        networks.append(network)
        ratios.append(float(torch.as_tensor(macs).mean()) / cost.static)
    if reduction and name.startswith('deit'):
        cases = [*cases, f'ToMe, r = {reduction}']
        networks.append(merge_tokens(copy.deepcopy(static), reduction))
        ratios.append(merged_share(static, reduction))
    runs = [lambda net=net: net(x) for net in (*statics, *networks)]
    times = medians(runs, rounds)
    best = min(times[: len(statics)])
    ways = zip(('as it is', 'compiled'), times[: len(statics)], strict=False)
    said = ', '.join(f'{seconds * 1e3:.1f} ms {way}' for way, seconds in ways)
    print(f'{name}, batch {batch}: static {said}')
    for case, ratio, seconds in zip(cases, ratios, times[len(statics) :], strict=True):
        print(f'  {case:7s} MACs {ratio:.3f}  time {seconds / best:.3f}', flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog='benchmark_transformers', description=__doc__)
    parser.add_argument('--network', choices=list(NETWORKS), nargs='+', default=list(NETWORKS))
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 8])
    parser.add_argument('--case', choices=list(CASES), nargs='+', default=list(CASES))
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--executor', default='cpu', help='of the dynamic network')
    parser.add_argument('--tome', type=int, metavar='R', help='also merge R tokens a layer (DeiT)')
    parser.add_argument('--compile', action='store_true', help='measure torch.compile, too')
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        for name in args.network:
            for batch in args.batch:
                measure(name, batch, args.case, args.rounds, args.compile, args.executor, args.tome)


if __name__ == '__main__':
    main()
