"""Accuracy over MACs and latencies, the static family as a curve, with the spread over seeds."""

from collections.abc import Callable, Sequence
from statistics import mean, stdev

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plan import DEVICES
from experiments.records import Result

Cost = Callable[[Result], float]
COSTS: dict[str, Cost] = {
    'MACs of an image (millions)': lambda result: result.macs,
    **{
        f'predicted latency, {device} (ms)': lambda result, device=device: result.predicted_ms(
            device
        )
        for device in DEVICES
    },
    'measured latency, CPU (ms)': lambda result: result.measured_ms,
}


def group(results: Sequence[Result]) -> list[list[Result]]:
    """Runs that differ in nothing but the seed, together."""
    groups: dict[object, list[Result]] = {}
    for result in results:
        groups.setdefault(result.setting, []).append(result)
    return list(groups.values())


def plot_task(results: Sequence[Result]) -> Figure:
    """A panel for each cost.

    Args:
        results: Of one task.
    """
    figure = Figure(figsize=(4.2 * len(COSTS), 3.8), layout='constrained')
    panels = figure.subplots(1, len(COSTS), sharey=True, squeeze=False)[0]
    for ax, (title, cost) in zip(panels, COSTS.items(), strict=True):
        _panel(ax, group(results), cost)
        ax.set_xlabel(title)
    panels[0].set_ylabel('accuracy on test images')
    panels[0].legend(frameon=False, fontsize=7)
    return figure


def _panel(ax: Axes, groups: list[list[Result]], cost: Cost) -> None:
    labels = dict.fromkeys(members[0].label for members in groups)
    for label in labels:
        drawn = [members for members in groups if members[0].label == label]
        points = sorted(
            (mean(map(cost, members)), mean(m.accuracy for m in members), spread(members))
            for members in drawn
        )
        x, y, error = zip(*points, strict=True)
        style = 'k*-' if label == 'static' else 'o--'
        ax.errorbar(x, y, error, fmt=style, markersize=4, linewidth=1, capsize=2, label=label)
    ax.grid(alpha=0.25)
    ax.spines[['top', 'right']].set_visible(False)


def spread(members: Sequence[Result]) -> float:
    """Standard deviation of the accuracy over seeds; 0 for one."""
    return stdev(m.accuracy for m in members) if len(members) > 1 else 0.0


def static_cost_at(accuracy: float, statics: list[list[Result]], cost: Cost) -> float | None:
    """What static networks need for that accuracy, between those that no cheaper one surpasses.

    Of less accuracy than any of these has, it is the cheapest one's; None of more.
    """
    front: list[tuple[float, float]] = []
    for dear, high in sorted((mean(map(cost, g)), mean(m.accuracy for m in g)) for g in statics):
        if front and high <= front[-1][1]:
            continue
        front.append((dear, high))
        if accuracy <= high:
            cheap, low = front[-2] if len(front) > 1 else front[-1]
            return dear - (dear - cheap) * (high - accuracy) / (high - low) if low < high else dear
    return None
