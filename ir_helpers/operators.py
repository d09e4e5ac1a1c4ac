"""The measurement operators A of the book: compressed sensing, a block of a DCT, and tomography.

Images are tensors ``x`` of shape ``(B, *A.image_shape)`` and data are tensors ``y`` of shape ``(B, *A.data_shape)``.
An operator is called like mathematics: ``y = A(x)`` and ``A.T(y)``, for any batch size B.
"""

import math

import numpy as np
import torch

from ir_helpers import tomography
from ir_helpers.arrays import real_array
from ir_helpers.backends import DenseBackend, SparseBackend
from ir_helpers.checks import check_seed, finite, positive_int, shape_of
from ir_helpers.linear_operator import LinearOperator, adjoint_gap, operator_norm

__all__ = [
    "LinearOperator",
    "adjoint_gap",
    "dct_block",
    "from_matrix",
    "gaussian",
    "operator_norm",
    "parallel_beam",
    "with_spectrum",
]

# 16 bytes per nonzero: value and column index in float32/int32, for the matrix and for its transpose.
_LARGEST_MATRIX_BYTES = 2**31


def gaussian(num_measurements, image_shape, seed=0):
    """Return a compressed-sensing operator with independent Gaussian entries A_ij ~ N(0, 1/m).

    The numbers come from NumPy's PCG64 generator in double precision and are then rounded to float32, so the matrix of
    a seed is the same on every machine.

    Parameters
    ----------
    num_measurements : int
        m, number of measurements; ``data_shape`` is (m,).
    image_shape : tuple of int
        (C, H, W).
    seed : int
        Seed of the generator.

    Examples
    --------
    >>> gaussian(100, (1, 28, 28)).data_shape
    (100,)
    """
    m, shape = positive_int("num_measurements", num_measurements), shape_of("image_shape", image_shape)
    check_seed(seed)
    entries = np.random.Generator(np.random.PCG64(seed)).standard_normal((m, math.prod(shape))) / math.sqrt(m)
    return from_matrix(torch.from_numpy(entries.astype(np.float32)), shape)


def dct_block(num_measurements, image_shape):
    """Return an ill-conditioned block of a discrete cosine transform, with condition number 10 to 15.

    m contiguous rows and the first n columns of an orthonormal N × N DCT-II, N > n. With N = n the rows are orthonormal.
    As N grows, n columns see less of each cosine, and the smallest singular values fall. N is the smallest size at
    which the lowest m frequencies reach a condition number of 10; where it jumps past 15 there, the block starts at
    the first row that stays below. It is scaled to the Frobenius norm of ``gaussian(num_measurements, image_shape)``.

    Parameters
    ----------
    num_measurements : int
        m < n; ``data_shape`` is (m,).
    image_shape : tuple of int
        (C, H, W); n = C·H·W.

    Raises
    ------
    ValueError
        If m ≥ n, or no N gives a condition number from 10 to 15 (seen for small n, and for m = 360 of 784).
    """
    m, shape = positive_int("num_measurements", num_measurements), shape_of("image_shape", image_shape)
    n = math.prod(shape)
    if m >= n:
        raise ValueError(f"num_measurements must be below the {n} pixels of image_shape {shape}, got {m}")
    low, high = n, 2 * n  # invariant: the condition number is below 10 at `low`, from 10 up at `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _condition(_dct_rows(m, n, middle, 0)) < 10 else (low, middle)
    for first_row in range(min(high - m, n)):
        block = _dct_rows(m, n, high, first_row)
        if 10 <= _condition(block) <= 15:
            scaled = block * (
                np.linalg.norm(gaussian(m, shape).matrix().double().numpy()) / np.linalg.norm(block)
            )
            return from_matrix(scaled.astype(np.float32), shape)
    raise ValueError(
        f"no DCT block of {m} × {n} has a condition number from 10 to 15: pass a larger image_shape"
    )


def _dct_rows(m, n, size, first_row):
    rows, columns = np.arange(first_row, first_row + m)[:, None], np.arange(n)
    block = np.cos(np.pi / (2 * size) * rows * (2 * columns + 1)) * math.sqrt(2 / size)
    block[rows[:, 0] == 0] /= math.sqrt(2)
    return block


def _condition(block):
    squared = np.linalg.eigvalsh(
        block @ block.T
    )  # of the small Gram matrix: exact enough for numbers near 10
    return math.sqrt(squared[-1] / max(squared[0], np.finfo(float).tiny))


