# The static demo detector made dynamic by the paper's recipe: it starts from the static weights and
# has the static network as its teacher (Sec. 3.5). `make demo` trains both.
_base_ = './faster_rcnn_r50_demo.py'
max_epochs = 10
static = 'work_dirs/faster_rcnn_r50_demo/epoch_8.pth'
load_from = static

model = dict(backbone=dict(type='LASResNet', granularity='4-4-2-1', norm_eval=True))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
custom_hooks = [
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1, noise_until=0.6),
    dict(type='SparsityLossHook', target=0.5),
    dict(
        type='DistillationHook',
        teacher='configs/faster_rcnn_r50_demo.py',
        checkpoint=static,
    ),
    dict(type='LatencyReportHook', devices=['v100', 'gtx1080', 'tx2']),
    dict(type='SafeCheckpointHook'),
]
