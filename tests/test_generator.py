"""The network that proposes δ: what it is bounded by, what it learns, what it costs, and that it leaves f alone."""

import copy
import math

import pytest
import torch
from toys import errors, normal

from ir_helpers import adversaries, attacks, networks, operators, training

A = operators.gaussian(20, (1, 8, 8), seed=3)
X = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = A(X)
GAIN = A.singular_values()[-1].item() ** 2  # ‖A Aᵀ‖: the slope of the error of f = Aᵀ grows with its square


def perturber(sees_error=False, seed=0, width=6):
    torch.manual_seed(seed)
    channels = 4 if sees_error else 3
    return networks.Perturber(A, networks.UNet(channels, 1, width=width, levels=2), sees_error=sees_error)


def make(sees_error=False, radius=0.5, seed=0, **settings):
    return adversaries.Generator(perturber(sees_error, seed), radius, **settings)


def f(y):
    return A.T(y)


def norms(delta):
    return delta.flatten(1).norm(dim=1)


KINDS = {
    "climbs": lambda **k: make(inner_steps=2, **k),
    "climbs on parts": lambda **k: make(inner_steps=3, parts=3, **k),
    "is bounded by the hinge": lambda **k: make(penalty=10 * GAIN, **k),
    "imitates": lambda **k: make(ascent_steps=2, **k),
    "sees the error": lambda **k: make(True, ascent_steps=1, **k),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_delta_fits_the_data_and_carries_no_graph(kind):
    delta = KINDS[kind]().perturb(f, Y, X)
    assert (delta.shape, delta.dtype, delta.requires_grad) == (Y.shape, Y.dtype, False)
    assert torch.isfinite(delta).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "hinge" not in kind])
@pytest.mark.parametrize("radius", [0.5, adversaries.relative(0.1)], ids=["number", "relative"])
def test_without_a_penalty_delta_is_on_the_sphere(kind, radius):
    delta = KINDS[kind](radius=radius).perturb(f, Y, X)
    wanted = 0.1 * norms(Y) if callable(radius) else torch.full((24,), radius)
    assert torch.allclose(norms(delta), wanted, rtol=1e-4)


def test_the_first_step_climbs_what_the_docstring_says():
    # One step of Adam moves each weight by its rate against the sign of the gradient: so the signs tell the objective.
    g, penalty, radius = make(penalty=3.0, radius=0.01), 3.0, 0.01
    before = copy.deepcopy(g.network)
    delta = before(Y, f(Y))
    objective = (f(Y + delta) - X).square().flatten(1).sum(1)
    objective = (objective - penalty * (norms(delta) ** 2 - radius**2).clamp_min(0)).mean()
    slopes = torch.autograd.grad(objective, list(before.parameters()))
    g.perturb(f, Y, X)
    for old, new, slope in zip(before.parameters(), g.network.parameters(), slopes, strict=True):
        clear = slope.abs() > 1e-3 * slope.abs().max()
        assert torch.equal(torch.sign(new - old)[clear], torch.sign(slope)[clear])


def test_climbing_finds_most_of_what_a_search_finds_on_a_fixed_map():
    g = make(inner_steps=1, learning_rate=3e-3)
    for _ in range(150):
        delta = g.perturb(f, Y, X)
    clean, best = errors(f, Y, X), errors(f, Y + attacks.worst_case(f, Y, X, 0.5), X)
    share = (errors(f, Y + delta, X) - clean).mean() / (best - clean).mean()
    assert share > 0.8  # measured: see the last assertion for what chance finds
    chance = errors(f, Y + attacks.random_perturbation(Y, 0.5), X)
    assert ((chance - clean).mean() / (best - clean).mean()) < 0.2


@pytest.mark.parametrize("sees_error", [False, True])
def test_imitation_turns_towards_what_the_steps_find(sees_error):
    g = make(sees_error, ascent_steps=2, learning_rate=3e-3)

    def agreement():
        found = g.perturb(f, Y, X)
        cosines = torch.cosine_similarity(g.propose(f, Y, X).flatten(1), found.flatten(1))
        return (cosines if sees_error else cosines.abs()).mean().item()

    first = agreement()
    for _ in range(80):
        last = agreement()
    assert last > max(0.7, first + 0.2)


def test_a_hinge_below_the_gain_lets_delta_run_away_and_one_above_does_not():
    # For δ = t u the objective grows as t² (‖J u‖² − penalty): without bound if the penalty is below ‖J‖².
    lengths = {}
    for share in (0.2, 20.0):
        g = make(penalty=share * GAIN, learning_rate=3e-3)
        for _ in range(120):
            delta = g.perturb(f, Y, X)
        lengths[share] = norms(delta).mean().item()
    assert lengths[0.2] > 10 * lengths[20.0]
    assert lengths[20.0] < 2 * 0.5


