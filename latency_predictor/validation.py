"""How well the model does against what the paper and the authors' release say, as Markdown.

``tools/predictor/validate_predictor.py`` writes VALIDATION.md from this and from measurements.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from .device import load_device
from .model import LatencyModel
from .networks import regnet, resnet
from .search import search_granularity, sweep
from .tables import DEVICES, TABLE_2, TABLE_3, Cell, cell_errors, detection_table, fusion_table
from .validation_laudnet import COLUMNS, laudnet_rows, laudnet_section
from .validation_transformers import TRANSFORMER_COLUMNS, transformer_rows, transformer_section

# What the authors' later release predicts at 224 x 224, stem excluded, ms per image.
_RELEASED = (
    ('resnet101', 'v100', 128, 1.677),
    ('resnet101', 'tx2', 1, 32.24),
    ('resnet50', 'v100', 128, 0.908),
    ('resnet50', 'tx2', 1, 17.23),
    ('regnety_400mf', 'tx2', 1, 3.65),
    ('regnety_800mf', 'tx2', 1, 5.41),
    ('regnety_400mf', 'nano', 1, 7.62),
    ('regnety_800mf', 'nano', 1, 12.53),
)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table; floats with four significant digits."""

    def cell(value: object) -> str:
        if isinstance(value, bool):
            return 'yes' if value else 'no'
        return f'{value:.4g}' if isinstance(value, float) else str(value)

    lines = [f'| {" | ".join(columns)} |', '|' + '---|' * len(columns)]
    lines += [f'| {" | ".join(cell(value) for value in row)} |' for row in rows]
    return '\n'.join(lines) + '\n'


def paper_sections() -> str:
    """Tables 1 to 3, what each modelling choice does to them, Section 4.2, the released numbers."""
    return '\n'.join(
        (
            _fusion_section(),
            _detection_section(),
            _ablation_section(),
            _statement_section(),
            _released_section(),
            laudnet_section(markdown_table(COLUMNS, laudnet_rows())),
            transformer_section(markdown_table(TRANSFORMER_COLUMNS, transformer_rows())),
        )
    )


def _fusion_section() -> str:
    model = LatencyModel('v100')
    first, later = (fusion_table(model, name) for name in ('layer1.0', 'layer1.1'))
    rows = [
        (
            *a.fused,
            a.published_us,
            a.predicted_us,
            f'{100 * (a.predicted_us / a.published_us - 1):+.1f} %',
            b.predicted_us,
        )
        for a, b in zip(first, later, strict=True)
    ]
    times = [row.predicted_us for row in first]
    order = 'as in the paper' if times == sorted(times, reverse=True) else 'NOT as in the paper'
    return f"""## Table 1: operator fusion (V100, stage 1, S = 4, r = 0.6)

The paper does not say which block of stage 1 was run. The first one (64 input channels, shortcut
convolution not counted) fits better than a later one (256 input channels).

{
        markdown_table(
            (
                'masker-conv1',
                'gather-conv2',
                'scatter-add',
                'paper us',
                'first block us',
                'error',
                'later block us',
            ),
            rows,
        )
    }
- Order of the four rows: {order}.
- The kernel-launch cost of the discrete GPUs, 5 us, was **fitted to rows 2 to 4** of this table
  (the authors' later release uses 8 us). Tables 2 and 3 below are its test.
- **Not met**: row 1. The paper gains 73 us by fusing masker and conv1, more than the whole fused
  block takes. With one kernel each for masker, indices and gather this model cannot explain it.
"""


