"""mmpretrain's self-supervised models, tiny, with one of our backbones."""

import torch
from detectors import backbone
from mmengine.registry import MODELS, DefaultScope
from networks import undecided

BACKBONE = dict(backbone(), type='mmpretrain.LASResNet', out_indices=(3,))
NECK = dict(type='NonLinearNeck', in_channels=64, hid_channels=16, out_channels=8)
PREDICTOR = dict(
    type='NonLinearNeck', in_channels=8, hid_channels=8, out_channels=8, with_avg_pool=False
)
PREDICT = dict(
    type='LatentPredictHead', loss=dict(type='CosineSimilarityLoss'), predictor=PREDICTOR
)
CONTRAST = dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'))
QUEUE = dict(queue_len=8, feat_dim=8, momentum=0.01, head=CONTRAST)
ASSIGN = dict(type='SwAVLoss', feat_dim=8, epsilon=0.05, num_crops=[2], num_prototypes=6)
SWAV_NECK = dict(NECK, type='SwAVNeck', norm_cfg=dict(type='BN1d'))
SELF_SUPERVISED = {  # and how many forwards learn in a step of two views
    'MoCo': (1, dict(QUEUE, neck=dict(NECK, type='MoCoV2Neck'))),
    'DenseCL': (1, dict(QUEUE, neck=dict(NECK, type='DenseCLNeck'))),
    'BYOL': (2, dict(neck=NECK, head=PREDICT)),
    'SimSiam': (2, dict(neck=NECK, head=PREDICT)),
    'SimCLR': (1, dict(neck=NECK, head=CONTRAST)),
    'SwAV': (1, dict(neck=SWAV_NECK, head=dict(type='SwAVHead', loss=ASSIGN))),
}


def self_supervised(name: str, **options) -> torch.nn.Module:
    """The model of that name, whose maskers decide about half of the patches."""
    config = dict(SELF_SUPERVISED[name][1], type=f'mmpretrain.{name}', backbone=BACKBONE, **options)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return undecided(MODELS.build(config)).train()
