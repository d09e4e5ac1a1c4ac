"""``check_attack`` on a zoo of reconstructions that fool a search, and on sound ones, which it must let pass."""

import math
import warnings

import numpy as np
import pytest
import torch
from toys import errors, gaussian_inverse, linear_problem, matrix_with_spectrum, normal, small_net_problem

from ir_helpers import attacks

M = matrix_with_spectrum(np.geomspace(1, 10, 30), seed=2)
LINEAR, Y, X = linear_problem(M, 1.0, count=8)


class Jitter:
    """Adds new noise at every call."""

    def __init__(self):
        self.rng = torch.Generator().manual_seed(0)

    def __call__(self, y):
        return LINEAR(y) + 0.1 * torch.randn(y.shape, generator=self.rng, dtype=y.dtype)


class HiddenSlope(torch.autograd.Function):
    """The linear map, with a gradient that points elsewhere."""

    @staticmethod
    def forward(ctx, y):
        return LINEAR(y)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.roll(1, dims=1)


ZOO = {
    "constant": (lambda y: X + 1.0, "gradient is zero"),
    "detached": (lambda y: LINEAR(y.detach()), "gradient is zero"),
    "rounded": (lambda y: torch.round(20 * LINEAR(y)) / 20, "gradient is zero"),
    "quantised input": (lambda y: LINEAR(torch.floor(8 * y) / 8), "gradient is zero"),
    "sign": (lambda y: torch.sign(LINEAR(y)), "gradient is zero"),
    "clamped": (lambda y: (LINEAR(y) + 1e3).clamp(0, 1), "gradient is zero"),
    "saturated": (lambda y: torch.sigmoid(1e3 * (LINEAR(y) - 200)), "gradient is zero"),
    "random": (Jitter(), "f is random"),
    "wiggly": (lambda y: LINEAR(y) + 0.5 * torch.sin(1e4 * y), "finite differences disagree"),
    "false gradient": (HiddenSlope.apply, "finite differences disagree"),
}


