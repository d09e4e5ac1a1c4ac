"""The exact worst case of a linear map, against brute force, duality and the conditions of optimality."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from toys import errors, linear_problem, matrix_with_spectrum, normal

from ir_helpers.attacks import exact_worst_case

SPECTRA = {
    "condition 10": np.geomspace(1, 10, 30),
    "condition 1000": np.geomspace(1e-2, 10, 30),
    "double": np.array([5.0, 5.0, 1.0, 0.5]),
    "plateau": np.minimum(3, np.geomspace(0.5, 30, 30)),
    "all equal": np.ones(6),
    "rank one": np.array([2.0, 0, 0, 0]),
}
SHAPES = [(None, None), (50, None), (None, 45)]


def dual_bound(M, e, radius):
    """min over τ > ‖M‖² of τε² + eᵀ(I − MMᵀ/τ)⁻¹e: at least the maximum, and equal to it by trust-region duality."""
    U, S, _ = np.linalg.svd(M.numpy(), full_matrices=False)
    inside = U.T @ e.numpy()
    outside = (e.numpy() ** 2).sum() - (inside**2).sum()

    def value(log_gap):  # τ = s₁² (1 + exp(log_gap)), for which τ/(τ − s²) has no cancellation
        tau = S[0] ** 2 * (1 + math.exp(log_gap))
        distance = (S[0] - S) * (S[0] + S) + S[0] ** 2 * math.exp(log_gap)
        return tau * radius**2 + (inside**2 * tau / distance).sum() + outside

    coarse = min(np.linspace(-40, 40, 400), key=value)
    return minimize_scalar(value, bounds=(coarse - 0.3, coarse + 0.3), method="bounded").fun


@pytest.mark.parametrize("radius", [0.1, 2.0, 30.0])
@pytest.mark.parametrize("misfit", [0.0, 0.01, 0.3, 10.0])
@pytest.mark.parametrize("name", SPECTRA)
def test_reaches_the_dual_bound(name, misfit, radius):
    for shape in SHAPES:
        M = matrix_with_spectrum(SPECTRA[name], *shape)
        f, y, x = linear_problem(M, misfit, count=4)
        delta = exact_worst_case(M, y, x, radius)
        found = errors(f, y + delta, x)
        for k in range(4):
            bound = dual_bound(M, (f(y) - x)[k], radius)
            # The bisection is accurate to rounding; 1e-7 leaves room for the oracle's own search.
            assert found[k].item() == pytest.approx(bound, rel=1e-7)


@pytest.mark.parametrize("misfit", [0.01, 1.0])
@pytest.mark.parametrize("name", SPECTRA)
def test_conditions_of_optimality(name, misfit):
    # Necessary and sufficient (Moré and Sorensen): (τI − MᵀM)δ = Mᵀe, ‖δ‖ = ε, τ ≥ s₁².
    M = matrix_with_spectrum(SPECTRA[name], 40 if len(SPECTRA[name]) > 6 else None)
    f, y, x = linear_problem(M, misfit)
    delta = exact_worst_case(M, y, x, 0.7)
    pull = (f(y + delta) - x) @ M
    tau = (pull * delta).sum(1, keepdim=True) / 0.7**2
    assert np.allclose(delta.norm(dim=1), 0.7, rtol=1e-12)  # float64
    assert ((pull - tau * delta).norm(dim=1) < 1e-7 * pull.norm(dim=1)).all()  # sqrt of float64's rounding
    assert (tau >= torch.linalg.matrix_norm(M, 2) ** 2 * (1 - 1e-9)).all()


@pytest.mark.parametrize("size", [(1, 2), (2, 2), (5, 2)])
def test_brute_force_on_a_circle(size):
    angles = torch.linspace(0, 2 * math.pi, 20001, dtype=torch.float64)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    for seed in range(10):
        M, y, x = normal(*size, seed=seed), normal(1, 2, seed=seed + 1), normal(1, size[0], seed=seed + 2)
        radius = 0.2 + seed / 3
        found = errors(lambda v: v @ M.T, y + exact_worst_case(M, y, x, radius), x)  # noqa: B023
        best = errors(lambda v: v @ M.T, y + radius * circle, x).max()  # noqa: B023
        # The maximum of a convex function is on the rim. The grid misses it by at most (2π/20000)²/8 = 1e-8 of its curvature.
        assert found.item() == pytest.approx(best.item(), rel=1e-6)


@pytest.mark.parametrize("rest", [0.0, 0.4])
@pytest.mark.parametrize("leak", [0.0, 1e-300, 1e-14, -1e-9])
@pytest.mark.parametrize("count", [1, 2])
def test_hard_case(count, leak, rest):
    # e has (almost) no part along the largest singular values, and the others do not fill the ball: v₁ must.
    spectrum = torch.tensor([3.0] * count + [2.0, 1.0], dtype=torch.float64)
    M, e = torch.diag(spectrum), torch.zeros(1, count + 2, dtype=torch.float64)
    e[0, -1], e[0, 0] = rest, leak
    delta = exact_worst_case(M, torch.zeros_like(e), -e, 1.0)
    # By hand: τ = 9, the last component is 1 · rest / (9 − 1), the rest of the ball goes to the largest ones.
    last = rest / 8
    expected = 9 * (1 - last**2) + (last + rest) ** 2
    # A leak of 1e-9 moves the point and its error by as much.
    assert delta[0, -1].item() == pytest.approx(last, abs=1e-8)
    assert errors(lambda v: v @ M.T, delta, -e).item() == pytest.approx(expected, rel=1e-8)


def test_sign_follows_the_error():
    M, y = torch.diag(torch.tensor([2.0, 1.0])), torch.zeros(2, 2)
    delta = exact_worst_case(M, y, torch.tensor([[-1e-3, 0.0], [1e-3, 0.0]]), 1.0)
    assert delta[0, 0] > 0.99
    assert delta[1, 0] < -0.99


def test_zero_map_and_zero_radius():
    y, x = normal(3, 4), normal(3, 5)
    assert exact_worst_case(normal(5, 4), y, x, 0.0).abs().max() < 1e-200  # nothing but underflow
    assert (exact_worst_case(torch.zeros(5, 4), y, x, 1.0).norm(dim=1) <= 1 + 1e-12).all()  # and not NaN


def test_radius_of_each_sample_shapes_and_types():
    M = normal(6, 8, dtype=torch.float32)
    y, x = normal(3, 2, 4, dtype=torch.float32), normal(3, 1, 2, 3, seed=1, dtype=torch.float32)
    radius = torch.tensor([0.0, 0.5, 20.0])
    delta = exact_worst_case(M, y, x, radius)
    assert delta.shape == y.shape
    assert delta.dtype == torch.float32
    assert torch.allclose(delta.flatten(1).norm(dim=1), radius, rtol=1e-6)  # float32
    for k in range(3):
        alone = exact_worst_case(M, y[k : k + 1], x[k : k + 1], radius[k].item())
        assert torch.allclose(alone[0], delta[k], atol=1e-6 * radius[k].item())


def test_scale_does_not_matter():
    M = matrix_with_spectrum(np.geomspace(1, 10, 12))
    _, y, x = linear_problem(M, 0.5)
    expected = exact_worst_case(M, y, x, 0.3)
    for scale in (1e-6, 1e6):
        assert torch.allclose(exact_worst_case(scale * M, y, scale * x, 0.3), expected, atol=1e-9)
        assert torch.allclose(
            exact_worst_case(M, scale * y, scale * x, scale * 0.3), scale * expected, rtol=1e-6
        )


M, Y, X = normal(5, 4), normal(2, 4), normal(2, 5)
BAD = {
    "matrix turned": (lambda: exact_worst_case(M.T, Y, X, 1.0), ValueError, r"matrix .*\(5, 4\)"),
    "matrix NumPy": (lambda: exact_worst_case(M.numpy(), Y, X, 1.0), (TypeError, ValueError), "matrix"),
    "matrix NaN": (lambda: exact_worst_case(M * math.nan, Y, X, 1.0), ValueError, "matrix"),
    "radius negative": (lambda: exact_worst_case(M, Y, X, -1.0), ValueError, "radius .*-1"),
    "radius of three": (lambda: exact_worst_case(M, Y, X, torch.ones(3)), ValueError, r"radius .*\(3,\)"),
    "target of three": (lambda: exact_worst_case(M, Y, normal(3, 5), 1.0), ValueError, "y and target .* 2 and 3"),
    "target NaN": (lambda: exact_worst_case(M, Y, X * math.nan, 1.0), ValueError, "target has NaN"),
    "target dtype": (lambda: exact_worst_case(M, Y, X.float(), 1.0), TypeError, "target torch.float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()
