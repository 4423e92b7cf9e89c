"""Rank every S_net for a config's backbone by predicted latency, and write the chosen one.

The knee is the smallest S per stage that no larger S beats by much: a larger S makes masks less
flexible and buys nothing. For several devices, the Pareto set is marked: each S_net that no other
one beats on all of them.

Examples:
    python tools/search_granularity.py CONFIG --device tx2 --rate 0.5
    python tools/search_granularity.py CONFIG --device tx2,v100 --input-size 224 224 --write NEW.py
    python tools/search_granularity.py CONFIG --candidates 1,2,4,7,8 --choose 4-4-7-1 --write NEW.py
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from las_mm.cli import run_cli
from las_mm.config.frameworks import read_config, require_model
from las_mm.config.input_size import configured_input_size
from las_mm.config.shipped import find_config
from las_mm.latency.search import (
    Choice,
    configured_network,
    rank_granularities,
    write_config,
)
from las_mm.ops import parse_granularity
from latency_predictor import LatencyModel, NetworkSpec, load_devices
from latency_predictor.search import SearchResult


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--device', default='v100', help='devices, such as tx2 or tx2,v100,my.yaml')
    parser.add_argument('--rate', type=float, default=0.5, help='activation rate r of every block')
    parser.add_argument(
        '--input-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='size of the images; by default what the test pipeline makes',
    )
    parser.add_argument('--precision', default='fp32', help='fp32, tf32, fp16 or bf16')
    parser.add_argument(
        '--candidates',
        metavar='S,S,…',
        help='S to try in every stage; by default those that cut its map into whole patches',
    )
    parser.add_argument('--top', type=int, default=10, help='how many of the ranking to show')
    parser.add_argument('--choose', metavar='S_NET', help='what to write, instead of the knee')
    parser.add_argument('--write', metavar='NEW_CONFIG', help='write a config with the choice')
    return parser.parse_args()


def parse_candidates(text: str | None, network: NetworkSpec) -> list[list[int]] | None:
    """S to try per stage: those given that fit into its map.

    Raises:
        ValueError: If they are not integers from 1.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(',')]
    if not all(part.isdigit() and int(part) >= 1 for part in parts):
        raise ValueError(f'--candidates: got {text!r}; give integers >= 1, such as 1,2,4,7,8')
    largest = {block.stage: max(block.height, block.width) for block in network.blocks}
    sizes = sorted({int(part) for part in parts})
    return [[s for s in sizes if s <= edge] or [1] for _, edge in sorted(largest.items())]


def show(
    choices: list[Choice], searches: list[SearchResult], network: NetworkSpec, top: int
) -> None:
    """Print the ranking, and r_ℓ over S with the knee of each stage."""
    height, width = network.input_size
    rate = searches[0].activation_rate
    console = Console(width=None if sys.stdout.isatty() else 120)
    title = f'{network.name} at {height}×{width}, r = {rate:g}: {len(choices)} S_net'
    table = Table('', 'S_net', title=title, title_justify='left')
    for search in searches:
        table.add_column(f'{search.device} ms', justify='right')
        table.add_column('r_ℓ', justify='right')
        table.add_column('rank', justify='right')
    for choice in [*choices[:top], *(c for c in choices[top:] if c.pareto or c.knee)]:
        marks = [word for word in ('knee', 'pareto') if getattr(choice, word)]
        cells = zip(choice.dynamic_ms, choice.ratios, choice.ranks, strict=True)
        text = [cell for ms, r, rank in cells for cell in (f'{ms:.3f}', f'{r:.3f}', str(rank))]
        table.add_row(' '.join(marks), choice.label, *text)
    console.print(table)
    for search in searches:
        console.print(f'{search.device}: static {search.static_ms:.3f} ms; r_ℓ over S, *knee*')
        knees = search.recommended.granularity
        for stage, (ratios, knee) in enumerate(zip(search.stage_ratios, knees, strict=True), 1):
            mark = {knee: '*'}
            cells = [f'{mark.get(s, "")}{s}: {r:.2f}{mark.get(s, "")}' for s, r in ratios.items()]
            console.print(f'  stage {stage}  ' + '   '.join(cells), highlight=False)


def main() -> None:
    args = parse_args()
    if args.top < 1:
        raise ValueError(f'--top: got {args.top}; it must be >= 1')
    path = find_config(args.config)
    cfg = read_config(path)
    require_model(cfg)
    size = tuple(args.input_size or configured_input_size(cfg))
    if min(size) < 1:
        raise ValueError(f'--input-size: got {size[0]} {size[1]}; give H and W in pixels')
    network = configured_network(cfg, size)
    models = [LatencyModel(device, args.precision) for device in load_devices(args.device)]
    candidates = parse_candidates(args.candidates, network)
    choices, searches = rank_granularities(network, models, args.rate, candidates)
    show(choices, searches, network, args.top)
    knee = next(choice.granularity for choice in choices if choice.knee)
    chosen = parse_granularity(args.choose, len(knee)) if args.choose else knee
    label = '-'.join(map(str, chosen))
    if not args.write:
        print(f'chosen: {label}; --write NEW_CONFIG makes a config of it')
        return
    why = 'chosen by hand' if args.choose else 'the knee of the predicted latency'
    devices = ', '.join(search.device for search in searches)
    reason = f'S_net: {why}; {devices} at {size[0]}x{size[1]}, r = {args.rate:g}.'
    write_config(path, args.write, chosen, reason)
    print(f'{args.write} written, with S_net {label}')


if __name__ == '__main__':
    run_cli(main)
