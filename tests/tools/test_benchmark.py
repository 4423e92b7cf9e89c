"""benchmark.py measures, writes what it measured, and refuses what it cannot."""

import json
import subprocess
import sys

import pytest
import torch

TINY = ['--sizes', '64', '--rounds', '1', '--threads', '1', '--variants', 'channels_last']


def run(repo_root, *args, tool='benchmark.py'):
    command = [sys.executable, str(repo_root / 'tools' / 'benchmarks' / tool), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_blocks(repo_root, tmp_path):
    out, plot = tmp_path / 'results' / 'blocks.json', tmp_path / 'plot.png'
    args = ['--stages', '2', '--granularity', '1,4', '--rates', '0.5', '--masks', 'smooth,random']
    done = run(repo_root, 'blocks', *TINY, *args, '--out', str(out), '--plot', str(plot))
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())['records']
    assert [(r['granularity'], r['masks']) for r in records] == [
        (1, 'smooth'), (1, 'random'), (4, 'smooth'), (4, 'random')
    ]  # fmt: skip
    for record in records:
        assert record['rate'] == pytest.approx(0.5) and record['dilated_rate'] > 0.5
        assert record['to_best'] >= record['to_own'] - 1e-9
        assert set(record['milliseconds']) == {
            'channels_last', 'own static', f'{record["masks"]} 0.5'
        }  # fmt: skip
    assert plot.stat().st_size > 0 and not list(tmp_path.rglob('*.tmp'))


def test_networks_reach_the_ratio(repo_root, tmp_path):
    out = tmp_path / 'networks.json'
    args = ['--depths', '18', '--granularity', '2-2-2-1', '--ratios', '0.6']
    args += ['--channel-groups', '2-2-2-2']
    done = run(repo_root, 'networks', *TINY, *args, '--out', str(out))
    assert done.returncode == 0, done.stderr
    patches, channels = json.loads(out.read_text())['records']
    assert patches['flops'] == pytest.approx(0.6, abs=0.03)
    assert channels['flops'] == pytest.approx(0.6, abs=0.03)
    assert channels['network'].startswith('LAUD-R18 channels 2-2-2-2')


def test_training_steps(repo_root, tmp_path):
    out = tmp_path / 'training.json'
    args = ['--cases', 'detector', '--size', '64', '--batch', '1', '--variants', 'distilled']
    done = run(repo_root, 'training', *args, '--rounds', '1', '--threads', '1', '--out', str(out))
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(out.read_text())['records']
    assert set(record['milliseconds']) == {'static', 'distilled'}
    assert set(record['distilled to static']) == {'time', 'saved', 'peak'}
    assert min(record['milliseconds'].values()) > 0
    assert record['saved_mib']['distilled'] > record['saved_mib']['static'] > 0
    assert record['peak_mib']['static'] > 0


def test_static_variants_compute_the_same(load_tool):
    load_tool('benchmark')
    from benchmarking.static import static_variants
    from random_blocks import randomize

    from las_mm.inference import make_static
    from las_mm.models.resnet_torch import TorchLASResNet

    net = make_static(randomize(TorchLASResNet(18, '2-2-2-1')))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = net(x)
        for name, variant in static_variants(net, x, ['channels_last', 'onednn']).items():
            for out, dense in zip(variant(), expected, strict=True):
                assert (out - dense).abs().max() <= 1e-4 * dense.abs().max(), name


@pytest.mark.parametrize(
    'args', [['--rates', '2'], ['--masks', 'striped'], ['--sizes', '8'], ['--variants', 'tpu']]
)
def test_wrong_arguments(repo_root, args):
    done = run(repo_root, 'blocks', *args)
    assert done.returncode == 2 and args[0] in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.parametrize('smooth', [True, False])
@pytest.mark.parametrize('rate', [0.0, 0.3, 1.0])
def test_masks_have_their_rate_and_every_image_its_own(load_tool, smooth, rate):
    load_tool('benchmark')
    from benchmarking.masks import make_mask

    masks = make_mask((14, 19), rate, seed=1, smooth=smooth, batch=3)
    assert masks.shape == (3, 1, 14, 19) and set(masks.unique().tolist()) <= {0.0, 1.0}
    assert masks.mean((1, 2, 3)).tolist() == pytest.approx([rate] * 3, abs=1 / (14 * 19))
    assert torch.equal(masks, make_mask((14, 19), rate, seed=1, smooth=smooth, batch=3))
    if rate == 0.3:
        assert not torch.equal(masks[0], masks[1])
        edges = (masks.diff(dim=2).abs().sum() + masks.diff(dim=3).abs().sum()).item()
        assert (edges < 0.6 * masks.numel()) == smooth  # connected regions have short borders


def test_masks_are_decided_for_every_image_of_a_batch(load_tool):
    load_tool('benchmark')
    from benchmarking.masks import decide_masks

    from las_mm.models.resnet_torch import TorchLASResNet

    backbone = TorchLASResNet(18, '2-2-2-1').eval()
    with torch.no_grad():
        backbone(torch.rand(2, 3, 64, 64))
        found = decide_masks(backbone, 0.6)
        backbone(torch.rand(2, 3, 64, 64))
    cost, shares = backbone.cost(), [trace.shares for trace in backbone.traces]
    reached = float(cost.dynamic(shares).mean()) / cost.static
    assert found['macs_ratio'] == pytest.approx(reached) == pytest.approx(0.6, abs=0.03)
    assert found['activation_rate'] < found['dilated_rate'] < 1


def test_modes(repo_root):
    args = ['--stages', '2', '--length', '2', '--rounds', '1', '--threads', '1', '--sizes', '64']
    done = run(repo_root, *args, tool='benchmark_modes.py')
    assert done.returncode == 0, done.stderr
    for mode in ('channels .5', 'channels .25', 'blocks .5', 'joint .6 .7'):
        assert mode in done.stdout


def test_merged_tokens_are_weighted_means_and_the_class_token_stays(load_tool):
    load_tool('benchmark')
    from benchmarking.token_merging import merge, merge_tokens
    from mmpretrain.models.backbones import VisionTransformer

    torch.manual_seed(0)
    x, sizes = torch.randn(2, 9, 4), torch.randint(1, 4, (2, 9)).float()
    out, after = merge(x, x, sizes, 3)
    assert out.shape == (2, 6, 4) and torch.equal(after.sum(1), sizes.sum(1))
    total = (out * after[..., None]).sum(1)
    assert torch.allclose(total, (x * sizes[..., None]).sum(1), atol=1e-5)
    assert torch.allclose(
        out[:, 0], x[:, 0], atol=1e-6
    )  # of the tokens that may go it is the first
    alike = torch.zeros(1, 5, 4)
    alike[0, 1], alike[0, 2], alike[0, 3], alike[0, 4] = torch.eye(4)[[0, 0, 1, 2]]
    out, after = merge(alike, alike, None, 1)
    assert sorted(after[0].tolist()) == [1, 1, 1, 2]

    arch = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=48)
    static = VisionTransformer(arch, img_size=64)
    static.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        wanted = static(images)[0]
        assert torch.allclose(merge_tokens(static, 0)(images)[0], wanted, atol=1e-5)
        assert merge_tokens(VisionTransformer(arch, img_size=64), 2)(images)[0].shape == (2, 24)
