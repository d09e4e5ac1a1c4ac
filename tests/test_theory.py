"""The filters are optimal: held against solvers that know nothing of the formulas, and as laws on full matrices."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from ir_helpers import attacks, classical, operators, theory

EPS = np.finfo(float).eps
SPECTRA = {
    "random": np.exp(np.random.default_rng(0).uniform(-3, 0.5, 12)),
    "ascending": np.linspace(0.1, 2, 9),
    "repeated": np.array([0.5, 2.0, 0.5, 0.5, 2.0, 1.0]),
    "equal": np.full(5, 0.7),
    "one": np.array([0.3]),
    "with zeros": np.array([0.0, 1.0, 0.2, 0.0, 0.5]),
}
RADII = [1e-6, 0.03, 0.3, 1.0, 5.0, 100.0]


@pytest.fixture(params=SPECTRA, name="S")
def _spectrum(request):
    return SPECTRA[request.param]


def common_risk(S, q, radius, lam, variances=1.0):
    return (1 + lam) * np.sum(variances * (1 - S * q) ** 2) + lam * radius**2 * np.max(q) ** 2


def random_matrix(rng, m, n):
    """A matrix with singular values spread over about a decade, so that filters differ."""
    U, _, Vt = np.linalg.svd(rng.standard_normal((m, n)), full_matrices=False)
    return (U * np.exp(rng.uniform(-2, 0.5, min(m, n)))) @ Vt


def ascending(matrix):
    return np.linalg.svd(matrix, compute_uv=False)[::-1]


def minimal(function, high):
    """Minimise a convex function on [0, high] to about the square root of rounding."""
    found = minimize_scalar(
        function, bounds=(0, high), method="bounded", options={"xatol": 1e-14 * high, "maxiter": 500}
    )
    return found.fun


# ---- Theorem 1 ----


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("lam", [0.1, 1.0, 50.0])
def test_common_gains_match_a_scalar_search_over_the_clip_level(S, radius, lam):
    inverse = np.divide(1, S, out=np.full_like(S, np.inf), where=S > 0)
    gains, _ = theory.common_gains(S, radius, lam)
    # The search is over t alone, so it shares qᵢ = min(t, 1/Sᵢ) with the theorem; the laws on full matrices do not.
    best = minimal(
        lambda t: common_risk(S, np.minimum(t, inverse), radius, lam), 1.1 * np.max(inverse[S > 0])
    )
    assert common_risk(S, gains, radius, lam) <= best * (1 + 1e-9)


@pytest.mark.parametrize("radius", RADII)
def test_common_gains_are_stationary_and_the_multiplicity_is_the_theorems(S, radius):
    lam = 2.0
    gains, m = theory.common_gains(S, radius, lam)
    ordered, q = np.sort(S), gains[np.argsort(S, kind="stable")]
    zeros = np.count_nonzero(S == 0)
    assert zeros < m <= len(S)
    w, top = lam / (1 + lam) * radius**2, q[zeros]
    # Theorem 1 as it is printed, with 1/S = ∞ for S = 0 (a common factor of rounding for the sums).
    assert np.allclose(q[zeros:m], top, rtol=0) and np.all(q[:zeros] == 0)
    assert np.isclose(top, ordered[:m].sum() / (np.sum(ordered[:m] ** 2) + w), rtol=1e-13)
    assert top * ordered[m - 1] <= 1 + 4 * EPS
    assert m == len(S) or top >= 1 / ordered[m] * (1 - 4 * EPS)
    assert np.array_equal(q[m:], 1 / ordered[m:])
    # KKT: the subgradient of the norm weighs the clipped modes with weights ≥ 0 that sum to 1.
    slopes = S * (1 - S * gains)
    assert slopes.min() >= -4 * EPS and np.isclose(slopes.sum(), w * top, rtol=1e-9)


def test_common_gains_of_two_modes_by_hand():
    gains, m = theory.common_gains([1.0, 0.1], radius=0.1, lam=1.0)
    assert m == 1 and np.allclose(gains, [1.0, 0.1 / (0.01 + 0.005)], rtol=1e-15)
    # r(1 − r) = w is where the second mode joins: from then on both share one gain.
    join = np.sqrt(2 * 0.1 * 0.9)
    assert [theory.common_gains([1.0, 0.1], e * join, 1.0)[1] for e in (0.999, 1.001)] == [1, 2]


def test_multiplicity_is_exact_at_ties():
    S = np.array(
        [1.0, 3.0, 4.0]
    )  # Σ_{i<k} Sᵢ(S_k − Sᵢ) = 0, 2, 6; w = ε²/2 = 2 for ε = 2: all exact in binary
    gains, m = theory.common_gains(S, 2.0, 1.0)
    assert m == 1 and np.allclose(gains, [1 / 3, 1 / 3, 1 / 4], rtol=2 * EPS)  # 1/S₂ ≤ q₁ holds with equality
    assert theory.common_gains(S, 2.0 * (1 + 4 * EPS), 1.0)[1] == 2
    gains, m = theory.common_gains(np.full(1000, 0.1), 0.3, 1.0)
    assert m == 1000 and np.ptp(gains) == 0


def test_common_gains_limits(S):
    inverse = np.divide(1, S, out=np.zeros_like(S), where=S > 0)
    for gains, m in (theory.common_gains(S, 0.0, 1.0), theory.common_gains(S, 1.0, 0.0)):
        assert np.array_equal(gains, inverse) and m == np.count_nonzero(S == 0)
    assert np.allclose(theory.common_gains(S, 1e-9, 1.0)[0], inverse, rtol=1e-12)
    gains, m = theory.common_gains(S, 1e9, 1.0)
    assert m == len(S) and np.allclose(gains[S > 0], 2 * S.sum() / 1e18, rtol=1e-6)
    assert np.array_equal(theory.common_gains(np.zeros(3), 1.0, 1.0)[0], np.zeros(3))


# ---- Theorem 2 ----


@pytest.mark.parametrize("radius", RADII)
def test_per_sample_gains_match_a_scalar_search_over_tau(S, radius):
    variances = np.random.default_rng(1).uniform(0, 3, len(S))
    positive = S[S > 0]

    def cost(tau, weights):
        return tau * radius**2 + np.sum(weights * np.maximum(0, 1 - tau * S**2))

    for weights in (np.ones(len(S)), variances):
        best = min(minimal(lambda t, w=weights: cost(t, w), 1.1 / positive.min() ** 2), weights.sum())
        gains = theory.per_sample_gains(S, radius, None if weights is not variances else variances)
        order = np.argsort(S)
        reached = theory.per_sample_bound(
            np.diag(gains[order]), np.diag(S[order]), radius, covariance=np.diag(weights[order])
        )
        assert reached <= best * (1 + 1e-7) + 1e-9


def test_per_sample_threshold_is_an_energy_budget():
    S = np.array([2.0, 0.5, 1.0])  # energies ascending: 0.25, 1, 4
    assert np.array_equal(
        theory.per_sample_gains(S, 0.5), [0.5, 2.0, 1.0]
    )  # 0.25 ≥ ε²: nothing below the threshold
    assert np.array_equal(theory.per_sample_gains(S, 1.0), [0.5, 0.5, 1.0])
    assert np.array_equal(theory.per_sample_gains(S, 2.0), [0.5, 0.125, 0.25])
    assert np.array_equal(theory.per_sample_gains(S, np.sqrt(5.25)), S / 4)
    assert np.array_equal(theory.per_sample_gains(S, 2.3), np.zeros(3))
    assert np.array_equal(theory.per_sample_gains(S, 0.0), 1 / S)
    assert np.array_equal(theory.per_sample_gains([0.0, 1.0], 0.0), [0.0, 1.0])
    # The variance of a mode counts as energy: with a larger one the budget ends earlier.
    assert np.array_equal(theory.per_sample_gains(S, 1.0, variances=[1, 4, 1]), 1 / S)


def test_per_sample_gains_at_ties_do_not_depend_on_the_order():
    S = np.array([0.5, 2.0, 0.5, 0.5, 2.0, 1.0])
    for radius in RADII:
        gains = theory.per_sample_gains(S, radius)
        assert len(set(gains[S == 0.5])) == len(set(gains[S == 2.0])) == 1


# ---- laws on full matrices ----

SHAPES = [(6, 6), (4, 7), (8, 5)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.05, 0.5, 3.0])
def test_no_full_matrix_near_the_filters_costs_less(shape, radius):
    rng = np.random.default_rng(2)
    matrix, lam = random_matrix(rng, *shape), 1.5
    costs = {
        "common": lambda B: theory.common_cost(B, matrix, radius, lam),
        "per sample": lambda B: theory.per_sample_bound(B, matrix, radius),
    }
    filters = {
        "common": theory.common_gains(ascending(matrix), radius, lam)[0],
        "per sample": theory.per_sample_gains(ascending(matrix), radius),
    }
    for name, cost in costs.items():
        B = theory.robust_inverse(matrix, filters[name])
        best = cost(B)
        for size in (1e-6, 1e-3, 0.1, 1.0):
            for _ in range(60):
                change = size * rng.standard_normal(B.shape)
                # Rounding of the cost itself; both costs are convex, so near points speak for far ones.
                assert cost(B + change) >= best * (1 - 1e-12), (name, size)


@pytest.mark.parametrize("shape", SHAPES)
def test_costs_in_gains_and_on_matrices_agree(shape):
    rng = np.random.default_rng(3)
    matrix, radius, lam = random_matrix(rng, *shape), 0.4, 0.7
    S, q = ascending(matrix), rng.uniform(0, 2, min(shape))
    lost = shape[1] - len(S)  # images in the null space are lost whatever the filter
    B = theory.robust_inverse(matrix, q)
    assert np.isclose(
        theory.common_cost(B, matrix, radius, lam), common_risk(S, q, radius, lam) + (1 + lam) * lost
    )
    tau = np.geomspace(1.0001 * q.max() ** 2, 1e6, 200_001)
    grid = np.min(tau * radius**2 + np.sum((1 - S * q) ** 2 / (1 - q**2 / tau[:, None]), axis=1)) + lost
    assert np.isclose(theory.per_sample_bound(B, matrix, radius), grid, rtol=1e-6)  # the grid's own spacing


@pytest.mark.parametrize("shape", SHAPES)
def test_a_covariance_diagonal_in_v_gives_the_variances_filter(shape):
    rng = np.random.default_rng(4)
    matrix, radius, lam = random_matrix(rng, *shape), 0.6, 2.0
    _, S, Vt = np.linalg.svd(matrix)
    variances = rng.uniform(0.1, 4, shape[1])
    covariance, used = (Vt.T * variances) @ Vt, variances[: len(S)][::-1]
    for cost, gains in (
        (
            lambda B: theory.common_cost(B, matrix, radius, lam, covariance=covariance),
            theory.common_gains(S[::-1], radius, lam, variances=used)[0],
        ),
        (
            lambda B: theory.per_sample_bound(B, matrix, radius, covariance=covariance),
            theory.per_sample_gains(S[::-1], radius, used),
        ),
        (
            lambda B: theory.common_cost(B, matrix, 0, 0, covariance=covariance) + 0.3 * np.sum(B**2),
            theory.tikhonov_gains(S[::-1], 0.3, variances=used),
        ),
    ):
        B = theory.robust_inverse(matrix, gains)
        best = cost(B)
        assert all(
            cost(B + s * rng.standard_normal(B.shape)) > best * (1 - 1e-12)
            for s in (1e-5, 1e-2, 1)
            for _ in range(40)
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [0.0, 0.1, 1.0, 4.0])
def test_the_bound_is_above_the_exact_mean_worst_case(shape, radius):
    rng = np.random.default_rng(5)
    matrix = random_matrix(rng, *shape)
    x = rng.standard_normal((50, shape[1]))
    covariance = x.T @ x / len(x)  # of these very samples: then the bound holds for their mean itself
    S = ascending(matrix)
    for gains in (theory.per_sample_gains(S, min(radius, 1.0)), 1 / S, 0.2 / S):
        B = theory.robust_inverse(matrix, gains)
        y, target, M = torch.from_numpy(x @ matrix.T), torch.from_numpy(x), torch.from_numpy(B)
        delta = attacks.exact_worst_case(M, y, target, radius)
        exact = ((y + delta) @ M.T - target).square().sum(1).mean().item()
        bound = theory.per_sample_bound(B, matrix, radius, covariance=covariance)
        assert exact <= bound * (1 + 1e-9) + 1e-20
        assert exact > 0.7 * bound - 1e-20  # and it is not an empty one


# ---- invariances ----


@pytest.mark.parametrize("radius", RADII)
def test_filters_scale_with_the_operator_and_follow_its_order(S, radius):
    filters = (
        lambda s, e: theory.common_gains(s, e, 1.0)[0],
        theory.per_sample_gains,
        lambda s, e: theory.tikhonov_gains(s, e**2),
    )
    order = np.random.default_rng(6).permutation(len(S))
    for gains in filters:
        q = gains(S, radius)
        for scale in (2.0**-300, 2.0**-20, 2.0**20, 2.0**300):  # powers of two: exact, far from 1
            assert np.allclose(gains(scale * S, scale * radius) * scale, q, rtol=1e-12)
        assert np.allclose(gains(S[order], radius), q[order], rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_robust_inverse_of_exact_gains_is_the_pseudo_inverse(shape):
    A = operators.from_matrix(random_matrix(np.random.default_rng(7), *shape), (1, 1, shape[1]))
    B = theory.robust_inverse(A.matrix(), 1 / A.singular_values())
    assert B.shape == shape[::-1] and B.dtype == np.float64
    assert np.allclose(B, np.linalg.pinv(A.matrix().numpy()), atol=1e-12)


def test_tikhonov_gains_are_those_of_classical_tikhonov():
    A = operators.from_matrix(random_matrix(np.random.default_rng(8), 5, 8), (1, 1, 8))
    y = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    B = torch.from_numpy(theory.robust_inverse(A.matrix(), theory.tikhonov_gains(A.singular_values(), 0.2)))
    assert torch.allclose(y @ B.T, classical.tikhonov(A, y, 0.2, tolerance=1e-12).flatten(1), atol=1e-10)
    assert np.array_equal(theory.tikhonov_gains([0.0, 2.0], 0.0), [0.0, 0.5])
    assert np.array_equal(theory.tikhonov_gains([0.0, 2.0], 1.0), [0.0, 0.4])


# ---- the interface ----


def test_ten_thousand_singular_values_take_less_than_50_ms():
    S = np.exp(np.random.default_rng(9).uniform(-3, 0.5, 10_000))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        theory.common_gains(S, 3.0, 1.0)
        theory.per_sample_gains(S, 3.0)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02  # both together; measured 2 ms, the rest is for a busy machine


def test_inputs_are_not_changed_and_lists_and_tensors_are_taken():
    S = np.array([2.0, 0.0, 1.0])
    for gains in (
        theory.common_gains(S, 1.0, 1.0)[0],
        theory.per_sample_gains(S, 1.0),
        theory.tikhonov_gains(S, 1.0),
    ):
        gains[:] = 9
    assert np.array_equal(S, [2, 0, 1])
    same = [theory.common_gains(s, 1, 1)[0] for s in (S, [2, 0, 1], torch.tensor([2.0, 0, 1]))]
    assert np.array_equal(same[0], same[1]) and np.array_equal(same[0], same[2])


B = np.eye(2)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: theory.common_gains([1.0], -1.0, 1.0), "radius"),
        (lambda: theory.common_gains([1.0], np.nan, 1.0), "radius"),
        (lambda: theory.common_gains([1.0], 1.0, -1.0), "lam"),
        (lambda: theory.common_gains([1.0], 1.0, np.inf), "lam"),
        (lambda: theory.common_gains([1.0], True, 1.0), "radius"),
        (lambda: theory.common_gains([-1.0], 1.0, 1.0), "singular_values"),
        (lambda: theory.common_gains([np.nan], 1.0, 1.0), "singular_values"),
        (lambda: theory.common_gains([], 1.0, 1.0), "singular_values"),
        (lambda: theory.common_gains(B, 1.0, 1.0), "singular_values"),
        (lambda: theory.common_gains([1j], 1.0, 1.0), "singular_values"),
        (lambda: theory.common_gains([1.0], 1.0, 1.0, variances=[1, 2]), "variances"),
        (lambda: theory.per_sample_gains([1.0], -1.0), "radius"),
        (lambda: theory.per_sample_gains([1.0], 1.0, [-1.0]), "variances"),
        (lambda: theory.per_sample_gains("S", 1.0), "singular_values"),
        (lambda: theory.tikhonov_gains([1.0], -1.0), "weight"),
        (lambda: theory.tikhonov_gains([1.0], "1"), "weight"),
        (lambda: theory.robust_inverse(B, [1.0]), "gains"),
        (lambda: theory.robust_inverse([1.0], [1.0]), "matrix"),
        (lambda: theory.robust_inverse(B, [1.0, np.nan]), "gains"),
        (lambda: theory.common_cost(np.ones((2, 3)), B, 1.0, 1.0), "B"),
        (lambda: theory.common_cost(B, B, 1.0, -1.0), "lam"),
        (lambda: theory.common_cost(B, B, 1.0, 1.0, covariance=np.eye(3)), "covariance"),
        (lambda: theory.per_sample_bound(B, np.nan * B, 1.0), "matrix"),
        (lambda: theory.per_sample_bound(B, B, -1.0), "radius"),
    ],
)
def test_errors_name_the_argument(call, argument):
    with pytest.raises((ValueError, TypeError), match=f"^{argument} "):
        call()


def test_theory_needs_no_torch():
    code = "import sys, ir_helpers.theory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
