"""What is kept of a run: a small JSON file each, from which the page can be written anywhere."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.plan import Experiment
from experiments.tasks import TASKS
from las_mm.files import read_json, write_whole

# Of latency_report.json; the rest of it belongs to the checkout that the run was made in.
KEPT = ('metrics', 'granularity', 'flops', 'stages', 'devices', 'measured', 'object_rates')


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        experiment: Which.
        path: The record's file, which :func:`las_mm.reports.tradeoff.read_run` reads, too.
        record: Parts of its latency report.
    """

    experiment: Experiment
    path: Path
    record: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """The task's metric, in percent."""
        task = TASKS[self.experiment.task]
        return self.record['metrics'][task.metric] * task.factor

    @property
    def setting(self) -> Experiment:
        """What was run, whatever the seed."""
        return replace(self.experiment, seed=0)

    @property
    def label(self) -> str:
        """The curve that it belongs to: its mode and how it was distilled."""
        distilled = self.experiment.distilled
        return self.experiment.mode + ('' if distilled == 'no' else f', KD ({distilled})')

    @property
    def _kind(self) -> str:
        """Which of a report's numbers are this network's."""
        return 'static' if self.experiment.target is None else 'dynamic'

    @property
    def macs(self) -> float:
        """MACs of an average image, in millions."""
        return self.record['flops'][self._kind] / 1e6

    @property
    def measured_ms(self) -> float:
        """Measured latency of the backbone, in milliseconds."""
        return self.record['measured'][f'{self._kind}_ms']

    def predicted_ms(self, device: str) -> float:
        """Predicted latency of the backbone, in milliseconds."""
        rows = {row['device']: row for row in self.record['devices']}
        return rows[device][f'{self._kind}_ms']


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

    def add(self, experiment: Experiment, report: dict[str, Any]) -> None:
        """Keep the result of a run, which is complete by that."""
        record = {name: report[name] for name in KEPT if name in report}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(experiment), json.dumps(record, indent=1))
