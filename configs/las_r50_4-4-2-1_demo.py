# A narrow LAS-ResNet-50 that learns to classify the demo digits from scratch on two CPU cores.
_base_ = './r50_demo.py'

model = dict(backbone=dict(type='LASResNet', granularity='4-4-2-1', masker=dict(keep_bias=2.0)))
# As in faster_rcnn_las_r50_4-4-2-1_demo.py, so that a short training finds where to compute.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masker.conv.bias': dict(lr_mult=20)}))
custom_hooks = _base_.las_hooks
