# As las_r50_4-4-2-1_demo.py, but blocks are skipped as a whole (LAUDNet); not in make demo.
# Trained further from the static network.
_base_ = './las_r50_4-4-2-1_demo.py'
max_epochs = 5
load_from = 'work_dirs/r50_demo/epoch_12.pth'  # python tools/train.py configs/r50_demo.py

model = dict(backbone=dict(granularity='all'))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
