"""How a linear operator is carried out: dense matrix, sparse matrix, and the rule that makes it differentiable."""

import copy
import warnings

import torch


class _Apply(torch.autograd.Function):
    """u ↦ L u with gradient g ↦ Lᵀ g; both directions go through this class, so derivatives of any order exist."""

    @staticmethod
    def forward(ctx, u, apply, adjoint):
        ctx.maps = apply, adjoint
        # An operator keeps its precision where layers are computed in half of it: in backward passes too, which no caller sees.
        with torch.autocast(u.device.type, enabled=False):
            return apply(u)

    @staticmethod
    def backward(ctx, gradient):
        apply, adjoint = ctx.maps
        return _Apply.apply(gradient, adjoint, apply), None, None

    @staticmethod
    def jvp(ctx, tangent, _apply, _adjoint):
        apply, adjoint = ctx.maps
        return _Apply.apply(tangent, apply, adjoint)


def apply_linear(u, apply, adjoint):
    """Return ``apply(u)`` for a batch of flat vectors, differentiable by means of ``adjoint``."""
    return _Apply.apply(u, apply, adjoint)


class DenseBackend:
    """y = M x with a dense m × n tensor M; batches are rows."""

    def __init__(self, dense):
        self._dense = dense
        self.dtype, self.device = dense.dtype, dense.device

    def forward(self, u):
        return u @ self._dense.T

    def adjoint(self, v):
        return v @ self._dense

    def matrix(self):
        return self._dense

    def to(self, device_or_dtype):
        moved = self._dense.to(device_or_dtype)
        return self if moved is self._dense else DenseBackend(moved)

    def __repr__(self):
        return "dense matrix"


class SparseBackend:
    """y = M x with a SciPy CSR matrix M, kept as two torch CSR tensors.

    The transpose is stored too: the product with an untransposed CSR matrix is several times faster than with a
    transposed one, and both hold the same numbers, so the adjoint is exact.
    """

    def __init__(self, scipy_csr):
        self._forward, self._adjoint = _torch_csr(scipy_csr), _torch_csr(scipy_csr.T.tocsr())
        self.dtype, self.device = self._forward.dtype, self._forward.device

    def forward(self, u):
        return _sparse_product(self._forward, u)

    def adjoint(self, v):
        return _sparse_product(self._adjoint, v)

    def matrix(self):
        return self._forward

    def to(self, device_or_dtype):
        moved = self._forward.to(device_or_dtype)
        if moved is self._forward:
            return self
        other = copy.copy(self)
        other._forward, other._adjoint = moved, self._adjoint.to(device_or_dtype)
        other.dtype, other.device = moved.dtype, moved.device
        return other

    def __repr__(self):
        return "sparse matrix"


def _sparse_product(matrix, rows):
    if len(rows) == 1 or (rows.is_cuda and len(rows) <= _few(matrix)):
        return torch.stack([matrix @ row for row in rows])
    # Contiguous columns: cuSPARSE is several times slower on the transposed view of rows; a CPU does not care.
    return (matrix @ rows.T.contiguous()).T


def _few(matrix):
    """Return how many products with one vector a GPU finishes before a product with as many columns.

    There two columns take nearly as long as thirty-two. Measured for 10⁶ to 7·10⁷ entries: 2, 6, 12, 15 vectors.
    """
    entries = len(matrix.values())
    return 16 * entries // (entries + 6_000_000)


def _torch_csr(scipy_csr):
    with warnings.catch_warnings():
        # torch announces on first use that CSR is in beta and that its entries are not checked: SciPy's are valid.
        warnings.filterwarnings(
            "ignore", message="Sparse (CSR tensor support|invariant checks)", category=UserWarning
        )
        parts = [torch.from_numpy(part) for part in (scipy_csr.indptr, scipy_csr.indices, scipy_csr.data)]
        return torch.sparse_csr_tensor(*parts, size=scipy_csr.shape)
