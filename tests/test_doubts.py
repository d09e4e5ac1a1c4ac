"""``check_attack`` on a zoo of reconstructions that fool a search, and on sound ones, which it must let pass."""

import math
import re
import warnings

import numpy as np
import pytest
import torch
from toys import (
    errors,
    gaussian_inverse,
    linear_problem,
    matrix_with_spectrum,
    normal,
    small_net_problem,
    small_scan,
)

from ir_helpers import attacks, classical, datasets, networks, operators

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


class Flawed(torch.autograd.Function):
    """The linear map, with a gradient that a function spoils."""

    @staticmethod
    def forward(ctx, y, flaw):
        ctx.flaw = flaw
        return LINEAR(y)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.flaw(gradient @ M), None


def hides(share):
    """The linear map, whose gradient misses this share of the data."""
    return lambda y: LINEAR(torch.where(torch.arange(30) < share * 30, y.detach(), y))


def straight_through(y):
    x = LINEAR(y)
    return x + (4 * torch.round(x / 4) - x).detach()


def iterated(y):
    """Gradient descent on ‖Mx − y‖² with a gradient through the last step only."""
    with torch.no_grad():
        x = torch.zeros_like(y)
        for _ in range(20):
            x = x + 0.005 * (y - x @ M.T) @ M
    return x + 0.005 * (y - x @ M.T) @ M


def hashed(y):
    """Adds noise that depends on y alone, so that it repeats."""
    seeds = (1e6 * y).round().sum(1).long().abs().tolist()
    noise = [normal(30, seed=seed) for seed in seeds]
    return LINEAR(y) + 0.3 * torch.stack(noise)


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
    "a tenth detached": (hides(0.1), "a part of it is masked"),
    "half detached": (hides(0.5), "a part of it is masked"),
    "nine tenths detached": (hides(0.9), "a part of it is masked"),
    "all but a term detached": (lambda y: 0.1 * LINEAR(y) + 0.9 * LINEAR(y).detach(), "finite differences disagree"),
    "straight through": (straight_through, "finite differences disagree"),
    "iterated, last step seen": (iterated, "finite differences disagree"),
    "staircase": (lambda y: LINEAR(y) - 0.01 * torch.sin(100 * LINEAR(y)), "finite differences disagree"),
    "noise by the data": (hashed, "finite differences disagree"),
    "clipped gradient": (lambda y: Flawed.apply(y, lambda g: g.clamp(-1e-3, 1e-3)), "finite differences disagree"),
    "exploding slope": (lambda y: torch.tan(40 * LINEAR(y)), "finite differences disagree"),
    "dropout": (lambda y: LINEAR(torch.nn.functional.dropout(y, 0.2)), "f is random"),
    "threshold": (lambda y: (LINEAR(y) > 0).double(), "gradient is zero"),
    "gate": (lambda y: LINEAR(y) * (y[:, :1] > 0), "gradient is zero"),
    "saturated but for a trace": (lambda y: torch.sigmoid(LINEAR(y) - 80), "random noise"),
    "batch statistics": (lambda y: LINEAR((y - y.mean(0)) / y.std(0)), "samples of a batch influence each other"),
}  # fmt: skip

