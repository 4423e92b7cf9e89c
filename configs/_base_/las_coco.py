# What LAS detectors on COCO share (Appendix B.3): a constant temperature, reports, checkpoints.
#
# The paper starts from an ImageNet-trained LAS backbone; give such a checkpoint with
#   --cfg-options model.backbone.init_cfg.checkpoint=PATH
# mmdet's static weights serve as well: then the maskers start with every patch on.
custom_imports = dict(imports=['las_mm'])

custom_hooks = [
    dict(type='GumbelTemperatureHook', start=0.1),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2'], input_size=(800, 1344)),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
]
