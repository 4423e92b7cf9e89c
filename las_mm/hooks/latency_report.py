"""What a tested network computed and what that is worth on a device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.fileio import dump
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from las_mm.inference import measure_backbone
from las_mm.latency import describe_backbone
from las_mm.models.backbone import DynamicBackbone, classifier_macs, find_backbone
from las_mm.rates import ObjectRateMeter, RateMeter, rate_map
from las_mm.report import build_report, render, scalars
from las_mm.run_record import plain_metrics, run_record
from latency_predictor import load_device

from .model_loss import unwrapped


@HOOKS.register_module()
class LatencyReportHook(Hook):
    """After a test, reports rates, MACs and predicted latency of the dynamic backbone.

    The report goes to the log as text, to ``latency_report.json`` in the work dir, and to the
    visualizer as scalars; the file also has the test's metrics, config, checkpoint and versions.
    Rates are averages over images; where the data samples carry
    ground-truth boxes, the rates inside and outside of them are reported, too.

    Args:
        devices: Names or description files of devices to predict for.
        precision: Precision to predict for.
        input_size: (H, W) to predict at; by default the size seen most often in the test.
        measure: Whether the backbone's static and dynamic latency are measured on this machine,
            too, on the test's last image.
        file_name: Name of the JSON file in the work dir.

    Raises:
        ValueError: If a device is unknown; raised before the test starts.

    Example:
        >>> custom_hooks = [dict(type='LatencyReportHook', devices=['v100', 'tx2'])]
    """

    def __init__(
        self,
        devices: Sequence[str] = ('v100', 'gtx1080', 'tx2'),
        precision: str = 'fp32',
        input_size: tuple[int, int] | None = None,
        measure: bool = False,
        file_name: str = 'latency_report.json',
    ) -> None:
        for device in devices:
            load_device(device)
        self.devices, self.precision = list(devices), precision
        self.input_size = (input_size[0], input_size[1]) if input_size else None
        self.measure, self.file_name = measure, file_name

    def before_test(self, runner: Runner) -> None:
        model = unwrapped(runner.model)
        self.backbone = find_backbone(model)
        self.extra_macs = classifier_macs(model)
        self.meter, self.objects = RateMeter(), ObjectRateMeter()
        self._handle = self.backbone.register_forward_hook(self._after_backbone)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence | None = None,
    ) -> None:
        samples = [sample for sample in outputs or () if 'gt_instances' in sample]
        if len(samples) != len(self.backbone.traces[0].mask):
            return
        maps = rate_map(self.backbone.traces, self.backbone.input_size)
        for rates, sample in zip(maps, samples, strict=True):
            height, width = sample.img_shape[:2]
            boxes = _boxes_in_input(sample)
            self.objects.update(rates[:height, :width], boxes.to(rates.device))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._handle.remove()
        report = self.report()
        if not is_main_process():
            return
        report['metrics'] = plain_metrics(metrics)
        report['run'] = run_record(runner, self.backbone.executor)
        if self.measure:
            report['measured'] = measured_row(self.backbone, self._image)
        runner.logger.info('latency report\n%s', render(report))
        path = Path(runner.work_dir) / self.file_name
        dump(report, str(path), indent=1)
        runner.logger.info('latency report written to %s', path)
        runner.visualizer.add_scalars(scalars(report), step=runner.iter)

    def report(self) -> dict[str, Any]:
        """The report of all processes' images."""
        meter, objects = RateMeter(), ObjectRateMeter()
        for other_meter, other_objects in all_gather_object((self.meter, self.objects)):
            meter.merge(other_meter)
            objects.merge(other_objects)
        size = self.input_size or meter.typical_size
        network = describe_backbone(self.backbone, size)
        report = build_report(
            meter, network, self.backbone.granularity, self.devices, self.precision
        )
        report['object_rates'] = objects.summary()
        return report

    @torch.no_grad()
    def _after_backbone(self, backbone: DynamicBackbone, args: tuple, output: Any) -> None:
        cost = backbone.cost(self.extra_macs)
        self.meter.update(backbone.traces, cost, backbone.input_size)
        if self.measure:
            self._image = args[0][-1:]


def measured_row(backbone: DynamicBackbone, image: Tensor) -> dict[str, Any]:
    """Measured latency of an image (1, 3, H, W), static against dynamic, in milliseconds."""
    static, dynamic = measure_backbone(backbone, image)
    return {
        'device': str(image.device),
        'input_size': list(image.shape[-2:]),
        'static_ms': static,
        'dynamic_ms': dynamic,
        'ratio': dynamic / static,
    }


def _boxes_in_input(sample: Any) -> Tensor:
    """Ground-truth boxes (n, 4) of a test sample, in pixels of the network's input.

    mmdet's test pipelines load annotations after resizing, so that they are in pixels of the
    original image.
    """
    boxes = sample.gt_instances.bboxes
    boxes = boxes.tensor if hasattr(boxes, 'tensor') else boxes
    return boxes * boxes.new_tensor(sample.scale_factor).repeat(2)
