"""Read the shares a trained network ran at, from the ``latency_report.json`` of a test run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .checks import check_rate
from .network import NetworkSpec
from .spec import BRANCH, DILATED, SHARES, SITES


@dataclass(frozen=True)
class MeasuredRates:
    """What a test run measured.

    Attributes:
        network: The network that ran.
        activation_rates: (blocks,) r of each block.
        shares: (blocks,) share of each block, by name; 1 where a block does not decide on it.
    """

    network: NetworkSpec
    activation_rates: np.ndarray
    shares: Mapping[str, np.ndarray]

    @property
    def dilated_rates(self) -> np.ndarray | None:
        """(blocks,) r_dilated of each block; None if the report gives none."""
        return self.shares.get(DILATED)


def load_report(path: str | Path) -> MeasuredRates:
    """Network and per-block shares of a latency report.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or has a block without rates; one line that names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'latency report: got {str(path)!r}; give a file that exists, a test run with the '
            'latency report hook writes it'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path}: got no readable JSON; {error}') from None
    if not isinstance(content, dict) or 'network' not in content or 'blocks' not in content:
        raise ValueError(f"{path}: got no 'network' or no 'blocks'; give a latency report")
    network = NetworkSpec.from_dict(content['network'])
    by_name = {entry.get('name'): entry for entry in content['blocks'] if isinstance(entry, dict)}
    missing = [b.name for b in network.blocks if 'activation_rate' not in by_name.get(b.name, {})]
    if missing:
        raise ValueError(f'{path}: got no activation_rate of block {missing[0]!r}; test again')
    entries = [by_name[block.name] for block in network.blocks]
    rates = check_rate(f'{path}, activation_rate', [e['activation_rate'] for e in entries])
    return MeasuredRates(network, rates, {SITES: rates, BRANCH: rates, **_shares(path, entries)})


def _shares(path: Path, entries: list[dict]) -> dict[str, np.ndarray]:
    """All shares by their names; of older reports the dilated rate."""
    found = {}
    for name in SHARES:
        values = [entry.get('shares', {}).get(name) for entry in entries]
        if name == DILATED and not any(values):
            values = [entry.get('dilated_rate') for entry in entries]
            if None in values:
                continue
        if any(value is not None for value in values):
            known = [1.0 if value is None else value for value in values]
            found[name] = check_rate(f'{path}, {name}', known)
    return found
