"""The paper's Tables 1, 2 and 3: what it prints and what this model predicts.

The latency columns of Tables 2 and 3 are predictions for the largest input, 800 x 1344, while the
FLOPs columns are averages over COCO val2017. So r is solved from the ratio of the FLOPs columns,
one r for all blocks, and the latency is predicted at 800 x 1344.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .fusion import Fusion
from .macs import rate_for_macs_ratio
from .model import LatencyModel
from .networks import resnet

DEVICES = ('v100', 'gtx1080', 'tx2')
DETECTION_INPUT = (800, 1344)


@dataclass(frozen=True)
class PublishedRow:
    """One row of Table 2 or 3.

    Attributes:
        framework: Detector.
        granularity: S_net, None for the static baseline.
        target: t.
        gmacs: Average backbone FLOPs, G multiply-accumulates.
        latency_ms: On DEVICES.
    """

    framework: str
    granularity: str | None
    target: float | None
    gmacs: float
    latency_ms: tuple[float, float, float]


# Table 1: (masker-conv1, gather-conv2, scatter-add) fused -> us on V100, stage 1, S = 4, r = 0.6.
TABLE_1 = (
    ((False, False, False), 163.2),
    ((True, False, False), 90.1),
    ((True, True, False), 86.7),
    ((True, True, True), 71.4),
)

_STATIC = (39.5, 119.3, 729.4)

TABLE_2 = (
    PublishedRow('Faster R-CNN', None, None, 141.2, _STATIC),
    PublishedRow('Faster R-CNN', '4-4-2-1', 0.6, 90.7, (33.8, 90.6, 524.9)),
    PublishedRow('Faster R-CNN', '4-4-2-1', 0.5, 79.3, (30.7, 82.5, 477.1)),
    PublishedRow('Faster R-CNN', '4-4-7-1', 0.5, 79.5, (29.0, 79.9, 464.8)),
    PublishedRow('Faster R-CNN', '4-4-7-1', 0.4, 67.9, (25.3, 69.1, 401.3)),
    PublishedRow('RetinaNet', '4-4-2-1', 0.5, 77.8, (30.4, 81.8, 472.6)),
    PublishedRow('RetinaNet', '4-4-7-1', 0.5, 79.4, (28.9, 79.9, 464.8)),
    # The paper prints the latencies of the 67.9 G row again here, although the FLOPs differ.
    PublishedRow('RetinaNet', '4-4-7-1', 0.4, 66.4, (25.3, 69.1, 401.3)),
)

TABLE_3 = (
    PublishedRow('Mask R-CNN', None, None, 141.2, _STATIC),
    PublishedRow('Mask R-CNN', '4-4-2-1', 0.5, 80.5, (31.1, 83.3, 481.9)),
    PublishedRow('Mask R-CNN', '4-4-2-1', 0.4, 69.2, (27.9, 74.8, 431.6)),
    PublishedRow('Mask R-CNN', '4-4-7-1', 0.4, 68.8, (25.8, 70.9, 411.8)),
)


@dataclass(frozen=True)
class FusionRow:
    """One row of Table 1: which operators are fused, printed and predicted microseconds."""

    fused: tuple[bool, bool, bool]
    published_us: float
    predicted_us: float


@dataclass(frozen=True)
class Cell:
    """One latency of Table 2 or 3.

    Attributes:
        row: What the paper prints.
        device: Column.
        activation_rate: r solved from the FLOPs columns; 1 in the static rows.
        published_ms, predicted_ms: Latency.
        published_ratio, predicted_ratio: r_l against the static row of the same device.
    """

    row: PublishedRow
    device: str
    activation_rate: float
    published_ms: float
    predicted_ms: float
    published_ratio: float
    predicted_ratio: float

    @property
    def error(self) -> float:
        """Relative error of the latency."""
        return self.predicted_ms / self.published_ms - 1


def fusion_table(model: LatencyModel, block_name: str = 'layer1.0') -> tuple[FusionRow, ...]:
    """Table 1: one block of stage 1 of ResNet-101 at 224 x 224 with S = 4 and r = 0.6.

    The shortcut convolution of the first block is not a dynamic operator and is left out.
    """
    network = resnet(101, 224, '4-4-7-1')
    block = next(b for b in network.blocks if b.name == block_name)
    rows = []
    for fused, published in TABLE_1:
        latency = model.block(block, 0.6, fusion=Fusion(*fused))
        counted = sum(o.total_us for o in latency.operators if o.name != 'shortcut')
        rows.append(FusionRow(fused, published, counted))
    return tuple(rows)


def detection_table(
    table: tuple[PublishedRow, ...], models: dict[str, LatencyModel] | None = None
) -> tuple[Cell, ...]:
    """Every latency of Table 2 or 3, row by row."""
    models = models or {name: LatencyModel(name) for name in DEVICES}
    dense = table[0]
    cells = []
    for row in table:
        network = resnet(101, DETECTION_INPUT, row.granularity)
        rate = (
            1.0
            if row.granularity is None
            else rate_for_macs_ratio(network, row.gmacs / dense.gmacs)
        )
        for column, name in enumerate(DEVICES):
            latency = models[name].network(network, rate)
            cells.append(
                Cell(
                    row,
                    name,
                    rate,
                    row.latency_ms[column],
                    latency.dynamic_ms,
                    row.latency_ms[column] / dense.latency_ms[column],
                    latency.ratio,
                )
            )
    return tuple(cells)


def cell_errors(cells: Sequence[Cell]) -> dict[str, float]:
    """MAPE, largest relative error, largest error of r_l, and Spearman's rank correlation."""
    errors = np.array([cell.error for cell in cells])
    ratios = np.array([cell.predicted_ratio - cell.published_ratio for cell in cells])
    return {
        'mape': float(np.abs(errors).mean()),
        'worst': float(np.abs(errors).max()),
        'worst_ratio': float(np.abs(ratios).max()),
        'mean_ratio': float(np.abs(ratios).mean()),
        'spearman': spearman([c.published_ms for c in cells], [c.predicted_ms for c in cells]),
    }


def spearman(first: Iterable[float], second: Iterable[float]) -> float:
    """Rank correlation; equal values share the mean of their ranks. 1 for fewer than 2 values."""

    def ranks(numbers: Iterable[float]) -> np.ndarray:
        values = np.array(list(numbers), float)
        return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])

    a, b = ranks(first), ranks(second)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 1.0
    return float(np.corrcoef(a, b)[0, 1])
