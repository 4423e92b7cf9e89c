"""Export a trained network for programs without las_mm: an AOTInductor package, or an ONNX file.

Of a classifier it is the whole network, of a detector backbone and neck. Its input are images
(N, 3, H, W) as the config's data preprocessor leaves them, of any H and W unless --fixed.
A package (aoti) skips what the network skips, by the operators of a library written beside it; an
ONNX file computes everything and multiplies by masks. docs/deployment.md says how to run both.

Examples:
    python tools/export.py CONFIG CHECKPOINT --format aoti --size 800 1216
    python tools/export.py CONFIG CHECKPOINT --format onnx --with-masks --out network.onnx
"""

import argparse
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

import las_mm
from las_mm.cli import add_common_arguments, load_config, run_cli
from las_mm.models.backbone import find_backbone
from las_mm.ops.native.build import build_library
from las_mm.ops.native.compilation import OPERATORS
from las_mm.ops.native.operators import load_operators
from las_mm.reports.prediction import load_model

SUFFIXES = {'aoti': '.pt2', 'onnx': '.onnx'}
NEEDED = {'aoti': (), 'onnx': ('onnx', 'onnxscript')}
LIBRARY = 'las_mm_operators.so'


class Network(nn.Module):
    """What is exported of a model: images to a classifier's scores or a detector's features.

    Args:
        model: A classifier or detector with a dynamic backbone.
        with_masks: Whether masks follow, one for each decision of each block, in order.
    """

    def __init__(self, model: nn.Module, with_masks: bool) -> None:
        super().__init__()
        self.model, self.with_masks = model, with_masks

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model
        out = model.extract_feat(images)
        if hasattr(model, 'head') and not hasattr(model, 'bbox_head'):
            out = model.head(out)
        outs = (out,) if isinstance(out, Tensor) else tuple(out)
        if not self.with_masks:
            return outs
        masks = [mask for block in find_backbone(model).blocks for mask in block.last[0]]
        return (*outs, *masks)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('--format', choices=list(SUFFIXES), required=True)
    parser.add_argument('--out', type=Path, help='file to write, by default WORK_DIR/network.*')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='of an example'
    )
    parser.add_argument('--batch', type=int, default=1, help='images in a batch, which is fixed')
    parser.add_argument('--fixed', action='store_true', help='for images of --size alone')
    parser.add_argument('--with-masks', action='store_true', help='masks are outputs, too')
    add_common_arguments(parser)
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be exported, before anything is built.

    Raises:
        ValueError: If an option is not one of the allowed ones, or a package is missing.
    """
    for field, values in (('size', args.size), ('batch', [args.batch])):
        if min(values) < 1:
            raise ValueError(f'--{field}: got {min(values)}; it must be >= 1')
    suffix = SUFFIXES[args.format]
    if args.out and args.out.suffix != suffix:
        raise ValueError(f"--out: got '{args.out}'; --format {args.format} ends in {suffix}")
    missing = [name for name in NEEDED[args.format] if find_spec(name) is None]
    if missing:
        raise ValueError(f'--format: {args.format} needs {" and ".join(missing)}; install them')
    if args.format == 'aoti' and (reason := load_operators()):
        raise ValueError(f'--format: aoti has no operators to call here: {reason}; try onnx')


def write_package(network: Network, images: Tensor, sizes: Any, out: Path) -> None:
    """Write an AOTInductor package."""
    las_mm.optimize_for_inference(network.model, 'cpu')
    program = torch.export.export(network, (images,), dynamic_shapes=sizes)
    torch._inductor.aoti_compile_and_package(program, package_path=str(out))


def write_onnx(network: Network, images: Tensor, sizes: Any, out: Path) -> None:
    """Write an ONNX file with all weights in it."""
    program = torch.onnx.export(network, (images,), dynamic_shapes=sizes, dynamo=True)
    program.save(str(out), external_data=False)


def difference(outs: Any, wanted: Any) -> float:
    """The largest difference relative to the largest value of an output."""
    pairs = zip(outs, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


@torch.no_grad()
def main() -> None:
    args = parse_args()
    check(args)
    cfg = load_config(args)
    out = args.out or Path(cfg.work_dir) / f'network{SUFFIXES[args.format]}'
    model, _ = load_model(cfg, args.checkpoint)
    find_backbone(model)  # or it is refused
    network = Network(model, args.with_masks).eval()
    images = torch.randn(args.batch, 3, *args.size, generator=torch.Generator().manual_seed(0))
    wanted = network(images)
    dynamic = torch.export.Dim.DYNAMIC
    sizes = None if args.fixed else ({2: dynamic, 3: dynamic},)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:  # nothing half-written is left
        whole = Path(folder) / out.name
        (write_package if args.format == 'aoti' else write_onnx)(network, images, sizes, whole)
        whole.replace(out)
    print(f'{out}: {out.stat().st_size / 2**20:.1f} MiB')
    if args.format == 'aoti':
        shutil.copy(build_library(OPERATORS), out.with_name(LIBRARY))
        outs = torch._inductor.aoti_load_package(str(out))(images)
        print(f'outputs differ by {difference(outs, wanted):.1e} of the largest value')


if __name__ == '__main__':
    run_cli(main)
