"""Geometry of the bar chart of rates, which the page's template draws as SVG."""

from dataclasses import dataclass

from las_mm.reports.report import rate_columns

PLOT_HEIGHT = 190.0
TOP, LEFT, BOTTOM = 14.0, 34.0, 44.0
GAP, STAGE_GAP = 6.0, 20.0
WIDTH = 880.0
WIDEST_BAR = 40.0


@dataclass(frozen=True)
class Bar:
    """One block: a bar of its activation rate before one of its dilated rate."""

    label: str
    index: str
    x: float
    width: float
    rate: float
    dilated: float
    rate_y: float
    dilated_y: float


@dataclass(frozen=True)
class StageBand:
    """The bars of one stage."""

    label: str
    middle: float


@dataclass(frozen=True)
class RateChart:
    """Bars of r per block, grouped by stage; everything in SVG user units."""

    width: float
    height: float
    left: float
    base: float
    bars: tuple[Bar, ...]
    stages: tuple[StageBand, ...]
    grid: tuple[tuple[str, float], ...]


def _y(rate: float) -> float:
    return TOP + PLOT_HEIGHT * (1 - rate)


def rate_charts(blocks: list[dict]) -> dict[str, RateChart]:
    """A chart for each kind of rate: that of pixels, or of tokens, heads, attention and MLP.

    Args:
        blocks: The rows ``blocks`` of a latency report.
    """
    columns = rate_columns(blocks)
    if 'activation rate' in columns:
        return {'activation rate': rate_chart(blocks)}
    charts = {}
    for heading, rates in columns.items():
        # What a block does not decide on runs in full.
        shown = [1.0 if rate is None else rate for rate in rates]
        rows = zip(blocks, shown, strict=True)
        charts[heading] = rate_chart(
            [{**b, 'activation_rate': r, 'dilated_rate': r} for b, r in rows]
        )
    return charts


def rate_chart(blocks: list[dict]) -> RateChart:
    """Lay out the bars.

    Args:
        blocks: The rows ``blocks`` of a latency report.
    """
    stages = sorted({block['stage'] for block in blocks})
    free = WIDTH - LEFT - STAGE_GAP * (len(stages) + 1) - GAP * (len(blocks) - len(stages))
    width = min(WIDEST_BAR, free / len(blocks))
    x, bars, bands = LEFT + STAGE_GAP, [], []
    for stage in stages:
        start = x
        members = [block for block in blocks if block['stage'] == stage]
        for index, block in enumerate(members):
            rate, dilated = block['activation_rate'], block['dilated_rate']
            bars.append(
                Bar(block['name'], str(index), x, width, rate, dilated, _y(rate), _y(dilated))
            )
            x += width + GAP
        label = f'stage {stage + 1}, S = {members[0]["granularity"] or "none"}'
        bands.append(StageBand(label, (start + x - GAP) / 2))
        x += STAGE_GAP - GAP
    grid = tuple((f'{share:g}', _y(share)) for share in (0, 0.25, 0.5, 0.75, 1))
    height = TOP + PLOT_HEIGHT + BOTTOM
    return RateChart(x, height, LEFT, _y(0), tuple(bars), tuple(bands), grid)