def _detection_section() -> str:
    parts = [
        """## Tables 2 and 3: ResNet-101 backbone at 800 x 1344

One activation rate for all blocks, solved from the ratio of the FLOPs columns with
`expected_dilated_rate` for conv1. No constant was fitted on these tables.
"""
    ]
    everything = {}
    for name, table in (('Table 2', TABLE_2), ('Table 3', TABLE_3)):
        cells = detection_table(table)
        everything.update({(c.row, c.device): c for c in cells})
        rows = []
        for row in table:
            line = [c for c in cells if c.row is row]
            rows.append(
                (
                    row.framework,
                    row.granularity or 'static',
                    row.gmacs,
                    line[0].activation_rate,
                    *(
                        f'{c.published_ms:g} / {c.predicted_ms:.1f} ({100 * c.error:+.1f} %), '
                        f'{c.predicted_ratio - c.published_ratio:+.3f}'
                        for c in line
                    ),
                )
            )
        parts.append(
            f'### {name}\n\nEach cell: paper ms / predicted ms (error), error of r_l.\n\n'
            + markdown_table(('framework', 'S_net', 'G MACs', 'r', *DEVICES), rows)
        )
    parts.append(_detection_summary(list(everything.values())))
    return '\n'.join(parts)


def _detection_summary(cells: Sequence[Cell]) -> str:
    static = [c for c in cells if c.row.granularity is None]
    dynamic = [c for c in cells if c.row.granularity is not None]
    rows = []
    for label, chosen in (
        ('static cells', static),
        ('dynamic cells', dynamic),
        *((f'dynamic, {d}', [c for c in dynamic if c.device == d]) for d in DEVICES),
    ):
        e = cell_errors(chosen)
        rows.append(
            (
                label,
                len(chosen),
                f'{100 * e["mape"]:.2f} %',
                f'{100 * e["worst"]:.1f} %',
                f'{e["mean_ratio"]:.3f}',
                f'{e["worst_ratio"]:.3f}',
                f'{e["spearman"]:.4f}',
            )
        )
    beyond = [c for c in dynamic if abs(c.predicted_ratio - c.published_ratio) > 0.03]
    named = '; '.join(
        f'{c.row.framework} {c.row.granularity}, t = {c.row.target:g}, on {c.device} '
        f'({c.predicted_ratio - c.published_ratio:+.3f})'
        for c in beyond
    )
    static_worst = max(abs(c.error) for c in static)
    table = markdown_table(
        (
            'cells',
            'number',
            'MAPE',
            'worst',
            'mean error of r_l',
            'worst error of r_l',
            'rank correlation',
        ),
        rows,
    )
    return f"""### Both tables together

{table}
- Goal static <= 2 %: {'met' if static_worst <= 0.02 else 'not met'}.
- Goal MAPE <= 5 %: {'met' if cell_errors(cells)['mape'] <= 0.05 else 'not met'}.
- Goal r_l within 0.03: met in {len(dynamic) - len(beyond)} of {len(dynamic)} dynamic cells.
  Beyond it: {named}.
- The paper prints the same latencies for RetinaNet 4-4-7-1, t = 0.4 (66.4 G) as for Faster R-CNN's
  67.9 G; one of the two rows is a copy.
- The rates of a trained network differ from block to block and are not published; one r for all is
  the largest simplification here.
- S = 7 is not a power of two: patches may be cut into their exact divisors, static maps only into
  the powers of two of Appendix A. That is what the printed numbers imply. `--tiles divisors` gives
  static maps the same freedom: static networks are then 14 % faster and r_l higher (below).
"""


def _ablation_section() -> str:
    def models(tiles: str | None = None, **changes: Any) -> dict[str, LatencyModel]:
        return {
            name: LatencyModel(dataclasses.replace(load_device(name), **changes), tiles=tiles)
            for name in DEVICES
        }

    rows = []
    for label, chosen in (
        ('the model', models()),
        ('launch 8 us everywhere (released value)', models(kernel_launch=8.0)),
        ('launch free', models(kernel_launch=0.0)),
        ('every access contiguous: e = 1', models(transaction=4)),
        ('perfect overlap: l = max(l_data, l_computation)', models(overlap=1.0)),
        ('exact divisors also for static maps', models(tiles='divisors')),
    ):
        cells = detection_table(TABLE_2, chosen) + detection_table(TABLE_3, chosen)
        static = cell_errors([c for c in cells if c.row.granularity is None])
        dynamic = cell_errors([c for c in cells if c.row.granularity is not None])
        rows.append(
            (
                label,
                f'{100 * static["worst"]:.1f} %',
                f'{100 * dynamic["mape"]:.2f} %',
                f'{dynamic["mean_ratio"]:.3f}',
                f'{dynamic["worst_ratio"]:.3f}',
            )
        )
    return f"""## What each choice does to Tables 2 and 3

{markdown_table(('model', 'worst static', 'MAPE dynamic', 'mean error of r_l', 'worst'), rows)}"""


