"""The convolutional network of the book: a U-Net small enough to train on one GPU in a minute."""

import math
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ir_helpers.checks import positive_int

__all__ = ["UNet", "conv_norm"]

_NORMS = {"none": nn.Identity, "batch": nn.BatchNorm2d}


class UNet(nn.Module):
    """An image-to-image network that works at several resolutions and passes fine detail around the coarse ones.

    Each of the ``levels`` has a block of two 3 × 3 convolutions with ReLU on the way down, and but for the coarsest one on the
    way up. Going down halves the image by 2 × 2 maxima and doubles the channels; going up repeats pixels and joins the
    block's own output from the way down. A last 1 × 1 convolution makes the image; nothing limits its values, since a
    saturated output would hide gradients from an attack.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image that enters and of the one that leaves.
    width : int
        Channels of the finest level.
    levels : int
        Number of resolutions. Height and width of the images must be divisible by 2 ** (levels − 1).
    norm : {"none", "batch"}
        What follows each 3 × 3 convolution: nothing, or batch normalisation as in FBPConvNet.
    fold : int
        The network sees blocks of fold × fold pixels as channels of a smaller image: the same reach for a fraction of the
        work. Height and width must be divisible by fold as well.

    References
    ----------
    O. Ronneberger, P. Fischer and T. Brox, "U-Net", MICCAI 2015, arXiv:1505.04597. FBPConvNet: K. H. Jin et al., IEEE Trans.
    Image Process. 26 (2017), doi:10.1109/TIP.2017.2713099.

    Examples
    --------
    >>> UNet(width=8)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(self, in_channels=1, out_channels=1, *, width=24, levels=3, norm="none", fold=1):
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {norm!r}")
        self.settings = {
            "in_channels": positive_int("in_channels", in_channels),
            "out_channels": positive_int("out_channels", out_channels),
            "width": positive_int("width", width),
            "levels": positive_int("levels", levels),
            "norm": norm,
            "fold": positive_int("fold", fold),
        }
        widths = [width * 2**level for level in range(levels)]
        entries = [in_channels * fold**2, *widths[:-1]]
        self.down = nn.ModuleList(_block(*pair, norm) for pair in zip(entries, widths, strict=True))
        self.up = nn.ModuleList(_block(fine + coarse, fine, norm) for fine, coarse in pairwise(widths))
        self.last = nn.Conv2d(width, out_channels * fold**2, 1)
        self.pool, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")
        self.fold, self.unfold = nn.PixelUnshuffle(fold), nn.PixelShuffle(fold)

    def forward(self, image):
        """Return an image (B, out_channels, H, W) for one of shape (B, in_channels, H, W)."""
        self._check(image)
        image, passed = self.fold(image), []
        for block in self.down:
            image = block(self.pool(image) if passed else image)
            passed.append(image)
        image = passed.pop()
        for block in reversed(self.up):
            image = block(torch.cat([passed.pop(), self.grow(image)], 1))
        return self.unfold(self.last(image))

    def _check(self, image):
        weight = self.last.weight
        if not isinstance(image, torch.Tensor) or not image.is_floating_point():
            kind = image.dtype if isinstance(image, torch.Tensor) else type(image).__name__
            raise TypeError(f"image must be a floating-point torch.Tensor, got {kind}")
        if image.device != weight.device or (
            image.dtype != weight.dtype and not torch.is_autocast_enabled(image.device.type)
        ):
            raise TypeError(
                f"image is {image.dtype} on {image.device}, the network {weight.dtype} on {weight.device}: pass image.to(...)"
            )
        multiple = self.settings["fold"] * 2 ** (self.settings["levels"] - 1)
        channels = self.settings["in_channels"]
        if (
            image.ndim != 4
            or image.shape[1] != channels
            or image.numel() == 0
            or any(size % multiple for size in image.shape[2:])
        ):
            raise ValueError(
                f"image must have shape (B, {channels}, H, W) with H and W divisible by {multiple}, "
                f"got {tuple(image.shape)}"
            )

    def lipschitz_bound(self):
        """Return a number L with ‖network(u) − network(v)‖₂ ≤ L ‖u − v‖₂ for all images u and v, in evaluation mode.

        Folding, maxima over 2 × 2 pixels and ReLU do not lengthen a difference, repeating each pixel four times doubles it, and
        joining maps of Lipschitz constants a and b gives √(a² + b²). Convolutions are bounded by ``conv_norm``. The
        product of layer bounds is far above the true constant: it certifies, it does not predict.
        """
        down, up = ([_block_bound(block) for block in blocks] for blocks in (self.down, self.up))
        bound = down[-1]
        for enter, leave in zip(reversed(down[:-1]), reversed(up), strict=True):
            bound = leave * math.sqrt(1 + (2 * bound) ** 2) * enter
        return bound * conv_norm(self.last)


def conv_norm(layer):
    """Return an upper bound on the operator norm of a convolution or linear layer, without its offset.

    A convolution multiplies the matrix W, shape (out, in · k²), with each k × k patch. A pixel lies in k² patches (fewer
    with a stride), so the patches together are at most k times as long as the image, and ‖layer‖ ≤ k ‖W‖₂.

    Raises
    ------
    TypeError
        If the layer is neither a Linear nor a Conv2d.
    ValueError
        If the convolution pads with mirrored or repeated pixels: those lie in more patches.
    """
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise TypeError(f"layer must be a torch.nn.Linear or Conv2d, got {type(layer).__name__}")
    if getattr(layer, "padding_mode", "zeros") not in ("zeros", "circular"):
        raise ValueError(f"layer must pad with zeros or cyclically, not with {layer.padding_mode!r}")
    kernel = math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1
    norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1).double(), ord=2)
    return math.sqrt(kernel) * norm.item()


class _Block(nn.Sequential):
    """Two convolutions, each followed by its norm and ReLU.

    In evaluation mode batch normalisation multiplies each channel by a number and adds another. The convolution does both, so
    an attack need not go through the image twice more for every layer.
    """

    def forward(self, image):
        if self.training or not isinstance(self[1], nn.BatchNorm2d):
            return super().forward(image)
        for convolution, norm, rectify in (self[:3], self[3:]):
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, offset = (
                scale[:, None, None, None] * convolution.weight,
                norm.bias - scale * norm.running_mean,
            )
            image = rectify(functional.conv2d(image, weight, offset, padding=convolution.padding))
        return image


def _block(entering, leaving, norm):
    layers = []
    for channels in (entering, leaving):
        offset = norm == "none"  # batch normalisation brings its own
        layers += [nn.Conv2d(channels, leaving, 3, padding=1, bias=offset), _NORMS[norm](leaving), nn.ReLU()]
    return _Block(*layers)


def _block_bound(block):
    bound = 1.0
    for layer in block:
        if isinstance(layer, nn.Conv2d):
            bound *= conv_norm(layer)
        if isinstance(layer, nn.BatchNorm2d):
            scale = layer.weight.detach() / (layer.running_var + layer.eps).sqrt()
            bound *= scale.abs().max().item()
    return bound
