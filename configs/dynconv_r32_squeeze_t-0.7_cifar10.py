# DynConv in ResNet-32 on CIFAR-10 by its own recipe (Verelst and Tuytelaars), s = 0.7.
_base_ = './r32_cifar10.py'

model = dict(backbone=dict(type='LASResNetCIFAR', granularity='1-1-1', masker=dict(kind='squeeze')))
custom_hooks = [
    *_base_.dynconv_hooks,
    dict(
        type='SparsityLossHook',
        target=0.7,
        bounded='flops_ratio',
        counted='branches',
        by_epoch=True,
    ),
]
