# As laud_r50_layer_demo.py, but channels are skipped, two and two (LAUDNet); not in make demo.
_base_ = './r50_demo.py'
max_epochs = 5
load_from = 'work_dirs/r50_demo/epoch_12.pth'  # python tools/train.py configs/r50_demo.py

# Norms keep the static network's statistics: those of a batch would be of channels that are hardly
# ever active, and a variance near zero makes gradients explode.
model = dict(
    backbone=dict(type='LASResNet', granularity=None, channel_groups='2-2-2-2', norm_eval=True)
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
custom_hooks = _base_.las_hooks
