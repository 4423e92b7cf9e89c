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
from las_mm.latency.description import describe_backbone
from las_mm.models.backbone import DynamicBackbone, classifier_macs, find_backbone
from las_mm.reports.rates import ObjectRateMeter, RateMeter, rate_map
from las_mm.reports.report import build_report, render, scalars
from las_mm.reports.run_record import plain_metrics, run_record
from latency_predictor import load_device

from .model_loss import unwrapped
from .placement import Placed, Placement, Unknown, pipelines_of, placement_of
from .twins import refuse_twins
from .views import View, ViewWatch


@HOOKS.register_module()
class LatencyReportHook(Hook):
    """After a test, reports rates, MACs and predicted latency of the dynamic backbone.

    The report goes to the log as text, to ``latency_report.json`` in the work dir, and to the
    visualizer as scalars; the file also has the test's metrics, config, checkpoint and versions.
    Rates are averages over images. Where the data samples carry ground-truth boxes, the rates
    inside and outside of them are reported, too: of the picture's pixels without any padding, boxes
    of crowds left out; where it is not known which pixels these are, there are none, and the log
    says why.

    Args:
        devices: Names or description files of devices to predict for.
        precision: Precision to predict for.
        input_size: (H, W) to predict at; by default the size seen most often in the test.
        measure: Whether the backbone's static and dynamic latency are measured on this machine,
            too, on the test's last image.
        file_name: Name of the JSON file in the work dir.
        backbone: Name in the model of the dynamic backbone to report, such as ``'rgb.backbone'``,
            where it has several; by default the only one, or that of the network which a
            semi-supervised detector predicts with.

    Raises:
        ValueError: If a device is unknown, it is unclear which backbone to report, or two hooks
            would write the same file; raised before the test starts.

    Example:
        >>> custom_hooks = [dict(type='LatencyReportHook', devices=['v100', 'tx2'])]
    """

    # Before hooks that swap averaged weights out again, and may then test a second time.
    priority = 'ABOVE_NORMAL'

    def __init__(
        self,
        devices: Sequence[str] = ('v100', 'gtx1080', 'tx2'),
        precision: str = 'fp32',
        input_size: tuple[int, int] | None = None,
        measure: bool = False,
        file_name: str = 'latency_report.json',
        backbone: str | None = None,
    ) -> None:
        for device in devices:
            load_device(device)
        self.devices, self.precision = list(devices), precision
        self.input_size = (input_size[0], input_size[1]) if input_size else None
        self.measure, self.file_name, self.backbone_name = measure, file_name, backbone

    def before_test(self, runner: Runner) -> None:
        refuse_twins(self, runner, 'file_name')
        model = unwrapped(runner.model)
        self.detach()  # where a test before was interrupted
        self.logger = runner.logger
        self.backbone = find_backbone(model, self.backbone_name)
        self.extra_macs = classifier_macs(model)
        self.meter, self.objects = RateMeter(), ObjectRateMeter()
        self.views, self.reason = 0, ''
        self._handles: list[Any] = [self.backbone.register_forward_hook(self._after_backbone)]
        try:
            self.placement: Placement = placement_of(pipelines_of(runner.test_dataloader))
        except Unknown as unknown:
            self._leave_objects_out(str(unknown))
        else:
            self._handles.append(ViewWatch(model, self.backbone, self._see))

    def detach(self) -> None:
        """Stop looking at the model."""
        for handle in getattr(self, '_handles', []):
            handle.remove()
        self._handles = []

    def _leave_objects_out(self, reason: str) -> None:
        if not self.reason:
            self.logger.info('no rates inside and outside of objects: %s', reason)
        self.reason = self.reason or reason

    @torch.no_grad()
    def _see(self, views: list[View]) -> None:
        """Hold the masks of a forward against the boxes in it."""
        self.views += len(views)
        if self.reason:
            return
        maps = rate_map(views[0].traces, views[0].input_size)
        for rates, view in zip(maps, views, strict=True):
            try:
                placed = place(view, self.placement)
            except Unknown as unknown:
                self._leave_objects_out(str(unknown))
                return
            x1, y1, x2, y2 = placed.picture
            placed = placed.in_picture()
            self.objects.update(rates[y1:y2, x1:x2], placed.boxes, placed.ignored)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.detach()
        if self.views != self.meter.images:
            self._leave_objects_out("the model predicts otherwise than by forward(mode='predict')")
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
        meter, objects, reasons = RateMeter(), ObjectRateMeter(), []
        seen = (self.meter, self.objects, self.reason)
        for other_meter, other_objects, reason in all_gather_object(seen):
            meter.merge(other_meter)
            objects.merge(other_objects)
            reasons.append(reason)
        if not meter.images:
            raise ValueError(
                'LatencyReportHook: the dynamic backbone did not run in the test; name the one '
                "that does, such as backbone='student.backbone'"
            )
        size = self.input_size or meter.typical_size
        network = describe_backbone(self.backbone, size)
        report = build_report(
            meter,
            network,
            self.backbone.granularity,
            self.devices,
            self.precision,
            self.backbone.channel_groups,
        )
        report['object_rates'] = None if any(reasons) else objects.summary()
        return report

    @torch.no_grad()
    def _after_backbone(self, backbone: DynamicBackbone, args: tuple, output: Any) -> None:
        cost = backbone.cost(self.extra_macs)
        self.meter.update(backbone.traces, cost, backbone.input_size)
        if self.measure:
            self._image = args[0][-1:]


def place(view: View, placement: Placement) -> Placed:
    """Where the objects of a view lie.

    Raises:
        Unknown: If that cannot be known.
    """
    if view.doubt:
        raise Unknown(view.doubt)
    placed = placement.place(view.sample)
    given, said = tuple(view.picture.shape[-2:]), tuple(view.sample.img_shape[:2])
    if given != said:
        raise Unknown(f'img_shape is {said}, the image itself {given}')
    return placed


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
