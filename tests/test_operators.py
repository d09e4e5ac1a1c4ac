"""Each factory of operators against an independent construction."""

import hashlib
import math

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch

from ir_helpers import operators

# ---- Gaussian


def test_gaussian_is_numpys_pcg64():
    A = operators.gaussian(100, (1, 28, 28), seed=7)
    rng = np.random.Generator(np.random.PCG64(7))
    expected = (rng.standard_normal((100, 784)) / np.sqrt(100)).astype(np.float32)
    assert A.dtype == torch.float32
    assert np.array_equal(A.matrix().numpy(), expected)


def test_gaussian_of_seed_0_never_changes():
    # A network in data/weights was trained for this very matrix: its bytes, in little-endian order.
    matrix = operators.gaussian(100, (1, 28, 28)).matrix().numpy()
    digest = hashlib.sha256(matrix.astype("<f4").tobytes()).hexdigest()
    assert digest == "620d86a732a08c51cfb446cce1546daf4fafb95d7d4b05fc26fc070996c6e35c"


def test_gaussian_entries_have_mean_0_and_variance_1_over_m():
    for m in (25, 400):
        entries = operators.gaussian(m, (1, 30, 30), seed=m).matrix().double() * math.sqrt(m)
        count = entries.numel()
        # Standard errors of the mean and of the variance are 1/sqrt(count) and sqrt(2/count): four of each.
        assert abs(entries.mean()) < 4 / math.sqrt(count)
        assert abs(entries.var() - 1) < 4 * math.sqrt(2 / count)


def test_gaussian_seeds_differ():
    first, second = (operators.gaussian(30, (1, 8, 8), seed=s).matrix() for s in (0, 1))
    assert abs(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1]) < 0.1  # 4 / sqrt(1920)


# ---- DCT block


@pytest.mark.parametrize(
    ("m", "shape"),
    [(100, (1, 28, 28)), (30, (1, 28, 28)), (300, (1, 28, 28)), (40, (1, 16, 16)), (60, (3, 10, 10))],
)
def test_dct_block(m, shape):
    A, n = operators.dct_block(m, shape), math.prod(shape)
    block = A.matrix().double().numpy()
    assert block.shape == (m, n)
    s = scipy.linalg.svdvals(block)
    # The interval holds exactly in float64; rounding the entries to float32 moves the ratio by some 1e-6.
    assert 10 * (1 - 1e-5) <= s[0] / s[-1] <= 15 * (1 + 1e-5)
    gaussian = operators.gaussian(m, shape).matrix().double().norm().item()
    assert np.linalg.norm(block) == pytest.approx(gaussian, rel=1e-5)  # entries rounded to float32
    assert is_contiguous_block_of_a_dct(block)


def test_dct_block_keeps_its_interval_or_says_that_it_cannot():
    found = 0
    for m in range(1, 64):
        try:
            s = operators.dct_block(m, (1, 8, 8)).singular_values()
        except ValueError as refusal:
            assert "image_shape" in str(refusal)  # noqa: PT017
            continue
        found += 1
        assert 10 * (1 - 1e-5) <= s[-1] / s[0] <= 15 * (1 + 1e-5)
    assert found > 20  # for so few pixels the condition number jumps past the interval at many sizes


def is_contiguous_block_of_a_dct(block):
    """Search N and a row offset for which SciPy's orthonormal N × N DCT has this block, up to its scale."""
    m, n = block.shape
    unit = block / np.linalg.norm(block)
    for size in range(n + 1, 2 * n + 1):
        # SciPy's first column of the DCT narrows the offsets down; the whole block decides.
        column = scipy.fft.dct(np.eye(1, size)[0], norm="ortho")
        windows = np.lib.stride_tricks.sliding_window_view(column, m)
        cosine = windows @ unit[:, 0] / np.linalg.norm(windows, axis=1) / np.linalg.norm(unit[:, 0])
        for offset in np.flatnonzero(cosine > 1 - 1e-6):
            columns = scipy.fft.dct(np.eye(n, size), norm="ortho", axis=1)[:, offset : offset + m].T
            # float32 entries: the relative error of the whole is below 1e-7; neighbours in N differ by 1e-3.
            if np.linalg.norm(columns / np.linalg.norm(columns) - unit) < 1e-6:
                return True
    return False


def test_the_search_for_a_dct_refuses_other_rows():
    rows = scipy.fft.dct(np.eye(120), norm="ortho", axis=0)[:, :100]
    assert is_contiguous_block_of_a_dct(rows[5:25])
    assert not is_contiguous_block_of_a_dct(rows[5:45:2])


# ---- prescribed spectrum


@pytest.mark.parametrize("condition", [1, 30, 1000])
@pytest.mark.parametrize(("m", "shape"), [(100, (1, 28, 28)), (12, (3, 2, 2)), (1, (1, 3, 3))])
def test_with_spectrum_has_these_singular_values(m, shape, condition):
    values = np.geomspace(1 / condition, 1, m)
    matrix = operators.with_spectrum(values, shape, seed=2).matrix().numpy()
    assert matrix.dtype == np.float32 and matrix.shape == (m, math.prod(shape))
    # Rounding the entries to float32 moves each singular value by at most 6e-8 ‖A‖_F.
    found = scipy.linalg.svdvals(matrix.astype(float))[::-1]
    assert found == pytest.approx(values, abs=6e-8 * np.linalg.norm(values) + 1e-12)


