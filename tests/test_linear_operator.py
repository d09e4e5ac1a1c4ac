"""Laws of every measurement operator: adjoint, linearity, derivatives, matrix, singular values, refusals."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch

from ir_helpers import operators
from ir_helpers.linear_operator import LinearOperator


def tall_matrix(dtype):
    return torch.from_numpy(np.random.default_rng(5).standard_normal((70, 48)).astype(dtype))


FACTORIES = {
    "gaussian": lambda: operators.gaussian(40, (1, 9, 9)),
    "gaussian, colour": lambda: operators.gaussian(20, (3, 5, 6), seed=3),
    "dct_block": lambda: operators.dct_block(30, (1, 12, 12)),
    "with_spectrum": lambda: operators.with_spectrum(np.geomspace(0.02, 3, 25), (1, 9, 9), seed=1),
    "from_matrix, tall": lambda: operators.from_matrix(tall_matrix("float32"), (3, 4, 4)),
    "from_matrix, float64": lambda: operators.from_matrix(tall_matrix("float64"), (3, 4, 4)),
    "parallel_beam, matrix": lambda: operators.parallel_beam(24, 17, backend="matrix"),
    "parallel_beam, astra": lambda: operators.parallel_beam(24, 17, backend="astra"),
    "parallel_beam, shifted": lambda: operators.parallel_beam(25, 9, angle_offset=0.3, axis_shift=1.25),
    "parallel_beam, shifted, astra": lambda: operators.parallel_beam(
        25, 9, backend="astra", angle_offset=0.3, axis_shift=1.25
    ),
}
# ASTRA computes in single precision only, and stores no matrix.
WITH_MATRIX = [name for name in FACTORIES if "astra" not in name]


@pytest.fixture(scope="module", params=FACTORIES)
def A(request):
    return FACTORIES[request.param]()


@pytest.fixture(scope="module", params=WITH_MATRIX)
def A64(request):
    return FACTORIES[request.param]().to(torch.float64)


def draw(A, count, seed, shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(A.dtype)


def draw_x(A, count=1, seed=0):
    return draw(A, count, seed, A.image_shape)


def draw_y(A, count=1, seed=1):
    return draw(A, count, seed, A.data_shape)


# ---- laws of all operators


def test_precision_is_kept_where_layers_are_computed_in_half_of_it(A):
    x = draw_x(A, 2).requires_grad_()
    y, weight = A(x), draw_y(A, 2)
    (expected,) = torch.autograd.grad((weight * y).sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        in_half = A(x)
        (gradient,) = torch.autograd.grad((weight * in_half).sum(), x)
    assert torch.equal(in_half, y) and torch.equal(gradient, expected)


@pytest.mark.parametrize("seed", range(4))
def test_adjoint(A, seed):
    # The dot test, written out. 1e-6 is ten roundings of float32 (6e-8), which largely cancel in the sums.
    u, v = draw_x(A, seed=seed), draw_y(A, seed=seed + 50)
    Au, Atv = A(u).double(), A.T(v).double()
    gap = abs((Au * v.double()).sum() - (u.double() * Atv).sum()) / (Au.norm() * v.double().norm())
    assert gap < 1e-6
    assert operators.adjoint_gap(A, seed=seed) < 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_adjoint_in_double_precision(A64, seed):
    # Rounding in float64 is 1e-16; sums of some hundred terms stay far below 1e-12.
    assert operators.adjoint_gap(A64, seed=seed) < 1e-12


def test_adjoint_gap_sees_a_wrong_adjoint():
    class Wrong:
        dtype, device = torch.float32, torch.device("cpu")

        def forward(self, u):
            return 2 * u

        def adjoint(self, v):
            return 2.001 * v

    # <Au, v> = 2 <u, v> and <u, A^T v> = 2.001 <u, v>, over ||Au|| ||v|| = 2 ||u|| ||v||: 0.0005 times the cosine.
    A = LinearOperator(Wrong(), (1, 1, 1), (1,))
    assert operators.adjoint_gap(A) == pytest.approx(0.0005, rel=1e-3)  # float32 rounds 2.001 to 1e-7


def test_transpose_of_transpose_is_the_operator(A):
    assert A.T.T is A
    assert A.T.T.T is A.T


def test_linear(A):
    x, z = draw_x(A, 3), draw_x(A, 3, seed=9)
    left, right = A(2.5 * x - 0.5 * z), 2.5 * A(x) - 0.5 * A(z)
    # float32 sums of up to some hundred terms: 1e-5 of the largest value.
    assert (left - right).abs().max() < 1e-5 * right.abs().max()
    v, w = draw_y(A, 3), draw_y(A, 3, seed=8)
    left, right = A.T(2.5 * v - 0.5 * w), 2.5 * A.T(v) - 0.5 * A.T(w)
    assert (left - right).abs().max() < 1e-5 * right.abs().max()


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_any_batch_size_gives_what_single_images_give(A, count):
    x, y = draw_x(A, count), draw_y(A, count)
    assert A(x).shape == (count, *A.data_shape)
    assert A.T(y).shape == (count, *A.image_shape)
    # Other batch sizes may take other kernels, which sum in another order: float32 rounding.
    for k in {0, count // 2, count - 1}:
        assert torch.allclose(A(x)[k], A(x[k : k + 1])[0], rtol=1e-5, atol=1e-5)
        assert torch.allclose(A.T(y)[k], A.T(y[k : k + 1])[0], rtol=1e-5, atol=1e-5)


def test_strides_of_the_input_do_not_matter(A):
    x = draw_x(A, 4)
    strided = torch.stack([x, -x], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    assert torch.equal(A(strided), A(x))


def test_matrix_holds_the_images_of_unit_vectors(A64):
    m, n = math.prod(A64.data_shape), math.prod(A64.image_shape)
    M = A64.matrix().to_dense()
    assert M.shape == (m, n)
    units = torch.eye(n, dtype=torch.float64).reshape(n, *A64.image_shape)
    assert torch.allclose(A64(units).reshape(n, m).T, M, atol=1e-14)  # one product per entry: rounding only
    units = torch.eye(m, dtype=torch.float64).reshape(m, *A64.data_shape)
    assert torch.allclose(A64.T(units).reshape(m, n), M, atol=1e-14)


def test_gradients_of_first_and_second_order(A64):
    x, y = draw_x(A64, 2).requires_grad_(), draw_y(A64, 2).requires_grad_()
    for apply, at in ((A64, x), (A64.T, y)):
        assert torch.autograd.gradcheck(lambda u: apply(u).square(), at, fast_mode=True)  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda u: apply(u).square(), at, fast_mode=True)  # noqa: B023


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own, on its first use
def test_forward_mode_derivative_is_the_operator(A64):
    x, tangent = draw_x(A64), draw_x(A64, seed=4)
    with torch.autograd.forward_ad.dual_level():
        out = A64(torch.autograd.forward_ad.make_dual(x, tangent))
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(out).tangent, A64(tangent))


def test_gradient_is_the_adjoint(A):
    # Also for the matrix-free back end, which has no float64 for a gradient check. The same numbers in the same order.
    x, y = draw_x(A, 2).requires_grad_(), draw_y(A, 2)
    (gradient,) = torch.autograd.grad((A(x) * y).sum(), x)
    assert torch.equal(gradient, A.T(y))


def test_to_returns_the_same_object_where_nothing_changes(A):
    assert A.to(A.dtype) is A
    assert A.to("cpu") is A
    assert A.to(torch.device("cpu")) is A


def test_to_another_dtype_keeps_the_numbers_and_the_original():
    for name in WITH_MATRIX:
        A = FACTORIES[name]()
        other = A.to(torch.float64).to(torch.float32)
        assert other.dtype == torch.float32
        assert A.to(torch.float64).dtype == torch.float64
        assert torch.equal(other.matrix().to_dense(), A.matrix().to_dense().float())
        assert other.geometry is A.geometry
        assert A.dtype == FACTORIES[name]().dtype


def test_to_another_device():
    A = operators.gaussian(5, (1, 3, 3)).to("meta")  # torch's device without storage, at hand everywhere
    assert A.device.type == "meta"
    with pytest.raises(TypeError, match="x has device cpu, the operator meta"):
        A(torch.zeros(1, 1, 3, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(A):
    there = A.to("cuda")
    assert A.device.type == "cpu"
    x, y = draw_x(A, 3), draw_y(A, 3)
    # The same numbers in another order; the matrix-free operator computes its weights anew, in another arithmetic.
    tolerance = 1e-3 if "matrix-free" in repr(A) else 1e-5
    assert (there(x.cuda()).cpu() - A(x)).norm() < tolerance * A(x).norm()
    assert (there.T(y.cuda()).cpu() - A.T(y)).norm() < tolerance * A.T(y).norm()
    assert operators.adjoint_gap(there) < 1e-6


# ---- singular values and norm


@pytest.mark.parametrize("name", WITH_MATRIX)
def test_singular_values_against_scipy(name):
    # In double precision also where the operator is not.
    A = FACTORIES[name]()
    values = A.singular_values()
    expected = scipy.linalg.svdvals(A.matrix().to_dense().double().numpy())[::-1]
    assert values.dtype == torch.float64
    assert values.shape == (min(math.prod(A.data_shape), math.prod(A.image_shape)),)
    assert (values.diff() >= 0).all()
    assert np.allclose(values, expected, rtol=0, atol=1e-10 * expected[-1])  # backward stable to 1e-16 · size


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (8, 12), (20, 12)])
def test_singular_values_of_a_prescribed_spectrum(rows, columns):
    rng = np.random.default_rng(0)
    spectrum = np.geomspace(1e-3, 7, min(rows, columns))
    left, right = (np.linalg.qr(rng.standard_normal((k, len(spectrum))))[0] for k in (rows, columns))
    A = operators.from_matrix((left * rng.permutation(spectrum)) @ right.T, (1, 3, 4))
    assert np.allclose(
        A.singular_values(), spectrum, rtol=1e-10
    )  # 1e-16 · condition number 7e3, with a margin
    # Singular values are 7 and 4 or so: 50 iterations shrink the rest by (4/7)^100.
    assert operators.operator_norm(A) == pytest.approx(7, rel=1e-9)


def test_singular_values_refuse_a_huge_operator():
    with pytest.raises(ValueError, match="too large for a dense SVD"):
        operators.parallel_beam(256, 143, backend="astra").singular_values()


def test_operator_norm_is_a_lower_estimate_that_grows(A):
    estimates = [operators.operator_norm(A, steps=k) for k in (1, 3, 10, 50)]
    # Rounding of float32 may lower an estimate that has converged by some 1e-7.
    assert all(b >= a * (1 - 1e-6) for a, b in itertools.pairwise(estimates))
    if "matrix-free" not in repr(A):
        true = A.singular_values()[-1].item()
        assert estimates[-1] <= true * (1 + 1e-6)  # float32
        # The spectra of the random matrices leave small gaps at the top; 50 steps are known to reach 99 %.
        assert estimates[-1] >= 0.99 * true


# ---- bad input

BAD_X = {
    "no batch": (lambda A: torch.zeros(A.image_shape), ValueError, r"x must have shape \(B,"),
    "empty batch": (lambda A: torch.zeros(0, *A.image_shape), ValueError, r"x must have shape .*\(0,"),
    "wrong width": (lambda A: torch.zeros(1, *A.image_shape[:-1], 1), ValueError, "x must have shape"),
    "flat": (lambda A: torch.zeros(1, math.prod(A.image_shape)), ValueError, "x must have shape"),
    "infinite": (lambda A: torch.full((1, *A.image_shape), math.inf, dtype=A.dtype), ValueError, "x .*infinite"),
    "NaN": (lambda A: torch.full((1, *A.image_shape), math.nan, dtype=A.dtype), ValueError, "x .*NaN"),
    "dtype": (lambda A: torch.zeros(1, *A.image_shape, dtype=torch.float16), TypeError, "x has dtype torch.float16"),
    "integers": (lambda A: torch.zeros(1, *A.image_shape, dtype=torch.int64), TypeError, "x .*int64"),
    "NumPy": (lambda A: np.zeros((1, *A.image_shape)), TypeError, "x must be .*Tensor, got ndarray"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_X)
def test_operators_refuse(A, name):
    make, kind, text = BAD_X[name]
    with pytest.raises(kind, match=text):
        A(make(A))


def test_adjoint_names_y(A):
    with pytest.raises(ValueError, match="y must have shape"):
        A.T(torch.zeros(1, 3, dtype=A.dtype))


def test_large_finite_values_pass(A):
    # Their sum overflows float32: finite input must not be called infinite for that.
    x = torch.full((1, *A.image_shape), torch.finfo(A.dtype).max / 4, dtype=A.dtype)
    A(x)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64])
def test_to_refuses_other_kinds_of_numbers(A, dtype):
    with pytest.raises(TypeError, match="dtype must be a floating-point type"):
        A.to(dtype)