def _statement_section() -> str:
    model, network = LatencyModel('v100'), resnet(101, 224)
    first = sweep(model, network, [0.4, 0.5, 0.6, 0.7])[0]
    ratio = dict(zip(first.granularities, first.ratio, strict=True))
    rows = [(f'S = {s}', *(float(x) for x in row)) for s, row in ratio.items()]
    gain = float(ratio[8][1] - ratio[28][1])
    cells = [c for c in detection_table(TABLE_2) if c.row.granularity]

    def gap(device: str) -> float:
        gaps = [
            c.predicted_ratio - c.row.gmacs / TABLE_2[0].gmacs for c in cells if c.device == device
        ]
        return sum(gaps) / len(gaps)

    def holds(statement: bool) -> str:
        return 'holds' if statement else 'does NOT hold'

    knees = [
        (name, rate, search_granularity(LatencyModel(name), network, rate).recommended.label)
        for name in ('v100', 'gtx1080', 'tx2', 'nano')
        for rate in (0.4, 0.5, 0.6)
    ]
    regnet_knee = search_granularity(LatencyModel('tx2'), regnet('800mf'), 0.5).recommended.label
    return f"""## The statements of Section 4.2

r_l of stage 1 of ResNet-101 on V100:

{markdown_table(('', 'r = 0.4', 'r = 0.5', 'r = 0.6', 'r = 0.7'), rows)}
- "S = 1 cannot always improve the practical efficiency": r_l = {ratio[1][1]:.2f} at r = 0.5,
  {ratio[1][2]:.2f} at r = 0.6: {holds(ratio[1][2] > 1)}.
- "Enlarging S from 8 to 28 in the first stage brings very little improvement": {gain:+.3f} in r_l
  at r = 0.5: {holds(gain < 0.05)}.
- "r_l is closer to the FLOPs ratio on TX2": mean of r_l - F_dyn/F_stat in Table 2 is
  {gap('tx2'):.3f} on TX2, {gap('v100'):.3f} on V100: {holds(abs(gap('tx2')) < abs(gap('v100')))}.
- Sweet spots 4/7/8, 4/7, 2/7, 1 of the four stages; ours, the smallest S that no larger one beats
  by more than 0.05 in r_l, are below; RegNetY-800MF on TX2 at r = 0.5: {regnet_knee}.

{markdown_table(('device', 'r', 'S_net'), knees)}"""


def _released_section() -> str:
    rows = []
    for name, device, batch, released in _RELEASED:
        network = (
            resnet(int(name[6:])) if name.startswith('resnet') else regnet(name.partition('_')[2])
        )
        predicted = []
        for tiles in ('paper', 'divisors'):
            found = LatencyModel(device, batch_size=batch, tiles=tiles).network(network)
            predicted.append((found.static_ms - found.other_us * 1e-3) / batch)
        rows.append((name, device, batch, released, *predicted))
    columns = ('network', 'device', 'batch', 'released ms', 'ours ms', 'ours, tiles divisors, ms')
    return f"""## The authors' later release at 224 x 224 (static, ms per image, stem excluded)

Not a goal but a cross-check. The release searches divisors too, hence the last column is the one
to compare for single images.

{markdown_table(columns, rows)}"""
