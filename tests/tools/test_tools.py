"""The command lines end to end, as a user runs them: train, distil, test, report, draw."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import loader_options

STATIC = 'configs/faster_rcnn_r50_demo.py'
LAS = 'configs/faster_rcnn_las_r50_4-4-2-1_demo.py'
CLASSIFIER = 'configs/las_r50_4-4-2-1_demo.py'


@pytest.fixture(scope='module')
def run(repo_root):
    """Run a tool and return what it printed; fails with that if the exit code is another."""

    def run(*argv, code=0):
        env = dict(os.environ, OMP_NUM_THREADS='1')
        command = [sys.executable, *map(str, argv)]
        done = subprocess.run(command, cwd=repo_root, env=env, capture_output=True, text=True)
        output = done.stdout + done.stderr
        assert done.returncode == code, output[-3000:]
        return output

    return run


def smaller(data: Path, *options: str) -> list[str]:
    """Options that make a demo config train for two iterations on tiny data."""
    annotations = f'{data}/annotations/instances_val.json'
    return [
        '--cfg-options',
        *loader_options(data),
        f'val_evaluator.ann_file={annotations}',
        f'test_evaluator.ann_file={annotations}',
        'train_dataloader.batch_size=4',
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1',
        *options,
    ]


@pytest.fixture(scope='module')
def trained(run, demo_coco, tmp_path_factory):
    """Work dirs of a static detector and of the LAS detector distilled from it."""
    root = tmp_path_factory.mktemp('work')
    run('tools/train.py', STATIC, '--work-dir', root / 'static', *smaller(demo_coco))
    static = root / 'static' / 'epoch_1.pth'
    options = [f'load_from={static}', f'custom_hooks.2.checkpoint={static}']
    output = run('tools/train.py', LAS, '--work-dir', root / 'las', *smaller(demo_coco, *options))
    return root, output


def test_training_logs_every_loss_term(trained):
    _, output = trained
    for term in ('loss_flops', 'loss_bounds', 'loss_kd', 'flops_ratio', 'temperature'):
        assert f'{term}: ' in output, term


def test_only_the_maskers_were_missing_in_the_static_checkpoint(trained):
    _, output = trained
    start = output.index('missing keys in source state_dict')
    missing = output[start : output.index('\n', start)].split(':')[1].split(',')
    assert len(missing) == 2 * 16
    assert all('.masker.conv.' in key for key in missing)
    assert 'unexpected key' not in output


@pytest.fixture(scope='module')
def tested(run, trained, demo_coco):
    root, _ = trained
    output = run(
        *('tools/test.py', LAS, root / 'las' / 'epoch_1.pth', '--work-dir', root / 'test'),
        *(
            '--executor',
            'auto',
            '--measure',
            '--devices',
            'tx2,v100',
            '--out',
            root / 'predictions.pkl',
            '--show-dir',
            'painted',
        ),
        *smaller(demo_coco, 'default_hooks.visualization.interval=1'),
    )
    return root, output


def test_report_is_printed_and_written(tested):
    root, output = tested
    report = read_report(root / 'test')
    assert [row['device'] for row in report['devices']] == ['tx2', 'v100']
    assert report['images'] == 4
    measured = report['measured']
    assert measured['ratio'] == pytest.approx(measured['dynamic_ms'] / measured['static_ms'])
    assert f'ratio {report["flops"]["ratio"]:.3f}' in output
    scalars = next((root / 'test').glob('*/vis_data/*.json')).read_text()
    assert 'latency/tx2_ratio' in scalars


def test_predictions_and_paintings_are_written(tested):
    root, _ = tested
    assert len(pickle.loads((root / 'predictions.pkl').read_bytes())) == 4
    assert len(list((root / 'test').glob('*/painted/*.jpg'))) == 4


def test_sparse_and_dense_execution_detect_the_same(run, tested, demo_coco):
    root, _ = tested
    argv = ['tools/test.py', LAS, root / 'las' / 'epoch_1.pth', '--work-dir', root / 'dense']
    run(*argv, '--executor', 'dense', '--out', root / 'dense.pkl', *smaller(demo_coco))
    sparse, dense = (
        pickle.loads((root / name).read_bytes()) for name in ('predictions.pkl', 'dense.pkl')
    )
    for ours, wanted in zip(sparse, dense, strict=True):
        ours, wanted = ours['pred_instances'], wanted['pred_instances']
        assert torch.equal(ours['labels'], wanted['labels'])
        torch.testing.assert_close(ours['scores'], wanted['scores'], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours['bboxes'], wanted['bboxes'], rtol=1e-4, atol=1e-2)


def test_a_calibrated_network_is_tested_in_8_bits(run, tested, demo_coco):
    """Its masks are nearly those of the float network, so its report is, too."""
    root, _ = tested
    checkpoint, small = root / 'las' / 'epoch_1.pth', smaller(demo_coco)
    argv = [LAS, root / 'las' / 'epoch_1_int8.pth', '--work-dir', root / 'int8']
    said = run('tools/test.py', LAS, checkpoint, *argv[2:], '--precision', 'int8', *small, code=2)
    assert "precision: got 'int8', but" in said and 'tools/quantize.py' in said
    said = run('tools/quantize.py', LAS, checkpoint, '--images', 2, *argv[2:], *small)
    assert '16 blocks calibrated' in said
    run('tools/test.py', *argv, '--precision', 'int8', *small)
    float_rates, rates = (
        [stage['activation_rate'] for stage in read_report(root / name)['stages']]
        for name in ('test', 'int8')
    )
    assert rates == pytest.approx(float_rates, abs=0.05)
    argv = ['tools/quantize.py', LAS, checkpoint]
    assert '--images: got 0; give at least 1' in run(*argv, '--images', 0, code=2)
    assert "--out: got 'a.txt'; it must end in .pth" in run(*argv, '--out', 'a.txt', code=2)


def read_report(work_dir):
    return json.loads((work_dir / 'latency_report.json').read_text())


def test_predictor_reads_the_report(run, tested):
    root, _ = tested
    report = root / 'test' / 'latency_report.json'
    argv = ['-m', 'latency_predictor', 'network', '--rates', report, '--device', 'tx2', '--json']
    (row,) = json.loads(run(*argv))['rows']
    wanted = json.loads(report.read_text())['devices'][0]
    assert row['device'] == wanted['device'] == 'tx2'
    assert row['dynamic ms'] == pytest.approx(wanted['dynamic_ms'])


def test_page_of_the_test_run_is_made(run, tested, demo_coco):
    root, _ = tested
    argv = ['tools/report.py', LAS, '--work-dir', root / 'test', '--limit', 2]
    assert '2 images' in run(*argv, *smaller(demo_coco))
    page = (root / 'test' / 'report.html').read_text()
    assert page.count('data:image/jpeg') == 2 * (1 + 4), 'predictions and four stages each'
    report = read_report(root / 'test')
    assert f'{report["flops"]["ratio"]:.3f}' in page and 'coco/bbox_mAP' in page
    assert 'SparsityLossHook' in page, 'the config'


def test_page_needs_a_test_run(run, tmp_path):
    said = run('tools/report.py', LAS, '--work-dir', tmp_path, code=2)
    assert 'make it with tools/test.py' in said and 'Traceback' not in said


def test_test_time_augmentation_runs(run, trained, demo_coco):
    root, _ = trained
    checkpoint = root / 'las' / 'epoch_1.pth'
    argv = ['tools/test.py', LAS, checkpoint, '--work-dir', root / 'tta', '--tta']
    run(*argv, *smaller(demo_coco))
    report = json.loads((root / 'tta' / 'latency_report.json').read_text())
    assert report['images'] == 8, 'each image and its mirror image'


def test_masks_are_drawn(run, trained, demo_coco, tmp_path):
    root, _ = trained
    checkpoint, out = root / 'las' / 'epoch_1.pth', tmp_path / 'masks.png'
    argv = ['tools/visualize_masks.py', LAS, checkpoint, demo_coco / 'val', '--limit', 2]
    assert '2 images drawn' in run(*argv, '--out', out)
    assert out.stat().st_size > 10_000


def test_classifier_trains_reports_and_is_drawn(run, demo_classes, tmp_path):
    sizes = [f'{split}_dataloader.batch_size=10' for split in ('train', 'val', 'test')]
    options = ['--cfg-options', *loader_options(demo_classes), *sizes]
    options += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    output = run('tools/train.py', CLASSIFIER, '--work-dir', tmp_path, *options)
    assert 'loss_flops: ' in output
    run('tools/test.py', CLASSIFIER, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path, *options)
    report = json.loads((tmp_path / 'latency_report.json').read_text())
    assert report['images'] == 10
    assert report['object_rates'] is None
    images = next((demo_classes / 'val').iterdir())
    argv = ['tools/visualize_masks.py', CLASSIFIER, tmp_path / 'epoch_1.pth', images, '--limit', 1]
    assert '1 images drawn' in run(*argv, '--out', tmp_path / 'masks.png')
