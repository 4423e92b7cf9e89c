"""Real short trainings learn their images and compute the share that they were told to."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from runs import runner_of

from las_mm.models.backbone import classifier_macs


def demo_images(config, data_root) -> list[dict]:
    """The demo's training images, as its config loads them, in their own size."""
    cfg = Config.fromfile(config)
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(data_root))
    dataset['pipeline'] = [step for step in dataset['pipeline'] if step['type'] != 'Resize']
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return list(DATASETS.build(dataset))


def train(tmp_path, kind: str, images: list[dict], target: float, epochs: int):
    """The model trained on all images at once, and its log."""
    runner = runner_of(
        tmp_path,
        kind=kind,
        dataset=images,
        batch_size=len(images),
        epochs=epochs,
        optimizer=dict(type='AdamW', lr=2e-3),
        masker_lr_mult=10.0,  # so that few steps suffice
        custom_hooks=[
            dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.5),
            dict(type='SparsityLossHook', target=target),
        ],
        checkpoint=dict(interval=-1, save_last=False),
    )
    model = runner.train().eval()
    scalars = runner.message_hub.log_scalars
    return model, {
        name.removeprefix('train/'): list(history.data[0]) for name, history in scalars.items()
    }


def flops_ratio(model, inputs: torch.Tensor) -> float:
    """F_dyn / F_stat of inference on a batch."""
    with torch.no_grad():
        model.backbone(inputs)
    cost = model.backbone.cost(classifier_macs(model))
    shares = [trace.shares for trace in model.backbone.traces]
    return (cost.dynamic(shares).mean() / cost.static).item()


def test_a_classifier_learns_its_images_by_heart(tmp_path, repo_root, demo_classes):
    config = repo_root / 'configs' / 'las_r50_4-4-2-1_demo.py'
    images = demo_images(config, demo_classes)
    model, log = train(tmp_path, 'classifier', images, target=0.5, epochs=120)
    inputs = torch.stack([image['inputs'] for image in images])
    data = model.data_preprocessor(dict(inputs=inputs))
    with torch.no_grad():
        scores = model(data['inputs'])
    labels = torch.cat([image['data_samples'].gt_label for image in images])
    assert (scores.argmax(1) == labels).all()
    assert log['flops_ratio'][0] > 0.9
    assert flops_ratio(model, data['inputs']) == pytest.approx(0.5, abs=0.03)


def test_a_detector_learns_while_it_is_made_sparse(tmp_path, repo_root, demo_coco):
    config = repo_root / 'configs' / 'faster_rcnn_las_r50_4-4-2-1_demo.py'
    images = demo_images(config, demo_coco)[:4]
    model, log = train(tmp_path, 'two-stage', images, target=0.6, epochs=80)
    task = [
        sum(log[name][step] for name in ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls'))
        for step in (0, -1)
    ]
    data = dict(inputs=[image['inputs'] for image in images])
    data['data_samples'] = [image['data_samples'] for image in images]
    inputs = model.data_preprocessor(data)['inputs']
    assert task[1] < task[0] / 3
    assert log['flops_ratio'][0] > 0.9
    assert flops_ratio(model, inputs) == pytest.approx(0.6, abs=0.05)
