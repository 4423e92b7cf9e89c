# LAUD-DeiT-S Mask R-CNN on COCO, token skipping, t = 0.6: ViTDet's neck on a plain transformer.
#
# A skipped token keeps its value and can come back in a later layer, so that the last map is whole.
# Attention is global; positions are resized to the images' size.
_base_ = ['mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', './_base_/las_coco.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.LASVisionTransformer',
        arch='deit-small',
        policies=['tokens'],
        img_size=224,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/deit/'
            'deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth',
        ),
    ),
    neck=dict(_delete_=True, type='SimpleFeaturePyramid', in_channels=384),
)
# ViTDet's optimizer, at mmdet's batch of 16.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='SparsityLossHook', target=0.6, bounded='flops_ratio'),
]
