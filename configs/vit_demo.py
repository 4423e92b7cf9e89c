# A small static ViT for the demo digits: what las_vit_demo.py starts from.
_base_ = './_base_/demo_classification.py'
max_epochs = 24
width = 96

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=width, num_layers=4, num_heads=3, feedforward_channels=2 * width),
        img_size=32,
        patch_size=4,
        patch_cfg=dict(conv_type='ConvStem'),  # of plain patches it learns far more slowly
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=width,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        topk=(1, 5),
    ),
)
# Digits have any colour; what tells them from the photograph is how light they are.
smooth = dict(backend='pillow', interpolation='bilinear')
luma = dict(
    type='RandomGrayscale', prob=1.0, keep_channels=True, channel_weights=(0.114, 0.587, 0.299)
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(36, 36), **smooth),
    dict(type='RandomCrop', crop_size=32),
    luma,
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32), **smooth),
    luma,
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
custom_hooks = [dict(type='SafeCheckpointHook'), dict(type='InvalidLossHook')]