def parallel_beam(image_size, num_angles, *, backend="auto", angle_offset=0.0, axis_shift=0.0):
    """Return the parallel-beam X-ray transform of ASTRA with angles uniform on [0, 180°).

    y[b, 0, k, j] is the line integral of the image over ray j of view k, by the Joseph ("linear") projector. The field
    of view is a square of side 1: a disc of value 1 and diameter 1 has integrals up to 1. Detector bins are as wide as
    pixels, and there are ⌈√2 · image_size⌉ of them, so no ray of the square is missed.

    Parameters
    ----------
    image_size : int
        N; image_shape is (1, N, N).
    num_angles : int
        Number of views; data_shape is (1, num_angles, ⌈√2 N⌉).
    backend : {"auto", "matrix", "astra"}
        "matrix" stores A and its transpose as sparse matrices: exact adjoint, fast on batches. "astra" stores
        nothing: it calls ASTRA's projector on the CPU, and the same one in torch on a GPU (``ir_helpers.joseph``), since
        ASTRA's own GPU pair is not matched. The adjoint is exact in each case.
        "auto" takes the matrix where both copies fit 2 GiB.
    angle_offset : float
        Turns every view by this angle, in radians, at most a full turn.
    axis_shift : float
        Moves the detector against the centre of rotation, in detector bins (pixels), at most by all of them; where
        positive, data move to lower bins.

    References
    ----------
    W. van Aarle et al., "Fast and flexible X-ray tomography using the ASTRA toolbox", Optics Express 24 (2016),
    doi:10.1364/OE.24.025129.
    """
    geometry = tomography.ParallelBeam(
        positive_int("image_size", image_size),
        positive_int("num_angles", num_angles),
        finite("angle_offset", angle_offset),
        finite("axis_shift", axis_shift),
    )
    # ASTRA does not return from numbers that are far too large.
    for name, limit in (("angle_offset", 2 * math.pi), ("axis_shift", geometry.num_detectors)):
        if abs(getattr(geometry, name)) > limit:
            raise ValueError(
                f"{name} must be from {-limit:.4g} to {limit:.4g}, got {getattr(geometry, name)!r}"
            )
    if backend not in ("auto", "matrix", "astra"):
        raise ValueError(f'backend must be "auto", "matrix" or "astra", got {backend!r}')
    if backend == "auto":
        backend = "matrix" if 16 * geometry.expected_nonzeros <= _LARGEST_MATRIX_BYTES else "astra"
    chosen = SparseBackend(geometry.matrix()) if backend == "matrix" else tomography.AstraBackend(geometry)
    return LinearOperator(chosen, geometry.image_shape, geometry.data_shape, geometry=geometry)


def from_matrix(matrix, image_shape):
    """Return the operator y = matrix @ x for an m × n matrix and images of shape ``image_shape``.

    Parameters
    ----------
    matrix : torch.Tensor or numpy.ndarray
        m × n, float32 or float64, finite. Its dtype and device become the operator's.
    image_shape : tuple of int
        (C, H, W) with C·H·W = n.
    """
    shape = shape_of("image_shape", image_shape)
    if isinstance(matrix, np.ndarray) and matrix.dtype in (np.float32, np.float64):
        matrix = torch.from_numpy(
            matrix.copy()
        )  # what happens to the array later is none of the operator's business
    if not isinstance(matrix, torch.Tensor):
        kind = f"an array of {matrix.dtype}" if isinstance(matrix, np.ndarray) else type(matrix).__name__
        raise TypeError(
            f"matrix must be a float32 or float64 tensor or array, got {kind}: pass np.asarray(..., dtype='float32')"
        )
    if matrix.is_meta:
        raise TypeError(
            "matrix is on the device meta, which holds no numbers: pass a tensor of the cpu or a GPU"
        )
    if matrix.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"matrix must be float32 or float64, got {matrix.dtype}: pass matrix.astype('float32')"
        )
    if matrix.ndim != 2 or len(matrix) == 0 or matrix.shape[1] != math.prod(shape):
        raise ValueError(
            f"matrix has shape {tuple(matrix.shape)}, image_shape {shape} needs m × {math.prod(shape)}, m ≥ 1"
        )
    if not torch.isfinite(matrix).all():
        raise ValueError("matrix has NaN or infinite entries: pass a finite one")
    return LinearOperator(DenseBackend(matrix.detach()), shape, (matrix.shape[0],))


def with_spectrum(singular_values, image_shape, seed=0):
    """Return the operator A = U diag(s) Vᵀ with the given singular values and random singular vectors.

    U, m × m, and V, n × m, are the orthogonal factors of Gaussian matrices (of NumPy's PCG64), with the signs that make
    them uniformly distributed. Spectra of one length, shape and seed share their singular vectors.

    Parameters
    ----------
    singular_values : sequence of float
        s > 0, any order; their number is m ≤ n, and ``data_shape`` is (m,).
    image_shape : tuple of int
        (C, H, W); n = C·H·W.
    seed : int
        Seed of the singular vectors.

    Raises
    ------
    ValueError
        If there are more singular values than pixels, or one is not a positive finite number.

    References
    ----------
    The signs: F. Mezzadri, Notices of the AMS 54 (2007), arXiv:math-ph/0609050.

    Examples
    --------
    >>> with_spectrum([0.5, 1.0, 2.0], (1, 4, 4)).singular_values().round(decimals=4).tolist()
    [0.5, 1.0, 2.0]
    """
    shape = shape_of("image_shape", image_shape)
    n, values = math.prod(shape), real_array("singular_values", singular_values, 1)
    if len(values) > n:
        raise ValueError(f"singular_values must be 1 to {n} numbers for {shape}, got shape {values.shape}")
    if not (values > 0).all():
        raise ValueError(f"singular_values must be positive, got a minimum of {values.min()}")
    rng = np.random.Generator(np.random.PCG64(check_seed(seed)))
    V, U = (_orthonormal(rng.standard_normal((size, len(values)))) for size in (n, len(values)))
    return from_matrix(((U * values) @ V.T).astype(np.float32), shape)


def _orthonormal(columns):
    Q, R = np.linalg.qr(columns)
    return Q * np.sign(np.diagonal(R))  # else the signs, and the distribution, are LAPACK's choice