@pytest.mark.parametrize(
    ("kind", "each"),
    [
        ("climbs", 2),
        ("climbs on parts", 1),
        ("is bounded by the hinge", 1),
        ("imitates", 2),
        ("sees the error", 1),
    ],
)
def test_evaluations_count_what_went_backward_through_f(kind, each):
    count = 0

    def note(gradient):
        nonlocal count
        count += len(gradient)

    def counted(y):
        out = f(y)
        if out.requires_grad:
            out.register_hook(note)
        return out

    g = KINDS[kind]()
    g.perturb(counted, Y, X)
    assert g.evaluations == count == each * len(Y)


@each_kind
def test_f_is_left_alone(kind):
    torch.manual_seed(1)
    net = networks.Reconstructor(A, networks.UNet(width=4, levels=2)).eval()
    before = copy.deepcopy(net.state_dict())
    KINDS[kind]().perturb(net, Y, X)
    assert all(weights.grad is None for weights in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@each_kind
def test_a_resumed_run_ends_with_the_same_bits(kind, tmp_path):
    def parts():
        torch.manual_seed(2)
        return networks.Reconstructor(A, networks.UNet(width=4, levels=2)), KINDS[kind](seed=5)

    class Stop(Exception):
        pass

    def stopping(x, generator):
        stopping.calls += 1
        if stopping.calls == 5:
            raise Stop
        return A(x)

    settings = {"epochs": 3, "batch_size": 8}
    whole, g = parts()
    training.fit(whole, A, X, g, **settings)
    stopping.calls = 0
    with pytest.raises(Stop):
        training.fit(*_with(parts()), **settings, measure=stopping, checkpoint=tmp_path / "c")
    again, h = parts()
    training.fit(again, A, X, h, **settings, checkpoint=tmp_path / "c")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(g.network.parameters(), h.network.parameters(), strict=True))
    assert g.evaluations == h.evaluations


def _with(parts):
    net, generator = parts
    return net, A, X, generator


def test_the_perturbation_lies_in_the_range_of_a():
    scan = operators.parallel_beam(16, 6).to(torch.float64)
    torch.manual_seed(0)
    g = networks.Perturber(scan, networks.UNet(3, 1, width=4, levels=2).double(), start="fbp")
    y = normal(2, *scan.data_shape)
    delta = g(y, normal(2, 1, 16, 16, seed=1)).flatten(1)
    matrix = scan.matrix().to_dense()
    outside = delta.T - matrix @ torch.linalg.lstsq(matrix, delta.T, driver="gelsd").solution
    assert outside.norm() < 1e-9 * delta.norm()


def test_seeing_the_error_needs_the_image():
    with pytest.raises(ValueError, match="x must be given"):
        make(True).propose(f, Y)
    assert make(False).propose(f, Y).shape == Y.shape


def test_ascents_begin_at_shares_of_the_proposal(monkeypatch):
    begun = []
    monkeypatch.setattr(
        attacks, "worst_case", lambda f, y, x, radius, *, start, **_: begun.append(start) or start + 0.1
    )
    adversary = make(True, ascent_steps=1, starts=(1.0, 0.25))
    proposed = adversary.propose(f, Y, X).detach()
    adversary.perturb(f, Y, X)
    assert torch.equal(begun[0][::2], proposed[::2]) and torch.equal(begun[0][1::2], 0.25 * proposed[1::2])
    assert adversary.settings()["starts"] == [1.0, 0.25]


BAD = {
    "penalty": ({"penalty": 0.0}, r"penalty must .* 0\.0"),
    "penalty NaN": ({"penalty": math.nan}, "penalty must .* nan"),
    "inner_steps": ({"inner_steps": 0}, "inner_steps must .* 0"),
    "ascent_steps": ({"ascent_steps": 1.5}, r"ascent_steps must .* 1\.5"),
    "ascent_steps below zero": ({"ascent_steps": -1}, "ascent_steps must .* -1"),
    "parts": ({"parts": 0}, "parts must .* 0"),
    "learning_rate": ({"learning_rate": 0}, "learning_rate must .* 0"),
    "starts": ({"starts": (1.0, 0.0)}, r"starts must .* 0\.0"),
    "longest": ({"longest": (1.0, -1.0)}, r"longest must .*-1\.0"),
    "radius": ({"radius": -1.0}, r"radius must .*-1\.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    settings, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        make(**settings)


def test_more_parts_than_images_in_the_last_batch():
    delta = make(inner_steps=4, parts=4).perturb(f, Y[:1], X[:1])
    assert torch.isfinite(delta).all() and delta.shape == Y[:1].shape
