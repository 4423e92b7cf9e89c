"""Convert a checkpoint of torchvision, timm, mmpretrain, mmdet, LASNet or LAUDNet to our names.

What is written holds weights and plain types only and is loaded by ``load_from`` of a config, or
with ``prefix='backbone.'`` by a backbone's ``init_cfg``.

Examples:
    python tools/convert_checkpoint.py torchvision://resnet50 checkpoints/r50_torchvision.pth
    python tools/convert_checkpoint.py las_r101.pth.tar las_r101.pth --publish
    python tools/convert_checkpoint.py r101_layer_0x5.pth.tar r101_layer.pth --layer-skipping
"""

import argparse
import hashlib
import os
import sys
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.runner import CheckpointLoader

from las_mm.checkpoints.conversion import convert_names
from las_mm.checkpoints.loading import TRUST
from las_mm.checkpoints.released_options import released_options
from las_mm.cli import run_cli
from las_mm.version import __version__

WEIGHTS = ('state_dict', 'model', 'model_state_dict')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='path, URL or torchvision:// name of the checkpoint')
    parser.add_argument('out', type=Path, help='file to write, ending in .pth')
    parser.add_argument(
        '--publish', action='store_true', help='append the date and the hash to the file name'
    )
    parser.add_argument(
        '--layer-skipping',
        action='store_true',
        help="LAUDNet's spatial maskers decide on whole blocks, which their names do not tell",
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle everything in the checkpoint; only if you trust its source',
    )
    return parser.parse_args(argv)


def convert(source: str, whole_blocks: bool = False) -> dict:
    """The converted checkpoint: weights and where they are from.

    Args:
        source: Path, URL or torchvision:// name.
        whole_blocks: As in :func:`~las_mm.checkpoints.conversion.convert_names`.

    Raises:
        FileNotFoundError, ValueError: If there is no such checkpoint, or it cannot be converted.
    """
    checkpoint = CheckpointLoader.load_checkpoint(source, map_location='cpu')
    if not isinstance(checkpoint, dict):
        raise ValueError(f'checkpoint: {source!r} holds a {type(checkpoint).__name__}, no weights')
    weights = next((checkpoint[key] for key in WEIGHTS if key in checkpoint), checkpoint)
    meta = {'las_mm_version': __version__, 'source': source}
    names = (checkpoint.get('meta') or {}).get('dataset_meta')
    if names:
        meta['dataset_meta'] = names
    return {'meta': meta, 'state_dict': convert_names(weights, whole_blocks)}


def save(checkpoint: dict, out: Path, publish: bool = False) -> Path:
    """Write the file whole or not at all; with ``publish`` as ``NAME_DATE-HASH.pth``.

    Returns:
        The path of the file written.
    """
    if out.suffix != '.pth':
        raise ValueError(f'out: got {str(out)!r}; it must end in .pth')
    out.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=out.parent, prefix='.', suffix='.tmp', delete=False) as file:
        try:
            torch.save(checkpoint, file)
            file.flush()
            if publish:
                digest = hashlib.sha256(Path(file.name).read_bytes()).hexdigest()
                out = out.with_name(f'{out.stem}_{date.today():%Y%m%d}-{digest[:8]}.pth')
            os.chmod(file.name, 0o644)
            os.replace(file.name, out)
        except BaseException:
            os.unlink(file.name)
            raise
    return out


def needed_options(weights: dict) -> str:
    """What the backbone's config needs for these weights, as lines for people."""
    options = released_options(weights)
    lines = [f'the backbone needs {name}={value!r}\n' for name, value in options.items()]
    if any('.masker.' in name for name in weights):
        lines.append(
            'the backbone needs the granularity that its maskers were trained with; of the '
            "authors' detectors, whose patches share features evenly, also "
            "masker=dict(grid='adaptive')\n"
        )
    return ''.join(lines)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    if args.trust_checkpoint:
        os.environ[TRUST] = '1'
    checkpoint = convert(args.source, args.layer_skipping)
    path = save(checkpoint, args.out, args.publish)
    weights = checkpoint['state_dict']
    print(f'{len(weights)} weights written to {path}')
    print(needed_options(weights), end='')


if __name__ == '__main__':
    run_cli(main)
