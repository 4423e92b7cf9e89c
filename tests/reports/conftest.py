"""A backbone to report on."""

import pytest
import torch

from las_mm.models.resnet_mmdet import LASResNet


@pytest.fixture(scope='module')
def backbone() -> LASResNet:
    """Narrow, in eval mode, of which some patches are skipped."""
    torch.manual_seed(0)
    backbone = LASResNet(18, granularity='4-2-2-1', base_channels=8).eval()
    for block in backbone.blocks:
        block.masker.conv.bias.data.zero_()
    return backbone
