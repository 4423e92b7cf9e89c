"""Read the rates a trained network ran at, from the ``latency_report.json`` of a test run."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .checks import check_rate
from .network import NetworkSpec


@dataclass(frozen=True)
class MeasuredRates:
    """What a test run measured.

    Attributes:
        network: the network that ran.
        activation_rates: r per block, shape (blocks,).
        dilated_rates: r_dilated per block, shape (blocks,); None if the report gives none.
    """

    network: NetworkSpec
    activation_rates: np.ndarray
    dilated_rates: np.ndarray | None


def load_report(path: str | Path) -> MeasuredRates:
    """Network and per-block rates of a latency report.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or a block without rates; one line naming it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"latency report '{path}' does not exist: a test run with the "
            'latency report hook writes it'
        )
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is not readable JSON: {error}') from None
    if not isinstance(content, dict) or 'network' not in content or 'blocks' not in content:
        raise ValueError(f"{path} is no latency report: it needs the keys 'network' and 'blocks'")
    network = NetworkSpec.from_dict(content['network'])
    by_name = {entry.get('name'): entry for entry in content['blocks'] if isinstance(entry, dict)}
    missing = [b.name for b in network.blocks if 'activation_rate' not in by_name.get(b.name, {})]
    if missing:
        raise ValueError(f"{path}: block '{missing[0]}' has no activation_rate")
    entries = [by_name[block.name] for block in network.blocks]
    rates = check_rate(f'{path}: activation_rate', [e['activation_rate'] for e in entries])
    dilated: list = [e.get('dilated_rate') for e in entries]
    measured = all(value is not None for value in dilated)
    return MeasuredRates(
        network, rates, check_rate(f'{path}: dilated_rate', dilated) if measured else None
    )
