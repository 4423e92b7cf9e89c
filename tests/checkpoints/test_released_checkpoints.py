"""Checkpoints in LAUDNet's names load, with the options that the converter says they need."""

import re

import pytest
import torch
from networks import randomize
from test_conversion import ARCH, classifier

from las_mm.checkpoints.conversion import convert_names
from las_mm.checkpoints.released_options import released_options

MODES = {
    'channel': dict(granularity=None, channel_groups='2-4-2-2'),
    'one layer': dict(granularity=None, channel_groups=2, channel_masker=dict(layers=1)),
    'conv_linear': dict(
        granularity=None, channel_groups=4, channel_masker=dict(kind='conv_linear', reduction=8)
    ),
    'some stages': dict(granularity=None, channel_groups='2-none-4-none'),
    'layer': dict(granularity='all'),
    'joint': dict(granularity='2-2-2-1', channel_groups=2),
}


def release(weights: dict, regnet: bool) -> dict:
    """The weights under LAUDNet's names."""
    names = {}
    for name, weight in weights.items():
        name = name.removeprefix('backbone.').replace('head.fc.', 'fc.')
        name = re.sub(r'\.(branch_masker|masker)\.', '.masker_spatial.', name)
        name = name.replace('.channel_masker.', '.masker_channel.')
        if regnet:
            name = re.sub(r'^conv1\.', 'stem.0.', name)
            name = re.sub(r'^bn1\.', 'stem.1.', name)
            name = re.sub(r'^layer(\d)\.(\d+)\.', r'trunk_output.block\1.block\1-\2.f.', name)
            name = name.replace('.f.downsample.', '.proj.')
            for place, letter in enumerate('abc', 1):
                name = name.replace(f'.f.conv{place}.', f'.f.{letter}.0.')
                name = name.replace(f'.f.bn{place}.', f'.f.{letter}.1.')
        names[name] = weight
    return names


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('family', ['LASResNet', 'LASRegNet'])
def test_names_come_back_and_options_are_told(family, mode):
    regnet = family == 'LASRegNet'
    if regnet:
        shape = dict(arch=dict(ARCH, depth=9, se_ratio=0.25), channels=48)
    else:
        shape = dict(depth=50, base_channels=8, channels=256, stem_channels=8)
    build = dict(type=family, **shape, **MODES[mode])
    try:
        model = classifier(**build)
    except ValueError as error:
        pytest.fail(str(error))
    weights = randomize(model).state_dict()
    converted = convert_names(release(weights, regnet), whole_blocks=mode == 'layer')
    assert converted.keys() == weights.keys()
    options = released_options(converted)
    wanted = {name: value for name, value in MODES[mode].items() if name != 'granularity'}
    if 'channel_groups' in wanted:
        groups = wanted['channel_groups']
        wanted['channel_groups'] = (
            groups if isinstance(groups, str) else '-'.join(4 * [str(groups)])
        )
        wanted['channel_masker'] = dict(kind='mlp', layers=2) | wanted.get('channel_masker', {})
        if wanted['channel_masker']['kind'] == 'conv_linear':
            del wanted['channel_masker']['layers']
    if mode != 'joint':
        wanted['granularity'] = MODES[mode]['granularity']
    elif regnet:
        wanted['se_pool'] = 'all'
    assert options == wanted


def test_a_static_checkpoint_needs_nothing():
    model = classifier(type='LASRegNet', arch=dict(ARCH, depth=9, se_ratio=0.25), channels=48)
    static = {n: w for n, w in model.state_dict().items() if 'masker' not in n}
    assert released_options(convert_names(static)) == {}


def test_the_tool_says_what_the_config_needs(load_tool, tmp_path, capsys):
    model = classifier(
        type='LASResNet', depth=18, channels=512, granularity='all', channel_groups=4
    )
    torch.save({'state_dict': release(model.state_dict(), False)}, tmp_path / 'theirs.pth')
    tool = load_tool('convert_checkpoint')
    tool.main([str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth'), '--layer-skipping'])
    out = capsys.readouterr().out
    assert "the backbone needs granularity='all'" in out
    assert "the backbone needs channel_groups='4-4-4-4'" in out
    tool.main([str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth')])
    assert "masker=dict(grid='adaptive')" in capsys.readouterr().out
