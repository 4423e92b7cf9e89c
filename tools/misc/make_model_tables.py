"""Make docs/models.md, the tables of all configs, from configs/metafile.yml.

Example:
    python tools/misc/make_model_tables.py           # writes docs/models.md
    python tools/misc/make_model_tables.py --check   # exits 1 where it is out of date
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADER = """# Models

One config a result. **Metrics are those of the source that is named, for reference: none was
measured by this project.** "paper, Table" is LASNet's, "paper (figure)" is read off LAUDNet's main
figure. Latencies are the papers' predictions for the backbone in ms, FLOPs their averages over the
validation set in G multiply–accumulates. Made from `configs/metafile.yml` by
`tools/misc/make_model_tables.py`.
"""


def read_models(path: Path) -> list[dict]:
    """The models of a metafile.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a metafile.
    """
    if not path.is_file():
        raise FileNotFoundError(f'metafile: no file {str(path)!r}; check the path')
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict) or 'Models' not in content:
        raise ValueError(f"metafile: {str(path)!r} has no list 'Models'")
    return content['Models']


def table(rows: list[dict]) -> str:
    """A table in Markdown; columns in the order in which they first appear, empty cells as –."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ['---'] * len(columns)]
    lines += [[str(row.get(column, '–')) for column in columns] for row in rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def model_row(model: dict, result: dict) -> dict:
    """One line of a table."""
    metadata, config = model.get('Metadata', {}), model['Config']
    row = {'config': f'[{Path(config).stem}](../{config})'}
    groups = metadata.get('Channels per group')
    if 'Policies' in metadata:
        row['policies'] = metadata['Policies']
    else:
        row['S_net'] = metadata.get('Granularity', 'static' if groups is None else '–')
    if groups is not None:
        row['channels per group'] = groups
    row['t'] = metadata.get('Target', '–')
    row.update(result.get('Metrics', {}))
    if 'Source' in result:
        row['source'] = result['Source']
    return row


def document(models: Iterable[dict]) -> str:
    """The page: a section per task and data set."""
    sections = defaultdict(list)
    for model in models:
        for result in model['Results']:
            title = f'{result["Task"]}, {result["Dataset"]}'
            if 'Policies' in model.get('Metadata', {}):
                title += ', transformers'
            sections[title].append(model_row(model, result))
    last = sorted(sections, key=lambda title: title.endswith('transformers'))
    parts = [f'## {title}\n\n{table(sections[title])}\n' for title in last]
    return '\n'.join([HEADER, *parts])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--metafile', type=Path, default=ROOT / 'configs' / 'metafile.yml')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs' / 'models.md')
    parser.add_argument('--check', action='store_true', help='write nothing, compare')
    args = parser.parse_args(argv)
    try:
        text = document(read_models(args.metafile))
    except (FileNotFoundError, ValueError, yaml.YAMLError) as error:
        print(f'make_model_tables: error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    if args.check:
        current = args.out.is_file() and args.out.read_text(encoding='utf-8') == text
        if not current:
            print(f'make_model_tables: {args.out} is out of date; run it without --check')
        return 0 if current else 1
    temporary = args.out.with_name(args.out.name + '.tmp')
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