def found_doubts(f, y, x, delta, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = attacks.check_attack(f, y, x, delta, **options)
    said = [str(w.message) for w in caught if issubclass(w.category, attacks.AttackWarning)]
    assert said == list(result.doubts)  # each doubt is warned of, and nothing else is
    return result


@pytest.mark.parametrize("name", ZOO)
def test_flags(name):
    f, words = ZOO[name]
    result = found_doubts(f, Y, X, attacks.worst_case(f, Y, X, 1.0))
    assert any(words in doubt for doubt in result.doubts), result


def test_flags_one_flat_sample_among_sound_ones():
    flat = torch.zeros(len(Y), 1, dtype=torch.float64)
    flat[3] = 1

    def f(y):
        return torch.where(flat == 1, LINEAR(y).detach(), LINEAR(y))

    result = found_doubts(f, Y, X, attacks.worst_case(f, Y, X, 1.0))
    assert result.vanishing == pytest.approx(1 / 8)
    assert any("gradient is zero for 12%" in doubt for doubt in result.doubts)


def test_flags_a_random_perturbation():
    delta = attacks.random_perturbation(Y, 1.0, seed=77)
    result = found_doubts(LINEAR, Y, X, delta)
    text = " ".join(result.doubts)
    assert "random noise of the same norm" in text
    assert "further steps raise the error" in text


def test_flags_a_search_of_too_few_steps():
    f, A, x = small_net_problem()
    y = A(x)
    delta = attacks.worst_case(f, y, x, 3.0, steps=1)
    assert any("further steps" in doubt for doubt in found_doubts(f, y, x, delta).doubts)
    exact = attacks.exact_worst_case(M, Y, X, 1.0)
    half = found_doubts(LINEAR, Y, X, torch.cat([exact[:4], attacks.random_perturbation(Y[4:], 1.0)]))
    assert any("further steps" in doubt for doubt in half.doubts)


def test_flags_a_slope_that_vanishes_at_one_end_only():
    y, delta = torch.zeros(4, 1), torch.ones(4, 1)
    wakes, saturates = (lambda v: torch.relu(v - 0.5)), (lambda v: v.clamp(max=0.5))
    for f in (wakes, saturates):
        assert found_doubts(f, y, torch.full((4, 1), -1.0), delta).vanishing == 1


def test_continues_from_the_perturbation_under_test():
    # Many local maxima: a new search would end below the best of thirty.
    f = lambda v: torch.cos(5 * v).cumsum(1)
    y, x = normal(20, 3), torch.zeros(20, 3, dtype=torch.float64)
    delta = attacks.worst_case(f, y, x, 1.5, restarts=30)
    result = found_doubts(f, y, x, delta, radius=1.5)
    assert errors(f, y + attacks.worst_case(f, y, x, 1.5, steps=100), x).mean() < 0.99 * result.error
    assert result.longer_error >= result.error


def test_flags_a_perturbation_that_leaves_the_radius_unused():
    exact = attacks.exact_worst_case(M, Y, X, 0.5)
    assert found_doubts(LINEAR, Y, X, exact, radius=0.5).doubts == ()
    assert found_doubts(LINEAR, Y, X, exact, radius=torch.full((8,), 0.5).double()).doubts == ()
    doubts = found_doubts(LINEAR, Y, X, exact, radius=2.0).doubts
    assert any("further steps" in doubt for doubt in doubts)


SOUND = {
    "exact, linear": lambda: (LINEAR, Y, X, attacks.exact_worst_case(M, Y, X, 1.0)),
    "search, linear": lambda: (LINEAR, Y, X, attacks.worst_case(LINEAR, Y, X, 1.0)),
    "search, small radius": lambda: (LINEAR, Y, X, attacks.worst_case(LINEAR, Y, X, 1e-2)),
    "search, radii differ": lambda: (
        LINEAR, Y, X, attacks.worst_case(LINEAR, Y, X, torch.linspace(0.1, 3, 8, dtype=torch.float64)),
    ),
    "no error before": lambda: (LINEAR, Y, LINEAR(Y), attacks.worst_case(LINEAR, Y, LINEAR(Y), 1.0)),
    "float32": lambda: (
        lambda v: v @ M.float().T, Y.float(), X.float(),
        attacks.worst_case(lambda v: v @ M.float().T, Y.float(), X.float(), 1.0),
    ),
    # Most of this error is x's part outside the range of M: no δ changes it, so all δ give nearly the same total.
    "exact, small gain": lambda: gaussian(0.1),
    "exact, larger gain": lambda: gaussian(20.0),
    "smooth network": lambda: network(torch.nn.Tanh),
    "network with kinks": lambda: network(torch.nn.ReLU),
}  # fmt: skip


def network(activation):
    f, A, x = small_net_problem(activation=activation)
    return f, A(x), x, attacks.worst_case(f, A(x), x, 2.0)


def gaussian(radius):
    inverse, y, x = gaussian_inverse()
    return (lambda v: v @ inverse.T), y, x, attacks.exact_worst_case(inverse, y, x, radius)


@pytest.mark.parametrize("name", SOUND)
def test_lets_sound_attacks_pass(name):
    assert found_doubts(*SOUND[name]()).doubts == ()


def test_numbers_are_what_they_say():
    delta = attacks.exact_worst_case(M, Y, X, 1.0)
    result = found_doubts(LINEAR, Y, X, delta, directions=4, seed=3)
    worst = errors(LINEAR, Y + delta, X)
    assert result.error == pytest.approx(worst.mean().item())
    draws = [errors(LINEAR, Y + attacks.random_perturbation(Y, 1.0, seed=3 + k), X) for k in range(4)]
    assert result.random_error == pytest.approx(torch.stack(draws).amax(0).mean().item())
    assert result.longer_error == pytest.approx(
        worst.mean().item(), rel=1e-6
    )  # nothing lies beyond the optimum
    assert result.clean_error == pytest.approx(errors(LINEAR, Y, X).mean().item())
    assert result.vanishing == 0
    assert result.repeat_gap == 0
    assert result.slope_mismatch < 1e-6  # central differences of a parabola are exact


BAD = {
    "delta NaN": (lambda: attacks.check_attack(LINEAR, Y, X, Y * math.nan), ValueError, "delta"),
    "delta narrow": (lambda: attacks.check_attack(LINEAR, Y, X, normal(8, 29)), ValueError, "delta"),
    "delta to spread": (lambda: attacks.check_attack(LINEAR, Y, X, normal(8, 1)), ValueError, "delta"),
    "delta count": (lambda: attacks.check_attack(LINEAR, Y, X, normal(3, 30)), ValueError, "delta"),
    "delta dtype": (lambda: attacks.check_attack(LINEAR, Y, X, Y.float()), TypeError, "delta"),
    "delta a list": (lambda: attacks.check_attack(LINEAR, Y, X, [1.0]), TypeError, "delta"),
    "target": (lambda: attacks.check_attack(LINEAR, Y, X[:4], Y), ValueError, "y and target"),
    "steps": (lambda: attacks.check_attack(LINEAR, Y, X, Y, steps=0), ValueError, "steps .* 0"),
    "directions": (
        lambda: attacks.check_attack(LINEAR, Y, X, Y, directions=0),
        ValueError,
        "directions .* 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()