# No search can follow these: worst_case refuses, and check_attack names the reason for the δ of another search.
EXPLODING = {
    "NaN": lambda g: g * math.nan,
    "infinite": lambda g: g * math.inf,
    "beyond float64": lambda g: g * 1e200 * 1e200,
    "one sample": lambda g: torch.cat([g[:1] * math.nan, g[1:]]),
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


@pytest.mark.parametrize("name", EXPLODING)
def test_flags_a_gradient_that_explodes(name):
    def f(y):
        return Flawed.apply(y, EXPLODING[name])

    with pytest.raises(ValueError, match="reconstruct has a gradient with NaN or infinite values"):
        attacks.worst_case(f, Y, X, 1.0)
    result = found_doubts(f, Y, X, attacks.exact_worst_case(M, Y, X, 1.0))
    assert result.exploding == (1 / 8 if name == "one sample" else 1)
    assert any("gradient is NaN or infinite" in doubt for doubt in result.doubts)
    assert math.isfinite(result.slope_mismatch) and math.isfinite(result.hidden_slope)


def test_flags_a_gradient_that_explodes_elsewhere():
    # Fine at y and y + δ: only the further search meets it.
    def f(y):
        beyond = (y - Y).norm(dim=1, keepdim=True) > 0.5
        return Flawed.apply(y, lambda g: torch.where(beyond, g * math.nan, g))

    result = found_doubts(f, Y, X, attacks.random_perturbation(Y, 0.02), radius=1.0)
    assert result.exploding == 1


# Those that hide a gradient of the linear map, or nearly: its own worst δ, borrowed, does more harm than the search through f.
HIDING = [
    "detached",
    "rounded",
    "quantised input",
    "false gradient",
    "a tenth detached",
    "half detached",
]
HIDING += ["nine tenths detached", "straight through", "clipped gradient", "staircase"]


@pytest.mark.parametrize("name", HIDING)
def test_the_zoo_does_mislead(name):
    f, _ = ZOO[name]
    found, borrowed = (attacks.worst_case(g, Y, X, 1.0) for g in (f, LINEAR))
    assert errors(f, Y + borrowed, X).mean() > 1.03 * errors(f, Y + found, X).mean()


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


def scan(f, share, **options):
    A, x, y = small_scan()
    radius = share * y.flatten(1).norm(dim=1)
    g = lambda v: f(A, v, **options)
    return g, y, x, attacks.worst_case(g, y, x, radius)


def measured(f, dtype=torch.float32, radius=1.0):
    A = operators.gaussian(20, (1, 8, 8)).to(dtype)
    x = datasets.ellipses(4, 8).to(dtype)
    g = lambda v: f(A, v)
    return g, A(x), x, attacks.worst_case(g, A(x), x, radius)


SOUND |= {
    "fbp": lambda: scan(classical.fbp, 0.05),
    "total variation": lambda: scan(classical.total_variation, 0.05, weight=1e-3, iterations=10),
    "pseudo-inverse": lambda: measured(classical.pseudo_inverse),
    "pseudo-inverse, small radius": lambda: measured(classical.pseudo_inverse, radius=1e-2),
    "smooth inverse": lambda: measured(classical.smooth_inverse),
    "tikhonov": lambda: measured(lambda A, y: classical.tikhonov(A, y, 0.1)),
    "adjoint": lambda: measured(lambda A, y: A.T(y)),
    "tiny numbers": lambda: [
        v * 1e-30 if isinstance(v, torch.Tensor) else v for v in measured(lambda A, y: A.T(y))
    ],
    "huge numbers": lambda: [
        v * 1e30 if isinstance(v, torch.Tensor) else v for v in measured(lambda A, y: A.T(y))
    ],
    "batch of one": lambda: [v[:1] if isinstance(v, torch.Tensor) else v for v in network(torch.nn.Tanh)],
}


def network(activation):
    f, A, x = small_net_problem(activation=activation)
    return f, A(x), x, attacks.worst_case(f, A(x), x, 2.0)


def gaussian(radius):
    inverse, y, x = gaussian_inverse()
    return (lambda v: v @ inverse.T), y, x, attacks.exact_worst_case(inverse, y, x, radius)


@pytest.mark.parametrize("name", SOUND)
def test_lets_sound_attacks_pass(name):
    assert found_doubts(*SOUND[name]()).doubts == ()


@pytest.mark.parametrize("name", networks.list_pretrained())
def test_lets_the_trained_networks_pass(name):
    f = networks.pretrained(name)
    images = {"mnist": datasets.digits, "faces": datasets.faces, "ct": datasets.ct_slices}[
        re.match("[a-z]+", name)[0]
    ]
    x = images("test", count=4)
    x = x.expand(-1, f.operator.image_shape[0], -1, -1).contiguous()  # grey faces for networks of colour
    if name.startswith("ct/"):  # on a small scanner: whole slices take minutes
        x = torch.nn.functional.avg_pool2d(x, 4)
        f = networks.Reconstructor(operators.parallel_beam(64, 48), f.network, start=f.start)
    y = f.operator(x)
    radius = 0.02 * y.flatten(1).norm(dim=1)
    # On the networks for CT neither rule alone is enough, on those for faces not one start.
    both = {"steps": 60, "restarts": 2, "rule": "measured"}
    search = {"steps": 40} if name.startswith("mnist") else both
    delta = attacks.worst_case(f, y, x, radius, **search)
    found = found_doubts(f, y, x, delta, steps=10, directions=5)
    assert found.doubts == ()


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
    assert result.hidden_slope < 1e-6
    assert result.exploding == 0
    assert result.batch_gap == 0


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
