"""What is kept of a run: a small JSON file each, from which the page can be written anywhere."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.plan import DEVICE, Experiment
from las_mm.files import read_json, write_whole

# Of latency_report.json; the rest of it belongs to the checkout that the run was made in.
KEPT = ('granularity', 'flops', 'stages', 'devices', 'measured', 'object_rates')


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        experiment: Which.
        path: The record's file, which :func:`las_mm.reports.tradeoff.read_run` reads, too.
        record: ``metrics``, and for a dynamic network parts of its latency report.
    """

    experiment: Experiment
    path: Path
    record: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """The task's metric."""
        return next(iter(self.record['metrics'].values()))

    def latency_ratio(self, device: str = DEVICE) -> float:
        """Predicted ℓ_dyn / ℓ_stat."""
        return next(row['ratio'] for row in self.record['devices'] if row['device'] == device)


class Records:
    """The folder of records, a file for each run that is complete.

    Args:
        folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, experiment: Experiment) -> Path:
        """The record's file, whether it is there or not."""
        return self.folder / f'{experiment.name}.json'

    def get(self, experiment: Experiment) -> Result | None:
        """What a run came to; None if it is not complete."""
        path = self.path(experiment)
        return Result(experiment, path, read_json('record', path)) if path.is_file() else None

    def all(self, experiments: Iterable[Experiment]) -> list[Result]:
        """Those of these runs that are complete."""
        return [result for result in map(self.get, experiments) if result is not None]

    def add(self, experiment: Experiment, metrics: dict[str, float], report: dict | None) -> None:
        """Keep the result of a run, which is complete by that."""
        record = {'metrics': metrics}
        if report is not None:
            record |= {name: report[name] for name in KEPT if name in report}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(experiment), json.dumps(record, indent=1))
