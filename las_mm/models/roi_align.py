"""RoIAlign on channels-last features.

mmcv's RoIAlign reads features as if they were contiguous, whatever their strides, and so returns
nonsense for the channels-last features of a sparse executor or of an optimized static network.
Importing this module makes it copy such features first; contiguous ones pass as before.
"""

from mmcv.ops import RoIAlign
from torch import Tensor

_forward = RoIAlign.forward


def forward(self: RoIAlign, input: Tensor, rois: Tensor) -> Tensor:
    """mmcv's forward on contiguous features: (N, C, H, W), (K, 5) -> (K, C, h, w)."""
    return _forward(self, input.contiguous(), rois)


RoIAlign.forward = forward
