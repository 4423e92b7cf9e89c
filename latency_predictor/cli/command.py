"""Command line of the latency predictor: ``python -m latency_predictor COMMAND``."""

import argparse
import sys

from . import explore, predict, published


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m latency_predictor',
        description='Predict the latency of static and spatial-wise dynamic networks from a few '
        'hardware constants (Latency-aware Spatial-wise Dynamic Networks, Sec. 3.3).',
    )
    subparsers = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for module in (predict, explore, published):
        module.add_parsers(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 2 with one line on stderr for a user error."""
    arguments = build_parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (ValueError, FileNotFoundError, TypeError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
    return 0
