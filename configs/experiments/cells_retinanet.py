# RetinaNet with narrow heads on blood cells.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './_cells.py']

model = dict(
    data_preprocessor={{_base_.data_preprocessor}},
    backbone={{_base_.backbone}},
    neck={{_base_.neck}},
    bbox_head=dict(num_classes=3, in_channels=128, feat_channels=128, stacked_convs=2),
)
