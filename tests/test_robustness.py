"""Measures of error against their definitions, and ρ(ε) against the exact answer for linear reconstructions."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from toys import errors, normal, small_net_problem

from ir_helpers import attacks, operators, robustness


def image_pairs(channels=1, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(4, channels, 20, 24, generator=rng)
    x = torch.nn.functional.avg_pool2d(x, 5, 1, 2)
    noise = 0.03 * torch.randn(x.shape, generator=rng) * torch.arange(1, 5).reshape(4, 1, 1, 1)
    return (x + noise).to(dtype), x.to(dtype)


# ---- errors of images


def test_squared_error():
    estimate, x = image_pairs(3)
    expected = [np.sum((a - b) ** 2) for a, b in zip(estimate.numpy(), x.numpy(), strict=True)]
    assert np.allclose(robustness.squared_error(estimate, x), expected, rtol=1e-5)  # float32 sums


def test_worst_region_finds_the_square_with_the_damage():
    x = torch.zeros(2, 2, 20, 24)
    estimate = x.clone()
    estimate[0, :, 3:11, 9:17] += 0.5  # one full square of 8 × 8
    estimate[1, 0] += 0.1  # everywhere, in one of two channels
    found = robustness.worst_region(estimate, x, size=8)
    assert torch.allclose(found, torch.tensor([0.5, 0.1 / math.sqrt(2)]), rtol=1e-5)
    whole = robustness.worst_region(estimate[..., :20], x[..., :20], size=20)
    assert torch.allclose(whole, (estimate - x)[..., :20].square().mean((1, 2, 3)).sqrt(), rtol=1e-5)


@pytest.mark.parametrize("size", [0, 21, 2.5])
def test_worst_region_refuses_squares_that_do_not_fit(size):
    with pytest.raises(ValueError, match="size must be"):
        robustness.worst_region(*image_pairs(), size=size)


@pytest.mark.parametrize("data_range", [1.0, 2.0, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_against_scikit_image(channels, data_range):
    estimate, x = image_pairs(channels)
    expected = [
        peak_signal_noise_ratio(b, a, data_range=data_range)
        for a, b in zip(estimate.numpy(), x.numpy(), strict=True)
    ]
    assert np.allclose(
        robustness.psnr(estimate, x, data_range=data_range), expected, atol=1e-4
    )  # dB, float32


def test_psnr_of_equal_images_is_infinite():
    _, x = image_pairs()
    assert (robustness.psnr(x, x) == math.inf).all()


def ssim_by_definition(a, b, data_range):
    """Wang et al. 2004: Gaussian weights of σ = 1.5 on 11 × 11 pixels, K₁ = 0.01, K₂ = 0.03; windows inside the image."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean = lambda z: gaussian_filter(z, 1.5, truncate=3.5)
    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return values[5:-5, 5:-5].mean()


