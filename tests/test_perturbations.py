"""The ball of allowed perturbations and the uniform distribution on its sphere."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import kstest
from toys import normal

from ir_helpers import attacks


def test_project_is_the_nearest_point_of_the_ball():
    delta, radius = normal(40, 2, 3), torch.linspace(0, 4, 40, dtype=torch.float64)
    nearest = attacks.project(delta, radius)
    # The nearest point p of a convex set is the one for which (δ − p)·(z − p) ≤ 0 for all z of the set.
    for seed in range(20):
        z = attacks.random_perturbation(delta, radius, seed=seed) * (seed / 19)
        assert (((delta - nearest) * (z - nearest)).flatten(1).sum(1) < 1e-12).all()  # float64
    inside = delta.flatten(1).norm(dim=1) <= radius
    assert 5 < inside.sum() < 35
    assert torch.equal(nearest[inside], delta[inside])
    assert torch.allclose(attacks.project(nearest, radius), nearest, rtol=1e-15)


def test_project_against_a_solver():
    delta = normal(1, 4)
    found = minimize(
        lambda z: ((z - delta[0].numpy()) ** 2).sum(),
        np.zeros(4),
        constraints={"type": "ineq", "fun": lambda z: 0.6**2 - (z**2).sum()},
    ).x
    assert np.allclose(attacks.project(delta, 0.6)[0], found, atol=1e-5)  # the solver's tolerance


def test_random_perturbation_is_uniform_on_the_sphere():
    count, n = 20000, 5
    delta = attacks.random_perturbation(torch.zeros(count, n, dtype=torch.float64), 3.0, seed=1)
    assert np.allclose(delta.norm(dim=1), 3.0, rtol=1e-12)
    # Moments of the uniform distribution: E δ = 0, E δδᵀ = (ε²/n) I, E δ₁⁴ = 3ε⁴/(n(n+2)); five standard errors.
    assert (delta.mean(0).abs() < 5 * 3 / math.sqrt(n * count)).all()
    covariance = delta.T @ delta / count
    assert torch.allclose(covariance, 9 / n * torch.eye(n).double(), atol=5 * 9 / n / math.sqrt(count))
    assert torch.allclose(delta.pow(4).mean(0), torch.tensor(3 * 81 / (n * (n + 2))).double(), rtol=0.1)
    flat = attacks.random_perturbation(torch.zeros(count, 2, dtype=torch.float64), 1.0, seed=2)
    angle = torch.atan2(flat[:, 1], flat[:, 0]) / (2 * math.pi) + 0.5
    assert kstest(angle, "uniform").pvalue > 1e-3  # a fixed seed: this does not fail by chance


def test_random_perturbation_by_seed_radius_and_type():
    y = torch.zeros(3, 1, 4)
    first, again, other = (attacks.random_perturbation(y, 1.0, seed=s) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.dtype == torch.float32
    radius = torch.tensor([0.0, 1.0, 7.0])
    assert torch.allclose(attacks.random_perturbation(y, radius).flatten(1).norm(dim=1), radius, rtol=1e-6)


Y = normal(2, 4)
BAD = {
    "random, y a list": (lambda: attacks.random_perturbation([1.0], 1.0), TypeError, "y must be"),
    "random, radius": (lambda: attacks.random_perturbation(Y, -1.0), ValueError, "radius .*-1"),
    "project, a list": (lambda: attacks.project([1.0], 1.0), TypeError, "delta must be"),
    "project, NaN": (lambda: attacks.project(Y * math.nan, 1.0), ValueError, "delta has NaN"),
    "project, radius": (lambda: attacks.project(Y, math.nan), ValueError, "radius .*nan"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()
