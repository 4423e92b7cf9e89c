"""Which options of a backbone a converted checkpoint of the authors needs."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# The layer with the logits, by the kind of channel masker that has it.
KINDS: dict[str, dict[str, Any]] = {
    'conv': dict(kind='mlp', layers=1),
    'conv.2': dict(kind='mlp', layers=2),
    'linear': dict(kind='conv_linear'),
}
CHANNEL_MASKER = re.compile(
    r'backbone\.layer(\d+)\.0\.channel_masker\.(conv|conv\.2|linear)\.weight'
)


def released_options(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The options that converted weights have in their names and shapes.

    Args:
        weights: By the names of :func:`las_mm.checkpoints.conversion.convert_names`.

    Returns:
        What a backbone's config needs, such as ``channel_groups``; of ``granularity`` only whether
        it is None or ``'all'``, as weights do not tell the size of patches.
    """
    options: dict[str, Any] = {}
    groups: dict[int, int] = {}
    for name, weight in weights.items():
        if match := CHANNEL_MASKER.fullmatch(name):
            stage, prefix = int(match[1]), name.removesuffix(f'.{match[2]}.weight')
            options['channel_masker'] = dict(KINDS[match[2]])
            if match[2] == 'linear':
                hidden, inputs = weights[f'{prefix}.conv.0.weight'].shape[:2]
                options['channel_masker']['reduction'] = inputs // hidden
            inner = len(weights[f'backbone.layer{stage}.0.conv1.weight'])
            groups[stage] = inner // (len(weight) // 2)
    if groups:
        stages = range(1, max(_stages(weights)) + 1)
        options['channel_groups'] = '-'.join(str(groups.get(stage, 'none')) for stage in stages)
    patches, whole = (_has(weights, part) for part in ('.masker.', '.branch_masker.'))
    if whole:
        options['granularity'] = 'all'
    elif groups and not patches:
        options['granularity'] = None
    if patches and _has(weights, '.se.'):
        options['se_pool'] = 'all'
    return options


def _has(weights: Mapping[str, Tensor], part: str) -> bool:
    return any(part in name for name in weights)


def _stages(weights: Mapping[str, Tensor]) -> set[int]:
    found = (re.match(r'backbone\.layer(\d+)\.', name) for name in weights)
    return {int(match[1]) for match in found if match}