def test_spectra_share_singular_vectors():
    flat, steep = (
        operators.with_spectrum(s, (1, 6, 6)).matrix().double() for s in (np.ones(9), np.arange(1, 10))
    )
    # With A = U Vᵀ for the flat one, U diag(s) Uᵀ is what is left of the other, and U diag(s²) Uᵀ of its square.
    assert torch.allclose(steep @ steep.T, (steep @ flat.T) @ (steep @ flat.T).T, atol=1e-5)
    assert torch.allclose(steep @ flat.T, (steep @ flat.T).T, atol=1e-6)
    other = operators.with_spectrum(np.ones(9), (1, 6, 6), seed=1).matrix().double()
    assert (flat @ other.T).norm() < 0.9 * 3  # nine unit vectors each: equal spans would give 3


def test_singular_vectors_are_uniform():
    """Columns of a Haar matrix have mean 0: LAPACK's own signs would make the first entry negative each time."""
    first = [operators.with_spectrum([1.0, 2.0], (1, 1, 2), seed=s).matrix() for s in range(400)]
    U, V = zip(*[(a @ a.T / a.norm() ** 2, a.T @ a / a.norm() ** 2) for a in first], strict=True)
    for side in (torch.stack(U), torch.stack(V)):
        # By symmetry the mean of aaᵀ/‖a‖² is I/2, with deviations of the entries below 0.5/√400.
        assert torch.allclose(side.mean(0), 0.5 * torch.eye(2), atol=4 * 0.5 / 20)
    signs = torch.stack([torch.linalg.det(a) > 0 for a in first]).float().mean()
    assert abs(signs - 0.5) < 4 * 0.5 / 20  # rotations and reflections alike


# ---- bad input


def test_an_operator_keeps_its_numbers():
    array = np.ones((2, 4), dtype=np.float32)
    A = operators.from_matrix(array, (1, 2, 2))
    array[:] = 0
    assert (A.matrix() == 1).all()


def test_an_operator_of_zeros():
    A = operators.from_matrix(torch.zeros(2, 4), (1, 2, 2))
    assert operators.operator_norm(A) == 0  # and not NaN
    assert operators.adjoint_gap(A) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e30])
def test_the_norm_of_small_and_large_operators(scale):
    A = operators.gaussian(20, (1, 8, 8))
    B = operators.from_matrix(scale * A.matrix(), (1, 8, 8))
    assert operators.operator_norm(B) == pytest.approx(
        scale * operators.operator_norm(A), rel=1e-5
    )  # float32


BAD = {
    "no measurements": (lambda: operators.gaussian(0, (1, 4, 4)), ValueError, "num_measurements .* 0"),
    "half a measurement": (lambda: operators.gaussian(2.5, (1, 4, 4)), ValueError, "num_measurements .* 2.5"),
    "true": (lambda: operators.gaussian(True, (1, 4, 4)), ValueError, "num_measurements .* True"),
    "no shape": (lambda: operators.gaussian(2, ()), ValueError, "image_shape"),
    "shape a number": (lambda: operators.gaussian(2, 28), ValueError, "image_shape .* 28"),
    "shape with a zero": (lambda: operators.gaussian(2, (1, 0, 4)), ValueError, "image_shape .* 0"),
    "seed a word": (lambda: operators.gaussian(2, (1, 2, 2), seed="a"), (TypeError, ValueError), "seed"),
    "seed negative": (lambda: operators.gaussian(2, (1, 2, 2), seed=-1), ValueError, "seed"),
    "no seed": (lambda: operators.gaussian(2, (1, 2, 2), seed=None), (TypeError, ValueError), "seed"),
    "dct square": (lambda: operators.dct_block(16, (1, 4, 4)), ValueError, "num_measurements .* 16"),
    "dct too small": (lambda: operators.dct_block(1, (1, 10, 10)), ValueError, "image_shape"),
    "no spectrum": (lambda: operators.with_spectrum([], (1, 2, 2)), ValueError, r"singular_values .*\(0,\)"),
    "too many values": (lambda: operators.with_spectrum(np.ones(5), (1, 2, 2)), ValueError, r"singular_values .*\(5,\)"),
    "a value of zero": (lambda: operators.with_spectrum([1, 0.0], (1, 2, 2)), ValueError, "singular_values .* 0.0"),
    "spectrum a number": (lambda: operators.with_spectrum(3.0, (1, 2, 2)), ValueError, r"singular_values .*\(\)"),
    "spectrum, no seed": (lambda: operators.with_spectrum([1.0], (1, 2, 2), seed=None), ValueError, "seed"),
    "no image": (lambda: operators.parallel_beam(0, 3), ValueError, "image_size .* 0"),
    "no angles": (lambda: operators.parallel_beam(8, 0), ValueError, "num_angles .* 0"),
    "half an angle": (lambda: operators.parallel_beam(8, 2.5), ValueError, "num_angles .* 2.5"),
    "back end": (lambda: operators.parallel_beam(8, 3, backend="gpu"), ValueError, "backend .*gpu"),
    "offset": (lambda: operators.parallel_beam(8, 3, angle_offset=math.nan), ValueError, "angle_offset .*nan"),
    "shift": (lambda: operators.parallel_beam(8, 3, axis_shift="1"), ValueError, "axis_shift .*'1'"),
    "matrix of ints": (lambda: operators.from_matrix(np.eye(4, dtype=int), (1, 2, 2)), TypeError, "matrix .*int"),
    "matrix too narrow": (lambda: operators.from_matrix(np.eye(3), (1, 2, 2)), ValueError, r"matrix .*\(3, 3\)"),
    "matrix a vector": (lambda: operators.from_matrix(np.ones(4), (1, 2, 2)), ValueError, r"matrix .*\(4,\)"),
    "matrix with NaN": (lambda: operators.from_matrix(np.full((2, 4), np.nan), (1, 2, 2)), ValueError, "matrix .*NaN"),
    "steps": (lambda: operators.operator_norm(operators.gaussian(2, (1, 2, 2)), steps=0), ValueError, "steps .* 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_factories_refuse(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()
