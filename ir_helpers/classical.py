"""Reconstruction by formula: pseudo-inverse, filtered back-projection, Tikhonov, smooth images and total variation.

Every function takes the operator first and the data last, works on batches, and is differentiable in the data, so the
attacks of ``ir_helpers.attacks`` apply to these methods as they do to networks.
"""

import functools
import math

import numpy as np
import torch

from ir_helpers.backends import apply_linear
from ir_helpers.checks import is_real, positive, positive_int
from ir_helpers.linear_operator import check_data
from ir_helpers.operators import operator_norm
from ir_helpers.per_sample import powers_of_two, spread
from ir_helpers.smooth import smooth_inverse

__all__ = ["fbp", "pseudo_inverse", "smooth_inverse", "tikhonov", "total_variation"]

_LARGEST_DENSE = 2**24  # entries; the SVD of a larger matrix takes minutes on a laptop


def pseudo_inverse(A, y, *, rtol=1e-6):
    """Return the minimum-norm least-squares solution x = A⁺ y, by an SVD in double precision.

    With A = Σ s_i u_i v_iᵀ it is x = Σ_{s_i > rtol · s_max} v_i (u_iᵀ y) / s_i: components of y are divided by s_i, so
    small singular values amplify what is not signal.

    Parameters
    ----------
    A : LinearOperator
        With a stored matrix of at most 2²⁴ entries.
    y : torch.Tensor
        (B, \\*A.data_shape).
    rtol : float
        Singular values at or below rtol times the largest count as zero (truncated SVD where it is large).

    Returns
    -------
    torch.Tensor
        (B, \\*A.image_shape).

    Raises
    ------
    ValueError
        If A is too large for an SVD: use ``fbp`` or ``tikhonov``.
    """
    check_data(A, y)
    if not (is_real(rtol) and 0 <= rtol < 1):
        raise ValueError(f"rtol must be in [0, 1), got {rtol!r}")
    m, n = math.prod(A.data_shape), math.prod(A.image_shape)
    if m * n > _LARGEST_DENSE:
        raise ValueError(f"A is {m} × {n}, too large for an SVD: use fbp or tikhonov, or a smaller geometry")
    inverse = torch.linalg.pinv(A.matrix().to_dense().double(), rtol=rtol)
    return (y.reshape(len(y), -1).double() @ inverse.T).to(y.dtype).reshape(-1, *A.image_shape)


def fbp(A, y, *, window="ramp"):
    """Return the filtered back-projection of parallel-beam data.

    Each view is convolved with the ramp filter and smeared back: x = (π / K) Aᵀ(h ∗ y) · N² / N for K views of an N × N
    image on a field of view of side 1. The filter is the discrete Fourier transform of its exact band-limited samples
    h(0) = 1/4, h(k) = −1/(πk)² for odd k, 0 for even k (Kak and Slaney, section 3.3), which keeps the mean value right;
    the ramp sampled in frequency would not.

    Parameters
    ----------
    A : LinearOperator
        Made by ``operators.parallel_beam``.
    y : torch.Tensor
        (B, 1, angles, detectors).
    window : {"ramp", "shepp-logan", "hann"}
        Damping of high frequencies: none, sinc, raised cosine.

    Raises
    ------
    ValueError
        If A is not a tomography operator or the window is unknown.

    References
    ----------
    A. C. Kak and M. Slaney, *Principles of Computerized Tomographic Imaging*, SIAM 2001, doi:10.1137/1.9780898719277.
    """
    check_data(A, y)
    if A.geometry is None:
        raise ValueError("fbp needs an operator made by operators.parallel_beam; this one has no geometry")
    detectors, size = A.geometry.num_detectors, A.geometry.image_size
    padded = 2 ** math.ceil(math.log2(2 * detectors))  # linear, not circular, convolution
    response = _ramp(padded, window, y.device, y.dtype)
    filtered = torch.fft.irfft(torch.fft.rfft(y, n=padded) * response, n=padded)[..., :detectors]
    # Aᵀ smears each view with weight 1/N per pixel, and the samples h are those of a detector of pitch 1/N.
    return A.T(filtered.contiguous()) * (math.pi * size**2 / A.geometry.num_angles)


@functools.lru_cache(maxsize=16)
def _ramp(padded, window, device, dtype):
    """Return the filter's response at the frequencies of ``rfft``; kept, since training asks for it in every step."""
    distance = np.minimum(np.arange(padded), padded - np.arange(padded))
    samples = np.zeros(padded)
    samples[0] = 0.25
    samples[distance % 2 == 1] = -1 / (np.pi * distance[distance % 2 == 1]) ** 2
    frequency = np.fft.rfftfreq(padded)  # cycles per detector bin, 0 to 1/2
    windows = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency),
        "hann": np.cos(np.pi * frequency) ** 2,
    }
    if window not in windows:
        raise ValueError(f"window must be one of {sorted(windows)}, got {window!r}")
    with torch.inference_mode(False):  # the first call must not make a tensor that later gradients cannot use
        return torch.from_numpy(np.fft.rfft(samples).real * windows[window]).to(device, dtype)


