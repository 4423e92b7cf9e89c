"""Convolutions that make the tokens of a vision transformer."""

from torch import nn


class ConvStem(nn.Sequential):
    """3×3 convolutions of stride 2, then a 1×1 one, in the place of a patch embedding's only one.

    A vision transformer so begins to learn far earlier, on small data sets above all (Xiao et al.,
    Early convolutions help transformers see better). It is an option of static and dynamic ones,
    ``patch_cfg=dict(conv_type='ConvStem')``. Each 3×3 convolution is followed by a batch norm and
    ReLU; the last has C channels, each before it half as many as the next.

    Args:
        in_channels: Of the image.
        out_channels: C, of a token.
        kernel_size: As stride.
        stride: Edge of a patch in pixels, a power of two.
        padding, dilation: Those of an ordinary patch embedding, 0 and 1.
        bias: Whether the 1×1 convolution has one.

    Raises:
        ValueError: If patches overlap, are not square, or their edge is no power of two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        bias: bool = True,
    ) -> None:
        edge = stride[0]
        plain = kernel_size == stride == (edge, edge) and (padding, dilation) == ((0, 0), (1, 1))
        if not plain or edge < 2 or edge & (edge - 1):
            raise ValueError(
                f'patch_size: got {kernel_size} pixels every {stride}; with ConvStem choose one '
                'power of two, such as 8, for both, without padding or dilation'
            )
        layers: list[nn.Module] = []
        count = edge.bit_length() - 1
        for index in range(count):
            channels = out_channels >> (count - 1 - index)
            conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            in_channels = channels
        super().__init__(*layers, nn.Conv2d(in_channels, out_channels, 1, bias=bias))
        self.stride = stride
