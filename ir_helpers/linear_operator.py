"""A linear operator with an exact adjoint that takes part in automatic differentiation."""

import math

import torch

from ir_helpers.backends import apply_linear
from ir_helpers.checks import check_batch, check_seed, positive_int, shape_of
from ir_helpers.per_sample import normalised, norms, powers_of_two

# Above this number of entries a dense copy of a sparse operator (in float64) no longer fits a small laptop.
_LARGEST_DENSE = 2**27


class LinearOperator:
    """A linear map A from images to data, with its exact adjoint ``A.T``.

    Calling the operator computes y = A x for each image of a batch. The adjoint is also what backward passes use, so
    gradients through A are exact, to any order. Operators are immutable: ``A.to(...)`` returns a new one.

    Parameters
    ----------
    backend : object
        Has ``forward``, ``adjoint``, ``to`` and ``matrix``, on flattened batches; see ``ir_helpers.backends``.
    image_shape : tuple of int
        Shape (C, H, W) of one image x; n = C·H·W.
    data_shape : tuple of int
        Shape of one measurement y; its product is m.
    geometry : ParallelBeam, optional
        What filtered back-projection needs to know of a scan; None for other operators.
    """

    def __init__(self, backend, image_shape, data_shape, *, geometry=None):
        self.backend = backend
        self.image_shape = shape_of("image_shape", image_shape)
        self.data_shape = shape_of("data_shape", data_shape)
        if not callable(getattr(backend, "forward", None)) or not callable(getattr(backend, "adjoint", None)):
            raise TypeError(
                f"backend must have forward and adjoint, got {type(backend).__name__}: "
                "use operators.from_matrix for a matrix"
            )
        self.geometry = geometry
        self.T = _Adjoint(self)

    def __call__(self, x):
        """Return A x, shape (B, \\*data_shape)."""
        flat = self._checked("x", x, self.image_shape)
        y = apply_linear(flat, self.backend.forward, self.backend.adjoint)
        return y.reshape(len(x), *self.data_shape)

    def _adjoint(self, y):
        flat = self._checked("y", y, self.data_shape)
        x = apply_linear(flat, self.backend.adjoint, self.backend.forward)
        return x.reshape(len(y), *self.image_shape)

    def _checked(self, name, values, shape):
        check_batch(name, values, shape)
        for kind in ("dtype", "device"):
            ours, theirs = getattr(self, kind), getattr(values, kind)
            if ours != theirs:
                raise TypeError(
                    f"{name} has {kind} {theirs}, the operator {ours}: pass {name}.to({ours!r}) or A.to(...)"
                )
        return values.reshape(len(values), -1)

    @property
    def dtype(self):
        """torch.dtype of the data the operator takes and gives."""
        return self.backend.dtype

    @property
    def device(self):
        """torch.device the operator works on."""
        return self.backend.device

    def to(self, device_or_dtype):
        """Return the same operator on another device (string or torch.device) or in another floating dtype."""
        if isinstance(device_or_dtype, torch.dtype) and not device_or_dtype.is_floating_point:
            raise TypeError(
                f"dtype must be a floating-point type, got {device_or_dtype}: pass torch.float32 or float64"
            )
        if not isinstance(device_or_dtype, (str, torch.device, torch.dtype)):
            raise TypeError(f"device_or_dtype must be a device or a torch.dtype, got {device_or_dtype!r}")
        moved = self.backend.to(device_or_dtype)
        if moved is self.backend:
            return self
        return LinearOperator(moved, self.image_shape, self.data_shape, geometry=self.geometry)

    def matrix(self):
        """Return A as an m × n tensor: dense, or sparse CSR for tomography (``.to_dense()`` fills it in)."""
        return self.backend.matrix()

    def singular_values(self):
        """Return the min(m, n) singular values S of A in *ascending* order, a float64 tensor on the CPU.

        Computed by a dense SVD in double precision: meant for m·n up to 2²⁷ entries.

        Raises
        ------
        ValueError
            If the matrix is larger than that; ``operator_norm`` still gives the largest singular value.
        """
        m, n = math.prod(self.data_shape), math.prod(self.image_shape)
        if m * n > _LARGEST_DENSE:
            raise ValueError(
                f"A is {m} × {n}, too large for a dense SVD: use operator_norm(A) or a smaller geometry"
            )
        return torch.linalg.svdvals(self.matrix().to_dense().cpu().double()).flip(0)

    def __repr__(self):
        return f"LinearOperator({self.image_shape} -> {self.data_shape}, {self.backend}, {self.dtype}, {self.device})"


def check_operator(A):
    """Raise unless A is a LinearOperator."""
    if not isinstance(A, LinearOperator):
        raise TypeError(f"A must be a LinearOperator, see ir_helpers.operators, got {type(A).__name__}")


def check_data(A, y, name="y"):
    """Raise unless y is a batch of data of the operator A, of its dtype and device."""
    check_operator(A)
    check_batch(name, y, A.data_shape)
    if y.dtype != A.dtype or y.device != A.device:
        raise TypeError(
            f"{name} is {y.dtype} on {y.device}, the operator {A.dtype} on {A.device}: pass {name}.to(A.device, A.dtype)"
        )


class _Adjoint:
    """The adjoint of an operator; ``A.T.T is A``."""

    def __init__(self, operator):
        self.T = operator

    def __call__(self, y):
        return self.T._adjoint(y)

    def __repr__(self):
        return f"adjoint of {self.T!r}"


def adjoint_gap(A, *, seed=0):
    """Return the relative error ``|⟨Au, v⟩ − ⟨u, Aᵀv⟩| / (‖Au‖ ‖v‖)`` of the adjoint for random u and v.

    The inner products are summed in double precision, so the gap is that of the operator, not of the test. It is 0 for the
    operator that maps everything to 0.
    """
    check_operator(A)
    generator = torch.Generator().manual_seed(check_seed(seed))
    u, v = (
        torch.randn(1, *shape, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
        for shape in (A.image_shape, A.data_shape)
    )
    Au, Atv = A(u).double(), A.T(v).double()
    u, v = u.double(), v.double()
    gap, size = (torch.sum(Au * v) - torch.sum(u * Atv)).abs().item(), (Au.norm() * v.norm()).item()
    return gap / size if gap > 0 else 0.0


def operator_norm(A, *, steps=50, seed=0):
    """Return an estimate of the largest singular value ‖A‖₂ by ``steps`` power iterations on AᵀA.

    The estimate never exceeds the true norm (up to rounding) and grows with ``steps``.
    """
    check_operator(A)
    generator = torch.Generator().manual_seed(check_seed(seed))
    u = torch.randn(1, *A.image_shape, generator=generator, dtype=torch.float64).to(A.device, A.dtype)
    for _ in range(positive_int("steps", steps)):
        Au = A(normalised(u))
        u = A.T(Au / powers_of_two(Au))  # AᵀA of a small A would leave the range of numbers
    return norms(A(normalised(u))).item()
