# ImageNet and LAUDNet's recipe: LASNet's at a batch of 1024 (8 GPUs x 128), lr 0.02 x batch / 256,
# with maskers at the backbone's rate.
_base_ = './imagenet.py'
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    optimizer=dict(lr=0.08), paramwise_cfg=dict(custom_keys=dict(masker=dict(lr_mult=1.0)))
)
auto_scale_lr = dict(base_batch_size=1024)
