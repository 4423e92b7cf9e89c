# The static demo detector made dynamic by the paper's recipe: it starts from the static weights and
# has the static network as its teacher (Sec. 3.5). `make demo` trains both.
_base_ = './faster_rcnn_r50_demo.py'
max_epochs = 9
static = 'work_dirs/faster_rcnn_r50_demo/epoch_6.pth'
load_from = static

# Adam moves a bias by about its learning rate a step, whatever the gradient. In so short a training
# the maskers' biases would stay at "keep", and rates could fall only by weights that skip where
# activations are strong, that is the objects. So biases start lower and move faster here, and all
# blocks are held near t for longer, while they learn where to compute.
model = dict(
    backbone=dict(
        type='LASResNet', granularity='4-4-2-1', masker=dict(keep_bias=2.0), norm_eval=True
    )
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'masker.conv.bias': dict(lr_mult=20)}))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
custom_hooks = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.6),
    dict(type='SparsityLossHook', target=0.5, duration=0.66),
    dict(
        type='DistillationHook',
        teacher='configs/faster_rcnn_r50_demo.py',
        checkpoint=static,
    ),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2']),
    dict(type='SafeCheckpointHook'),
    dict(type='InvalidLossHook'),
]
