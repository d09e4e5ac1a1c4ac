"""Reconstruction by formula, each against another way to the same answer."""

import functools
import math

import astra
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from toys import small_scan

from ir_helpers import classical, datasets, operators


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def prescribed(spectrum, rows, columns, seed=0):
    """A float64 operator on images (1, 1, columns) with known singular values and vectors; and its U, S, V."""
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((k, len(spectrum))))[0] for k in (rows, columns))
    return operators.from_matrix((U * spectrum) @ V.T, (1, 1, columns)), (U, np.asarray(spectrum), V)


# ---- pseudo-inverse


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda: operators.gaussian(30, (1, 7, 9)),
        lambda: operators.from_matrix(np.random.default_rng(0).standard_normal((80, 63)), (1, 7, 9)),
        lambda: operators.parallel_beam(8, 12),
    ],
    ids=["wide", "tall", "scan"],
)
def test_pseudo_inverse_against_numpy(make, dtype):
    A = make().to(dtype)
    y = torch.randn(5, *A.data_shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = classical.pseudo_inverse(A, y)
    inverse = np.linalg.pinv(A.matrix().to_dense().double().numpy(), rcond=1e-6)
    expected = torch.from_numpy(y.flatten(1).double().numpy() @ inverse.T).reshape(found.shape)
    assert found.dtype == dtype
    # Computed in float64 and rounded once to the type of y; condition numbers here are below 1000.
    assert relative(found.double(), expected) < (1e-6 if dtype == torch.float32 else 1e-11)


def test_pseudo_inverse_of_a_rank_deficient_operator():
    A, (U, S, V) = prescribed([3.0, 1.0, 0.5, 1e-9], 6, 8)
    y = np.random.default_rng(2).standard_normal((4, 6))
    expected = (y @ U[:, :3] / S[:3]) @ V[:, :3].T  # 1e-9 is below 1e-6 · 3
    found = classical.pseudo_inverse(A, torch.from_numpy(y)).flatten(1)
    assert np.allclose(found, expected, atol=1e-9)  # float64, times the condition number 6 of what is kept
    cut = classical.pseudo_inverse(A, torch.from_numpy(y), rtol=0.2).flatten(1)  # keeps 3 and 1
    assert np.allclose(cut, (y @ U[:, :2] / S[:2]) @ V[:, :2].T, atol=1e-9)
    whole = classical.pseudo_inverse(A, torch.from_numpy(y), rtol=1e-12).flatten(1)
    assert np.allclose(
        whole, (y @ U / S) @ V.T, rtol=1e-4
    )  # the singular value 1e-9 holds 7 digits in float64


def test_pseudo_inverse_gives_the_shortest_solution():
    A = operators.gaussian(30, (1, 8, 8)).to(torch.float64)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = classical.pseudo_inverse(A, A(x))
    assert relative(A(found), A(x)) < 1e-12  # float64
    assert (found.flatten(1).norm(dim=1) < x.flatten(1).norm(dim=1)).all()
    # What it lacks is invisible: orthogonal to it and in the null space.
    assert (found * (x - found)).sum().abs() < 1e-10


# ---- filtered back-projection


def astra_fbp(A, y):
    """ASTRA's own filtered back-projection of one slice on the CPU; its lengths are in pixels."""
    size, geometry = A.geometry.image_size, A.geometry
    volume = astra.create_vol_geom(size, size)
    scan = astra.create_proj_geom("parallel", 1.0, geometry.num_detectors, geometry.angles)
    projector = astra.create_projector("linear", scan, volume)
    data, image = astra.data2d.create("-sino", scan, y.numpy() * size), astra.data2d.create("-vol", volume)
    settings = astra.astra_dict("FBP") | {
        "ProjectorId": projector,
        "ProjectionDataId": data,
        "ReconstructionDataId": image,
        "FilterType": "ram-lak",
    }
    algorithm = astra.algorithm.create(settings)
    astra.algorithm.run(algorithm)
    result = astra.data2d.get(image)
    astra.algorithm.delete(algorithm), astra.data2d.delete([data, image]), astra.projector.delete(projector)
    return result


@functools.cache
def ct_scan():
    """One CT slice at full size with the book's geometry; matrix-free, as one projection pays for no matrix."""
    A = operators.parallel_beam(256, 143, backend="astra")
    x = datasets.ct_slices("test", count=1)
    return A, x, A(x)


def test_fbp_against_astra_on_a_ct_slice():
    A, x, y = ct_scan()
    ours, theirs = classical.fbp(A, y)[0, 0].numpy(), astra_fbp(A, y[0, 0])
    truth = x[0, 0].numpy()
    quality, reference = (peak_signal_noise_ratio(truth, each, data_range=1) for each in (ours, theirs))
    assert reference > 28  # the oracle itself works: an error in its units or angles gives below 15 dB
    assert abs(quality - reference) < 0.3  # the book's promise
    # Both sample the same filter, but pad to different lengths.
    assert np.linalg.norm(ours - theirs) < 0.01 * np.linalg.norm(theirs)


def test_fbp_keeps_the_mean_value():
    A, x, y = ct_scan()
    # Discretisation moves it by 0.2 %; a ramp filter sampled in frequency loses 3.5 %.
    assert classical.fbp(A, y).mean() == pytest.approx(x.mean().item(), rel=4e-3)


@pytest.mark.parametrize("angles", [40, 160])
def test_fbp_of_a_disc_has_its_value(angles):
    # Units: neither the number of pixels nor of angles may scale the result.
    A = operators.parallel_beam(64, angles)
    line = (np.arange(64) + 0.5) / 64 - 0.5
    disc = torch.from_numpy((np.hypot(*np.meshgrid(line, line)) < 0.3).astype(np.float32))[None, None] * 0.7
    middle = classical.fbp(A, A(disc))[0, 0, 28:36, 28:36].mean()
    assert middle == pytest.approx(0.7, rel=0.01)  # ringing of the rim averages out to below 1 %


def test_fbp_is_the_formula_of_its_docstring():
    # Each view convolved with the samples of the ramp filter, then the adjoint: the whole row counts, edges too.
    A = operators.parallel_beam(40, 12).to(torch.float64)
    y = torch.randn(2, *A.data_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    count = A.geometry.num_detectors
    k = np.arange(-count + 1, count)
    h = np.where(k % 2 == 1, -1 / (np.pi * np.where(k == 0, 1, k)) ** 2, 0.0) + 0.25 * (k == 0)
    filtered = np.apply_along_axis(lambda row: np.convolve(row, h)[count - 1 : 2 * count - 1], -1, y.numpy())
    expected = A.T(torch.from_numpy(filtered)) * np.pi * 40**2 / 12
    # 1e-13: float64. The Fourier transform of the filter repeats with a period of at least two rows, so nothing wraps.
    assert relative(classical.fbp(A, y), expected) < 1e-12


def test_windows_trade_noise_for_sharpness():
    A, x, y = ct_scan()
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    names = ["ramp", "shepp-logan", "hann"]
    amplified = [classical.fbp(A, noise, window=name).norm() for name in names]
    error = [(classical.fbp(A, y, window=name) - x).norm() for name in names]
    assert amplified[0] > 1.1 * amplified[1] > 1.1 * 1.5 * amplified[2]
    assert error[0] < error[1] < error[2]


def test_windows_have_their_formulas():
    # A cosine across the detector, constant over views, passes the filter scaled by ramp times window at its frequency.
    A = operators.parallel_beam(48, 8)
    count, frequency = A.geometry.num_detectors, 0.25
    positions = torch.arange(count) - (count - 1) / 2
    wave = torch.exp(-((positions / (count / 8)) ** 2)) * torch.cos(2 * math.pi * frequency * positions)
    y = wave.expand(1, 1, 8, count)
    plain = classical.fbp(A, y)
    expected = {"shepp-logan": np.sinc(frequency), "hann": math.cos(math.pi * frequency) ** 2}
    for name, factor in expected.items():
        scaled = classical.fbp(A, y, window=name)
        fit = ((scaled * plain).sum() / plain.square().sum()).item()
        assert fit == pytest.approx(factor, rel=0.02)  # the wave packet has a width in frequency


# ---- Tikhonov


@pytest.mark.parametrize(("rows", "columns"), [(12, 20), (20, 20), (30, 20)])
@pytest.mark.parametrize("weight", [1e-3, 0.1, 30.0])
def test_tikhonov_against_its_filter_factors(rows, columns, weight):
    A, (U, S, V) = prescribed(np.geomspace(0.05, 5, 12), rows, columns)
    y = np.random.default_rng(1).standard_normal((4, rows))
    expected = torch.from_numpy((y @ U * (S / (S**2 + weight))) @ V.T)
    found = classical.tikhonov(A, torch.from_numpy(y), weight, tolerance=1e-12).flatten(1)
    # The residual fell by 1e-12; the error is larger at most by the condition number, 25/1e-3.
    assert relative(found, expected) < 1e-7
    single = classical.tikhonov(A.to(torch.float32), torch.from_numpy(y).float(), weight).flatten(1)
    # A residual of 1e-6 on the normal equations, times their condition number.
    assert relative(single.double(), expected) < 1e-6 * max(10, 25 / weight)


def test_tikhonov_solves_its_normal_equations_on_a_scan():
    A, _, y = small_scan()
    x = classical.tikhonov(A, y, 1e-3)
    residual = A.T(A(x) - y) + 1e-3 * x
    assert (
        residual.flatten(1).norm(dim=1) <= 1e-6 * A.T(y).flatten(1).norm(dim=1) * 1.01
    ).all()  # its tolerance


def test_tikhonov_images_do_not_disturb_each_other():
    A, _, y = small_scan()
    y = torch.cat([y, 1e6 * y[:1], torch.zeros_like(y[:1])])
    together = classical.tikhonov(A, y, 1e-2)
    assert relative(together[3:4], 1e6 * together[:1]) < 1e-8
    assert (together[4] == 0).all()
    for k in range(3):
        # Alone, an image may stop earlier: both are within 1e-6 · condition number (‖A‖²/weight ≈ 100).
        assert relative(together[k : k + 1], classical.tikhonov(A, y[k : k + 1], 1e-2)) < 1e-4


def test_tikhonov_stops_after_the_given_iterations():
    A, _, y = small_scan()
    once = classical.tikhonov(A, y[:1], 1e-2, iterations=1)
    b = A.T(y[:1])
    length = b.square().sum() / (A(b).square().sum() + 1e-2 * b.square().sum())
    assert torch.allclose(once, length * b)  # one steepest-descent step


def test_gradients_of_the_reconstructions():
    A = operators.from_matrix(np.random.default_rng(0).standard_normal((10, 12)), (1, 3, 4))
    y = torch.rand(2, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for f in (
        functools.partial(classical.tikhonov, A, weight=0.3, tolerance=1e-13),
        functools.partial(classical.pseudo_inverse, A),
        functools.partial(classical.total_variation, A, weight=0.05, iterations=15),
    ):
        assert torch.autograd.gradcheck(f, y)
    tikhonov = functools.partial(classical.tikhonov, A, weight=0.3, tolerance=1e-13)
    assert torch.autograd.gradgradcheck(lambda v: tikhonov(v).square(), y)
    B = operators.parallel_beam(8, 6).to(torch.float64)
    scan = torch.rand(1, *B.data_shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(functools.partial(classical.fbp, B), scan, fast_mode=True)


# ---- bad input

G = operators.gaussian(9, (1, 4, 4))
Y = torch.ones(2, 9)
BAD = {
    "data of another shape": (lambda: classical.tikhonov(G, Y[:, :8], 1), ValueError, r"y must have shape \(B, 9\)"),
    "NaN": (lambda: classical.total_variation(G, Y * math.nan, 1), ValueError, "y has NaN"),
    "dtype": (lambda: classical.pseudo_inverse(G, Y.double()), TypeError, "y is torch.float64"),
    "NumPy": (lambda: classical.fbp(G, Y.numpy()), TypeError, "y must be .*Tensor, got ndarray"),
    "rtol below 0": (lambda: classical.pseudo_inverse(G, Y, rtol=-0.1), ValueError, "rtol .*-0.1"),
    "rtol 1": (lambda: classical.pseudo_inverse(G, Y, rtol=1), ValueError, "rtol .*1"),
    "too large": (lambda: classical.pseudo_inverse(*ct_scan()[::2]), ValueError, "too large for an SVD"),
    "no scan": (lambda: classical.fbp(G, Y), ValueError, "parallel_beam"),
    "window": (lambda: classical.fbp(*ct_scan()[::2], window="cosine"), ValueError, "window .*cosine"),
    "tikhonov weight 0": (lambda: classical.tikhonov(G, Y, 0), ValueError, "weight .* 0"),
    "tikhonov weight NaN": (lambda: classical.tikhonov(G, Y, math.nan), ValueError, "weight .*nan"),
    "tikhonov iterations": (lambda: classical.tikhonov(G, Y, 1, iterations=0), ValueError, "iterations .* 0"),
    "tikhonov tolerance": (lambda: classical.tikhonov(G, Y, 1, tolerance=0), ValueError, "tolerance .* 0"),
    "tv weight": (lambda: classical.total_variation(G, Y, -1), ValueError, "weight .*-1"),
    "tv iterations": (lambda: classical.total_variation(G, Y, 1, iterations=2.5), ValueError, "iterations .*2.5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_reconstructions_refuse(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


def test_fbp_can_be_differentiated_after_a_first_call_without_gradients():
    A = operators.parallel_beam(20, 7)
    y = torch.rand(1, *A.data_shape)
    classical._ramp.cache_clear()
    with torch.inference_mode():
        classical.fbp(A, y)
    y.requires_grad_()
    (gradient,) = torch.autograd.grad(classical.fbp(A, y).sum(), y)
    assert gradient.abs().sum() > 0
