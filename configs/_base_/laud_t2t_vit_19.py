# LAUD-T2T-ViT-19: AdaViT's recipe with LAUDNet's temperature, FLOPs target and teacher. The targets
# behind the figure's points are not published; t of the configs is, to the next .05, F_dyn / F_stat
# at the rates for which the released predictor gives the figure's latencies.
_base_ = ['mmpretrain::_base_/models/t2t-vit-t-19.py', './vit_imagenet.py']
load_from = 'https://download.openmmlab.com/mmclassification/v0/t2t-vit/'
load_from += 't2t-vit-t-19_8xb64_in1k_20211214-7f5e3aaf.pth'

model = dict(backbone=dict(type='LAST2T_ViT'))
laud_hooks = [
    *_base_.vit_hooks,
    dict(type='GumbelTemperatureHook', start=5.0, end=0.1),
    dict(type='DistillationHook', teacher='configs/t2t-vit-19_imagenet.py', checkpoint=load_from),
]
