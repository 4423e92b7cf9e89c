"""What a command answers, and its three forms: table, JSON, CSV."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """Rows of one kind, and what to say around them.

    Attributes:
        title: Heading of the table.
        columns: Names of the columns, with units.
        rows: Values; floats are rounded only in the printed table.
        notes: Lines below the table (and under 'notes' in JSON).
        details: Further JSON content.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence]
    notes: Sequence[str] = ()
    details: dict = field(default_factory=dict)


def _cell(value: object) -> str:
    if value is None:
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def _as_table(answer: Answer) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=answer.title, title_justify='left', box=box.SIMPLE_HEAD)
    for index, column in enumerate(answer.columns):
        numbers = answer.rows and isinstance(answer.rows[0][index], (int, float))
        table.add_column(column, justify='right' if numbers else 'left', overflow='fold')
    for row in answer.rows:
        table.add_row(*(_cell(value) for value in row))
    text = io.StringIO()
    console = Console(file=text, width=None if os.isatty(1) else 160)
    console.print(table)
    return text.getvalue().rstrip() + '\n' + ''.join(f'{note}\n' for note in answer.notes)


def _as_json(answer: Answer) -> str:
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    content = {'title': answer.title, 'rows': rows, 'notes': list(answer.notes), **answer.details}
    return json.dumps(content, indent=2) + '\n'


def _as_csv(answer: Answer) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)
    return text.getvalue()


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file completely or not at all."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f'--output: no folder {str(path.parent)!r}; create it first')
    temporary = path.with_name(path.name + '.tmp')
    data = content if isinstance(content, bytes) else content.encode('utf-8')
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def emit(answer: Answer, form: str = 'table', path: str | None = None) -> None:
    """Print the answer, or write it to ``path``, as 'table', 'json' or 'csv'."""
    text = {'table': _as_table, 'json': _as_json, 'csv': _as_csv}[form](answer)
    if path is None:
        print(text, end='')
    else:
        write_whole(path, text)
        print(f'wrote {path}')