def tikhonov(A, y, weight, *, iterations=100, tolerance=1e-6):
    """Return the Tikhonov solution, the minimiser of ‖Ax − y‖² + weight · ‖x‖².

    It is x = (AᵀA + weight·I)⁻¹ Aᵀ y, with filter factors s/(s² + weight) in place of 1/s. Solved by conjugate gradients
    on the normal equations, from zero, without ever forming a matrix.

    Parameters
    ----------
    A : LinearOperator
    y : torch.Tensor
        (B, \\*A.data_shape).
    weight : float
        Positive. In units of squared singular values of A.
    iterations, tolerance : int, float
        Stop after so many steps, or when the residual of the normal equations fell by that factor for every image.
    """
    check_data(A, y)
    positive("weight", weight)
    positive_int("iterations", iterations)
    positive("tolerance", tolerance)

    def normal_inverse(b):
        scale = powers_of_two(b)  # the energies below are squares
        b = b / scale
        x = torch.zeros_like(b)
        r, p = b, b
        energy = first = r.square().sum(1, keepdim=True)
        for _ in range(iterations):
            if (energy <= tolerance**2 * first).all():
                break
            q = A.T(A(p.reshape(-1, *A.image_shape))).flatten(1) + weight * p
            step = energy / (p * q).sum(1, keepdim=True).clamp_min(torch.finfo(b.dtype).tiny)
            x, r = x + step * p, r - step * q
            energy, previous = r.square().sum(1, keepdim=True), energy
            p = r + energy / previous.clamp_min(torch.finfo(b.dtype).tiny) * p
        return scale * x

    # (AᵀA + w)⁻¹ is its own adjoint: its gradient is one more solve, not a walk back through the iterations.
    return apply_linear(A.T(y).flatten(1), normal_inverse, normal_inverse).reshape(-1, *A.image_shape)


def total_variation(A, y, weight, *, iterations=200):
    """Return the minimiser of ½‖Ax − y‖² + weight · TV(x) over x ≥ 0, after so many primal–dual steps.

    TV(x) = Σ_pixels ‖∇x‖₂ with forward differences (isotropic). The algorithm is Chambolle and Pock's with step sizes
    from the norm of the stacked operator (A, c∇); c = ‖A‖/√8 balances its two blocks. All steps are torch operations,
    so the result can be differentiated by unrolling.

    Parameters
    ----------
    A : LinearOperator
    y : torch.Tensor
        (B, \\*A.data_shape).
    weight : float
        Positive; larger is smoother.
    iterations : int
        Number of steps, from zero. 200 are enough for scans with weights up to 1e-3 (objective within 0.1 %); heavy
        weights, of 0.05 and more for A = I, need several times as many.

    References
    ----------
    A. Chambolle and T. Pock, J. Math. Imaging Vis. 40 (2011), doi:10.1007/s10851-010-0251-1.
    """
    check_data(A, y)
    positive("weight", weight)
    positive_int("iterations", iterations)
    norm = 1.02 * operator_norm(A, steps=20)  # power iteration falls slightly short of the norm
    if norm == 0:
        raise ValueError("A maps every image to 0: there is nothing to reconstruct from")
    balance, step = norm / math.sqrt(8), 0.99 / (math.sqrt(2) * norm)
    # Images are of size 1 and residuals small, so primal steps are taken longer than dual ones (measured: 10 to 1).
    primal, dual = step * 10, step / 10
    # The solution for c·y and c·weight is c times that for y and weight.
    units = powers_of_two(y).flatten()[:, None, None, None]
    y, limit = y / spread(units, y), weight / balance / units
    x = torch.zeros(len(y), *A.image_shape, dtype=y.dtype, device=y.device)
    ahead, data_dual, edge_dual = x, torch.zeros_like(y), torch.zeros_like(_gradient(x))
    for _ in range(iterations):
        data_dual = (data_dual + dual * (A(ahead) - y)) / (1 + dual)
        edge_dual = edge_dual + dual * balance * _gradient(ahead)
        length = edge_dual.square().sum(0, keepdim=True).clamp_min(torch.finfo(y.dtype).tiny).sqrt()
        edge_dual = edge_dual * (limit * length.reciprocal()).clamp_max(1)
        previous, x = x, (x - primal * (A.T(data_dual) - balance * _divergence(edge_dual))).clamp_min(0)
        ahead = 2 * x - previous
    return x * units


def _gradient(x):
    """Forward differences, shape (2, \\*x.shape), zero across the last row and column."""
    down = torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = torch.nn.functional.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
    return torch.stack([down, right])


def _divergence(p):
    """Minus the adjoint of ``_gradient``."""
    down, right = p[0][..., :-1, :], p[1][..., :, :-1]
    pad = torch.nn.functional.pad
    return pad(down, (0, 0, 0, 1)) - pad(down, (0, 0, 1, 0)) + pad(right, (0, 1)) - pad(right, (1, 0))
