# LAS-MobileNetV2 SSDLite on COCO, S_net = 4-4-2-2-1, t = 0.6, on top of mmdet's recipe.
# The paper has no such row.
_base_ = 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py'
custom_imports = dict(imports=['las_mm'])
load_from = (
    'https://download.openmmlab.com/mmdetection/v2.0/ssd/ssdlite_mobilenetv2_scratch_600e_coco/'
    'ssdlite_mobilenetv2_scratch_600e_coco_20210629_110627-974d9307.pth'
)

model = dict(backbone=dict(type='LASMobileNetV2', granularity='4-4-2-2-1'))
custom_hooks = [
    dict(type='GumbelTemperatureHook', start=0.1),
    dict(type='LatencyReportHook', devices=['tx2', 'nano'], input_size=(320, 320)),
    dict(type='InvalidLossHook'),
    dict(type='SafeCheckpointHook'),
    dict(type='SparsityLossHook', target=0.6),
    dict(
        type='DistillationHook',
        teacher='mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        checkpoint=load_from,
    ),
]