@pytest.mark.parametrize("data_range", [1.0, 3.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_by_its_definition(channels, data_range):
    estimate, x = image_pairs(channels)
    expected = [
        np.mean([ssim_by_definition(p, q, data_range) for p, q in zip(a, b, strict=True)])
        for a, b in zip(estimate.numpy(), x.numpy(), strict=True)
    ]
    found = robustness.ssim(estimate, x, data_range=data_range)
    assert found.dtype == x.dtype
    assert np.allclose(found, expected, atol=1e-4)  # scikit-image computes in float32
    assert found[0] > found[1] > found[2] > found[3]  # more noise
    assert torch.allclose(robustness.ssim(x, x), torch.ones(4))


# ---- the curve


def linear_scene(dtype=torch.float32, count=7):
    """(f, matrix, A, x): the pseudo-inverse of a Gaussian operator on images of 12 × 12 pixels."""
    A = operators.gaussian(60, (1, 12, 12)).to(dtype)
    x = torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    matrix = torch.linalg.pinv(A.matrix().double())
    inverse = matrix.to(dtype)
    return (lambda y: (y @ inverse.T).reshape(-1, *A.image_shape)), matrix, A, x


RADII = [0.0, 0.5, 2.0, 8.0]


def test_curve_of_a_linear_reconstruction_is_exact():
    f, matrix, A, x = linear_scene()
    table, y = robustness.curve(f, A, x, RADII), A(x)
    for row, radius in zip(table.itertuples(), RADII, strict=True):
        worst = errors(f, y + attacks.exact_worst_case(matrix, y, x, radius), x)
        # The search keeps 99.5 %, and cannot exceed the optimum but by float32.
        assert 0.995 * worst.mean() <= row.rho <= worst.mean() * (1 + 1e-4)
        assert row.rho_sem == pytest.approx((worst.std() / math.sqrt(len(x))).item(), rel=0.05)
    clean = robustness.squared_error(f(y), x)
    assert table.rho[0] == pytest.approx(clean.mean().item(), rel=1e-6)  # mean in float32 against float64
    assert table.psnr[0] == pytest.approx(robustness.psnr(f(y), x).mean().item(), rel=1e-5)
    assert table.ssim[0] == pytest.approx(robustness.ssim(f(y), x).mean().item(), rel=1e-5)


def test_curve_columns_and_bookkeeping():
    f, _, A, x = linear_scene()
    table = robustness.curve(f, A, x, [2.0, 0.5], steps=3, restarts=2)
    columns = ["radius", "relative_radius", "rho", "rho_sem", "psnr", "ssim", "images", "steps", "restarts"]
    assert list(table.columns) == columns
    assert list(table.index) == [0, 1]
    assert table.index.name is None
    assert np.allclose(table.radius, [0.5, 2.0])  # ascending
    norms = A(x).flatten(1).norm(dim=1)
    assert np.allclose(table.relative_radius, [(r / norms).mean() for r in (0.5, 2.0)], rtol=1e-5)
    assert set(table.images) == {7}
    assert set(table.steps) == {3}
    assert set(table.restarts) == {2}


def test_curve_relative_to_the_data():
    f, matrix, A, x = linear_scene()
    x = x * torch.linspace(0.2, 1, len(x)).reshape(-1, 1, 1, 1)
    y = A(x)
    norms = y.norm(dim=1)
    table = robustness.curve(f, A, x, [0.05, 0.2], relative_to=norms)
    assert np.allclose(table.relative_radius, [0.05, 0.2], rtol=1e-6)
    assert np.allclose(table.radius, [(0.05 * norms).mean(), (0.2 * norms).mean()], rtol=1e-6)
    worst = errors(f, y + attacks.exact_worst_case(matrix, y, x, 0.2 * norms), x).mean()
    assert 0.995 * worst <= table.rho[1] <= worst * (1 + 1e-4)


def test_curve_of_noisy_data():
    f, matrix, A, x = linear_scene()
    y = A(x) + 0.3 * normal(*A(x).shape, dtype=torch.float32)
    table = robustness.curve(f, A, x, [0.0, 1.0], y=y)
    assert table.rho[0] == pytest.approx(errors(f, y, x).mean().item(), rel=1e-6)
    worst = errors(f, y + attacks.exact_worst_case(matrix, y, x, 1.0), x).mean()
    assert 0.995 * worst <= table.rho[1] <= worst * (1 + 1e-4)


def test_curve_rises_even_where_the_search_is_poor():
    def rough(y):
        return torch.cos(6 * f(y))

    f, A, x = small_net_problem()
    table = robustness.curve(rough, A, x, np.linspace(0, 3, 13), steps=1)
    assert (table.rho.diff()[1:] >= 0).all()


def test_curve_does_not_depend_on_the_batch_size():
    f, _, A, x = linear_scene(count=4)
    tables = [robustness.curve(f, A, x, [0.5, 8.0], batch_size=size) for size in (1, 3, 256)]
    for other in tables[1:]:
        assert list(other.columns) == list(tables[0].columns)
        # Only the starting points differ: each search is within 0.5 % of one optimum.
        assert np.allclose(other.rho, tables[0].rho, rtol=5e-3)
        assert np.allclose(
            other[["radius", "relative_radius", "images"]], tables[0][["radius", "relative_radius", "images"]]
        )


def test_curve_keeps_errors_of_images_apart():
    # One image is much harder: the standard error is that of images, not of batches or radii.
    f, _, A, x = linear_scene(count=5)
    x = x.clone()
    x[2] *= 10
    clean = errors(f, A(x), x).numpy()
    for size in (2, 256):
        table = robustness.curve(f, A, x, [0.0], batch_size=size)
        assert table.rho_sem[0] == pytest.approx(clean.std(ddof=1) / math.sqrt(5), rel=1e-5)


def test_curve_is_a_plain_table():
    f, _, A, x = linear_scene(torch.float64, count=2)
    table = robustness.curve(f, A, x, (r for r in (0.0, 1.0)), steps=5)
    assert isinstance(table, pd.DataFrame)
    assert table.notna().all(axis=None)
    assert not any(p.requires_grad for p in (x,))
    again = robustness.curve(f, A, x, [0.0, 1.0], steps=5)
    pd.testing.assert_frame_equal(table, again)


def test_a_squared_error_far_below_rounding_is_no_error():
    x = torch.zeros(1, 1, 4, 4)
    x[..., 0] = 1
    estimate = x + 1e-20 * (x == 0)
    assert robustness.squared_error(estimate, x).item() < 1e-37  # 12e-40 has no place in float32
    assert robustness.squared_error(x, x).item() == 0


# ---- bad input

ESTIMATE, X = image_pairs()
F, _, A, IMAGES = linear_scene(count=2)
BAD = {
    "shapes": (lambda: robustness.squared_error(ESTIMATE[..., :5], X), ValueError, "estimate must have shape"),
    "counts": (lambda: robustness.psnr(ESTIMATE[:2], X), ValueError, "estimate and x .* 2 and 4"),
    "a list": (lambda: robustness.ssim([1.0], X), TypeError, "estimate must be .*list"),
    "x NumPy": (lambda: robustness.psnr(ESTIMATE, X.numpy()), TypeError, "x must be .*ndarray"),
    "NaN": (lambda: robustness.squared_error(ESTIMATE * math.nan, X), ValueError, "estimate has NaN"),
    "psnr range": (lambda: robustness.psnr(ESTIMATE, X, data_range=0), ValueError, "data_range .* 0"),
    "ssim range": (lambda: robustness.ssim(ESTIMATE, X, data_range=-1), ValueError, "data_range .*-1"),
    "ssim tiny": (lambda: robustness.ssim(ESTIMATE[..., :8, :8], X[..., :8, :8]), ValueError, "11"),
    "no radii": (lambda: robustness.curve(F, A, IMAGES, []), ValueError, r"radii .*\[\]"),
    "one radius": (lambda: robustness.curve(F, A, IMAGES, 1.0), (TypeError, ValueError), "radii .*1.0"),
    "negative": (lambda: robustness.curve(F, A, IMAGES, [0.0, -1.0]), ValueError, "radii .*-1.0"),
    "NaN radius": (lambda: robustness.curve(F, A, IMAGES, [math.nan]), ValueError, "radii .*nan"),
    "infinite radius": (lambda: robustness.curve(F, A, IMAGES, [math.inf]), ValueError, "radii .*inf"),
    "word": (lambda: robustness.curve(F, A, IMAGES, ["big"]), (TypeError, ValueError), "radii .*big"),
    "scale shape": (lambda: robustness.curve(F, A, IMAGES, [1.0], relative_to=torch.ones(3)), ValueError, "relative_to"),
    "scale a number": (lambda: robustness.curve(F, A, IMAGES, [1.0], relative_to=2.0), (TypeError, ValueError), "relative_to"),
    "scale negative": (lambda: robustness.curve(F, A, IMAGES, [1.0], relative_to=-torch.ones(2)), ValueError, "relative_to"),
    "batch size": (lambda: robustness.curve(F, A, IMAGES, [1.0], batch_size=0), ValueError, "batch_size .* 0"),
    "restarts": (lambda: robustness.curve(F, A, IMAGES, [1.0], restarts=0), ValueError, "restarts .* 0"),
    "data count": (lambda: robustness.curve(F, A, IMAGES, [1.0], y=A(IMAGES)[:1], batch_size=1), ValueError, "y and target .* 1 and 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


def test_a_slow_curve_shows_a_bar_and_a_quick_one_does_not(monkeypatch, capsys):
    """tqdm itself reads TQDM_DISABLE when it is imported, so the bar is looked at through a stand-in of its class."""
    from tqdm import tqdm

    def shown(wait):
        monkeypatch.setattr(
            robustness,
            "tqdm",
            lambda items, **options: tqdm(
                items, **(options | {"disable": False, "delay": wait, "mininterval": 0})
            ),
        )
        f, _, A, x = linear_scene()
        robustness.curve(f, A, x, [0.5, 2.0], steps=3)
        return capsys.readouterr().err

    assert "radii" in shown(1e-9)
    assert shown(3600) == ""
