"""Reconstruct the most probable image of a smooth world; public as `classical.smooth_inverse`."""

import math
from weakref import WeakKeyDictionary

import torch

from ir_helpers.linear_operator import check_data

__all__ = ["smooth_inverse"]

_DECAY = 1.5  # of the variance, with the square of the frequency
_COLOUR = 0.1  # variance of what differs between channels, relative to their mean
_NOISE = 1e-3  # variance of errors in the data, relative to that of the data
_LARGEST = 8192  # measurements: a matrix of m × m is inverted

_BLOCK = 512  # columns of the identity that A takes at once

_known = WeakKeyDictionary()  # by operator: made in its first call, kept as long as it lives


def smooth_inverse(A, y):
    """Return the mean of x given y = A x + noise, if x were normal with mean zero and a covariance C of smooth images.

        x₀ = C Aᵀ (A C Aᵀ + μ I)⁻¹ y

    C is diagonal in the frequencies (k, l) of the discrete cosine transform, with the variance (1 + k² + l²)^(−3/2); differences
    between colours have a tenth of it. Natural images are near this law, so nothing is learnt here. μ is a thousandth of the
    mean variance of the data. It is Tikhonov's method with the norm ‖C^(−1/2) x‖ in place of ‖x‖.

    Parameters
    ----------
    A : LinearOperator
        With at most 8192 measurements: the m × m matrix is made and inverted when A is first used here, and kept.
    y : torch.Tensor
        (B, \\*A.data_shape).

    Returns
    -------
    torch.Tensor
        Shape (B, \\*A.image_shape); linear in y, and differentiable.

    Raises
    ------
    ValueError
        If ``y`` has another shape, or A more measurements.

    References
    ----------
    The law of natural images: D. J. Field, J. Opt. Soc. Am. A 4 (1987), doi:10.1364/JOSAA.4.002379.
    """
    check_data(A, y)
    if len(A.image_shape) != 3:
        raise ValueError(f"A must have images of shape (C, H, W) for a smooth inverse, got {A.image_shape}")
    if A not in _known:
        with torch.inference_mode(False):  # else later gradients could not use what is kept
            _known[A] = _Prior(A.image_shape, A.dtype, A.device), _inverse(A)
    prior, inverse = _known[A]
    return prior.covariance(A.T((y.flatten(1) @ inverse).reshape(y.shape)))


@torch.no_grad()
def _inverse(A):
    """Return (A C Aᵀ + μ I)⁻¹, computed in float64: its condition number is up to 1000 m."""
    m = math.prod(A.data_shape)
    if m > _LARGEST:
        raise ValueError(f"A must have at most {_LARGEST} measurements for a smooth inverse, got {m}")
    B = A.to(torch.float64)
    prior = _Prior(B.image_shape, B.dtype, B.device)
    units = torch.eye(m, dtype=B.dtype, device=B.device).reshape(m, *B.data_shape).split(_BLOCK)
    covariance = torch.cat([B(prior.covariance(B.T(block))).flatten(1) for block in units])
    covariance.diagonal().add_(_NOISE * covariance.diagonal().mean())
    return torch.cholesky_inverse(torch.linalg.cholesky(covariance)).to(A.dtype)


class _Prior:
    """The covariance C of smooth images, by cosine transforms whose matrices wait on the device."""

    def __init__(self, image_shape, dtype, device):
        _, height, width = image_shape
        k, l = torch.arange(height)[:, None], torch.arange(width)
        variance = (1.0 + k**2 + l**2).double() ** -_DECAY
        tensors = (variance, _cosines(height), _cosines(width))
        self.variance, self.down, self.across = (tensor.to(device, dtype) for tensor in tensors)

    def covariance(self, images):
        """Return C x for images (B, C, H, W)."""
        spectrum = self.variance * (self.down @ images @ self.across.T)
        smooth = self.down.T @ spectrum @ self.across
        grey = smooth.mean(1, keepdim=True)
        return grey + _COLOUR * (smooth - grey)


def _cosines(size):
    """Return the orthonormal matrix of the discrete cosine transform, frequencies in rows."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
