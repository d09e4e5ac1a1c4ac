"""Reconstruct the most probable image of a smooth world; public as `classical.smooth_inverse`."""

import math
from weakref import WeakKeyDictionary

import torch

from ir_helpers.backends import apply_linear
from ir_helpers.linear_operator import check_data

__all__ = ["smooth_inverse"]

_DECAY = 1.5  # of the variance, with the square of the frequency
_COLOUR = 0.1  # variance of what differs between channels, relative to their mean
_NOISE = 1e-3  # variance of errors in the data, relative to that of the data
_LARGEST = 2**27  # numbers in each matrix that is made: 1 GB in float64
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
        Measurements times pixels, and measurements squared, are at most 2²⁷: the matrix of y ↦ x₀ is made when A is first used
        here, and kept.
    y : torch.Tensor
        (B, \\*A.data_shape).

    Returns
    -------
    torch.Tensor
        Shape (B, \\*A.image_shape); linear in y, and differentiable.

    Raises
    ------
    ValueError
        If ``y`` has another shape, or A is larger.

    References
    ----------
    The law of natural images: D. J. Field, J. Opt. Soc. Am. A 4 (1987), doi:10.1364/JOSAA.4.002379.
    """
    check_data(A, y)
    if len(A.image_shape) != 3:
        raise ValueError(f"A must have images of shape (C, H, W) for a smooth inverse, got {A.image_shape}")
    if A not in _known:
        with torch.inference_mode(False):  # else later gradients could not use what is kept
            _known[A] = _matrix(A)
    matrix = _known[A]
    flat = apply_linear(y.flatten(1), lambda data: data @ matrix, lambda images: images @ matrix.T)
    return flat.reshape(-1, *A.image_shape)


@torch.no_grad()
def _matrix(A):
    """Return the image x₀ of each unit vector of data, in rows.

    Computed in float64, and as a whole: A C Aᵀ + μ I has a condition number up to 1000 m, so its inverse turns single
    precision into an error of 1e-4, which is seen where f(y + δ) is compared with f(y).
    """
    m, n = math.prod(A.data_shape), math.prod(A.image_shape)
    if m * max(m, n) > _LARGEST:
        raise ValueError(
            f"A must be smaller for a smooth inverse, which makes matrices of at most {_LARGEST} numbers; "
            f"got {m} measurements of {n} pixels"
        )
    B = A.to(torch.float64)
    units = torch.eye(m, dtype=B.dtype, device=B.device).reshape(m, *B.data_shape).split(_BLOCK)
    images = torch.cat([_covariance(B.T(block)) for block in units])  # C Aᵀ, one measurement in a row
    covariance = torch.cat([B(block).flatten(1) for block in images.split(_BLOCK)])
    covariance.diagonal().add_(_NOISE * covariance.diagonal().mean())
    matrix = torch.cholesky_solve(images.flatten(1), torch.linalg.cholesky(covariance))
    return matrix.to(A.dtype).contiguous()


def _covariance(images):
    """Return C x for images (B, C, H, W)."""
    height, width = images.shape[2:]
    k, l = torch.arange(height)[:, None], torch.arange(width)
    tensors = ((1.0 + k**2 + l**2).double() ** -_DECAY, _cosines(height), _cosines(width))
    variance, down, across = (tensor.to(images) for tensor in tensors)
    smooth = down.T @ (variance * (down @ images @ across.T)) @ across
    grey = smooth.mean(1, keepdim=True)
    return grey + _COLOUR * (smooth - grey)


def _cosines(size):
    """Return the orthonormal matrix of the discrete cosine transform, frequencies in rows."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * k[:, None] * (k + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix
