# A narrow static Faster R-CNN that learns the demo digits from scratch on two CPU cores.
# It is where the LAS detector of the demo starts from, and its teacher.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './_base_/demo_detection.py',
]
width = 16
norm_cfg = dict(type='BN', requires_grad=True)

model = dict(
    backbone=dict(
        base_channels=width,
        frozen_stages=-1,
        norm_cfg=norm_cfg,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[4 * width, 8 * width, 16 * width, 32 * width], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2), out_channels=64
        ),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=100),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=100)),
)
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='InvalidLossHook')]
