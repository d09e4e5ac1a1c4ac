"""Where δ comes from in training: its length, its chance, its cost, and how bad it is, against independent answers."""

import copy
import math

import numpy as np
import pytest
import torch
from toys import errors, linear_problem, matrix_with_spectrum, normal, small_net_problem

from ir_helpers import adversaries, attacks

M = matrix_with_spectrum(np.geomspace(0.3, 3, 12), 14, 12, seed=3)

# Every kind takes part in the laws that all adversaries keep: a new one needs only a line here.
KINDS = {
    "noise": adversaries.Noise,
    "per sample": lambda radius: adversaries.PerSample(radius, 3),
    "stored": lambda radius: adversaries.Stored(radius, 3),
    "common": adversaries.Common,
}
each_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def norms(delta):
    return delta.flatten(1).norm(dim=1)


def run(adversary, f, y, x, batches=3, seed=0):
    """δ for each batch of an epoch, as training asks for it; all batches are of the same images."""
    adversary.begin_epoch(seed)
    adversary.index = torch.arange(len(y))
    return [adversary.perturb(f, y, x) for _ in range(batches)]


# ---- laws of all


@each_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_delta_has_the_shape_and_kind_of_the_data_and_no_graph(make, dtype):
    f, A, x = small_net_problem(dtype=dtype)
    for y in (A(x), A(x).requires_grad_()):
        delta = run(make(0.5), f, y, x)[-1]
        assert (delta.shape, delta.dtype) == (y.shape, y.dtype)
        assert not delta.requires_grad
        assert y.grad is None


@each_kind
@pytest.mark.parametrize("radius", [0.0, 1e-3, 2.0])
def test_delta_is_as_long_as_the_radius(make, radius):
    # The worst δ of a linear map lies on the sphere, as those of the other kinds always do.
    f, y, x = linear_problem(M, 1.0)
    for delta in run(make(radius), f, y, x):
        assert torch.allclose(norms(delta), torch.full((16,), radius, dtype=torch.float64), rtol=1e-9)


@each_kind
def test_radius_may_depend_on_the_data(make):
    f, y, x = linear_problem(M, 1.0)
    y[3] = 0
    for delta in run(make(adversaries.relative(0.02)), f, y, x):
        assert torch.allclose(norms(delta), 0.02 * y.norm(dim=1), rtol=1e-9)
        assert (delta[3] == 0).all()
    own = torch.linspace(0, 3, 16, dtype=torch.float64)
    for delta in run(make(lambda y: own), f, y, x):
        assert torch.allclose(norms(delta), own, rtol=1e-9)


@each_kind
def test_data_of_any_shape(make):
    f, y, x = linear_problem(M, 1.0)
    flat = run(make(0.5), f, y, x)[-1]
    shaped = lambda v: f(v.flatten(1)).reshape(-1, 2, 7)
    delta = run(make(0.5), shaped, y.reshape(-1, 1, 3, 4), x.reshape(-1, 2, 7))[-1]
    assert delta.shape == (16, 1, 3, 4)
    assert torch.allclose(delta.flatten(1), flat, atol=1e-9)


@each_kind
def test_the_network_is_left_alone(make):
    f, A, x = small_net_problem()
    before = {name: value.clone() for name, value in f.state_dict().items()}
    run(make(1.0), f, A(x), x)
    assert all(p.grad is None and p.requires_grad for p in f.parameters())
    assert not f.training
    assert all(torch.equal(value, before[name]) for name, value in f.state_dict().items())


@each_kind
def test_works_although_the_caller_switched_gradients_off(make):
    f, A, x = small_net_problem()
    expected = run(make(1.0), f, A(x), x)
    with torch.no_grad():
        found = run(make(1.0), f, A(x), x)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_chance_comes_from_the_seed_of_the_epoch_alone(kind):
    f, A, x = small_net_problem()
    first = run(KINDS[kind](1.0), f, A(x), x, seed=5)
    torch.manual_seed(1), torch.rand(7)  # the global generator plays no part ...
    before = torch.get_rng_state()
    again, other = (run(KINDS[kind](1.0), f, A(x), x, seed=seed) for seed in (5, 6))
    assert torch.equal(torch.get_rng_state(), before)  # ... and is left alone
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if kind in ("noise", "common"):  # the others search without chance
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@each_kind
def test_an_epoch_after_load_state_is_the_epoch_after_the_first(make):
    f, A, x = small_net_problem()
    one, two = make(1.0), make(1.0)
    run(one, f, A(x), x, seed=1)
    two.load_state(copy.deepcopy(one.state()))
    expected, found = (run(adversary, f, A(x), x, seed=2) for adversary in (one, two))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert one.evaluations == two.evaluations


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_is_a_picture_of_its_moment(kind):
    f, A, x = small_net_problem()
    adversary = KINDS[kind](1.0)
    run(adversary, f, A(x), x, seed=1)
    kept = adversary.state()
    expected = run(adversary, f, A(x), x, seed=2)
    adversary.load_state(kept)
    found = run(adversary, f, A(x), x, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@each_kind
def test_a_new_adversary_has_a_state_too(make):
    f, A, x = small_net_problem()
    other = make(1.0)
    other.load_state(make(1.0).state())
    assert torch.equal(run(other, f, A(x), x)[0], run(make(1.0), f, A(x), x)[0])


class Counted(torch.nn.Module):
    """Counts how many samples go backward through a network."""

    def __init__(self, f):
        super().__init__()
        self.f, self.backward = f, 0

    def forward(self, y):
        out = self.f(y)
        if out.requires_grad:
            out.register_hook(self.note)
        return out

    def note(self, gradient):
        self.backward += len(gradient)


@pytest.mark.parametrize(
    ("adversary", "each"),
    [
        (adversaries.Noise(1.0), 0),
        (adversaries.PerSample(1.0, 1), 1),
        (adversaries.PerSample(1.0, 7), 7),
        (adversaries.Stored(1.0, 2), 2),
        (adversaries.Common(1.0), 1),
    ],
    ids=["noise", "per sample, 1 step", "per sample, 7 steps", "stored", "common"],
)
def test_evaluations_count_what_went_backward(adversary, each):
    f, A, x = small_net_problem()
    f = Counted(f).eval()
    for count in (8, 8, 3):
        run(adversary, f, A(x[:count]), x[:count], batches=1)
    assert adversary.evaluations == f.backward == 19 * each


# ---- relative


def test_relative_is_a_share_of_each_norm():
    y = normal(4, 1, 3, 5)
    radii = adversaries.relative(0.1)(y.clone().requires_grad_())
    assert torch.allclose(radii, 0.1 * y.square().sum((1, 2, 3)).sqrt())
    assert not radii.requires_grad


def test_relative_to_a_pair_spreads_the_shares_over_the_batch():
    y = torch.cat([torch.ones(500, 4), 3 * torch.ones(500, 4)])
    shares = adversaries.relative((0.005, 0.05))(y) / y.norm(dim=1)
    assert 0.005 <= shares.min() < 0.0051 and 0.049 < shares.max() <= 0.05
    assert torch.allclose(
        shares.log().quantile(0.5), torch.tensor(0.005 * 0.05).sqrt().log(), atol=0.01
    )  # geometrically
    order = torch.corrcoef(torch.stack([shares[:8].log(), torch.arange(8.0)]))[0, 1]
    assert order.abs() < 0.5  # not in the order of the step lengths
    assert torch.equal(adversaries.relative([0.1, 0.1])(y), adversaries.relative(0.1)(y))


# ---- Noise


def test_noise_is_uniform_on_the_sphere():
    # On the sphere of R³ each coordinate, in any direction, is uniform on [−ε, ε] (Archimedes).
    y = torch.zeros(20_000, 3, dtype=torch.float64)
    (delta,) = run(adversaries.Noise(2.0), None, y, None, batches=1)
    for direction in torch.cat([torch.eye(3).double(), normal(4, 3)]):
        sorted_share = (delta @ (direction / direction.norm()) / 4 + 0.5).sort().values
        gap = (sorted_share - torch.linspace(0, 1, len(y))).abs().max().item()
        assert gap < 2 / math.sqrt(len(y))  # Kolmogorov–Smirnov: exceeded once in 1500 draws


def test_noise_of_batches_and_epochs_is_independent():
    y = torch.zeros(50, 200)
    noise, draws = adversaries.Noise(1.0), []
    for seed in (0, 1_000_003, 2_000_006):  # the epochs of a training run
        draws += run(noise, None, y, None, batches=4, seed=seed)
    rows = torch.cat(draws)
    cosines = (rows @ rows.T).fill_diagonal_(0)
    assert cosines.abs().max() < 6 / math.sqrt(200)  # six standard deviations


# ---- PerSample


@pytest.mark.parametrize("radius", [0.3, adversaries.relative(0.1)], ids=["number", "relative"])
def test_per_sample_is_the_attack_of_the_book(radius):
    f, A, x = small_net_problem()
    y = A(x)
    radii = radius(y) if callable(radius) else radius
    near = 1e-5 * y
    for delta in run(adversaries.PerSample(radius, 6), f, y, x):
        assert torch.allclose(delta, attacks.worst_case(f, y, x, radii, steps=6, start=near), atol=1e-6)
        assert not torch.allclose(delta, attacks.worst_case(f, y, x, radii, steps=3, start=near), atol=1e-3)
    # The first step goes along the gradient at y, from wherever near zero. (Later ones enlarge the difference of two starts.)
    (first,) = run(adversaries.PerSample(radius, 1), f, y, x, batches=1)
    elsewhere = attacks.random_perturbation(y, 1e-5)
    assert torch.allclose(first, attacks.worst_case(f, y, x, radii, steps=1, start=elsewhere), atol=1e-4)


def test_first_steps_are_spread_over_the_batch():
    f, y, x = linear_problem(M, 1.0, count=5)
    adversary = adversaries.PerSample(2.0, 1, longest=(0.1, 0.9))
    (delta,) = run(adversary, f, y, x, batches=1)
    lengths = 2.0 * 0.1 * 9 ** (torch.arange(5, dtype=y.dtype) / 4)
    assert torch.allclose(delta.norm(dim=1), lengths, rtol=1e-3)
    assert adversary.settings() != adversaries.PerSample(2.0, 1).settings()


def test_per_sample_reaches_the_optimum_of_a_linear_map():
    f, y, x = linear_problem(M, 1.0)
    (delta,) = run(adversaries.PerSample(0.8, 50), f, y, x, batches=1)
    exact = errors(f, y + attacks.exact_worst_case(M, y, x, 0.8), x)
    assert (errors(f, y + delta, x) >= 0.995 * exact).all()


def test_per_sample_beats_common_beats_noise():
    f, A, x = small_net_problem()
    y = A(x)

    def harm(adversary):
        delta = run(adversary, f, y, x, batches=100)[-1]
        return (errors(f, y + delta, x) - errors(f, y, x)).mean()

    worst, common = harm(adversaries.PerSample(1.0, 10)), harm(adversaries.Common(1.0))
    assert worst > common > 3 * harm(adversaries.Noise(1.0))  # measured: 3.9, 3.6 and 0.6


@pytest.mark.parametrize("make", [lambda: adversaries.PerSample(0.5, 5), lambda: adversaries.Stored(0.5, 5)])
def test_a_search_finds_harm_where_f_is_exact(make):
    f, y, x = linear_problem(M, 0.0)
    assert (norms(run(make(), f, y, x)[-1]) > 0.4).all()


# ---- Stored


def test_stored_goes_on_where_the_same_image_was_left():
    # Against a search for each image on its own, which knows its last δ; images come in any order.
    f, A, x = small_net_problem()
    y, adversary = A(x), adversaries.Stored(0.5, 2)
    remembered = {}
    for index in torch.tensor([[2, 0, 1], [5, 1, 0], [7, 0, 2], [2, 5, 7]]):
        adversary.index = index
        found = adversary.perturb(f, y[index], x[index])
        for i, delta in zip(index.tolist(), found, strict=True):
            one = slice(i, i + 1)
            start = remembered.get(i, torch.zeros_like(y[one]))
            expected = attacks.worst_case(f, y[one], x[one], 0.5, steps=2, start=start)
            assert torch.allclose(delta, expected[0], atol=1e-5)  # sums of another order, float32
            remembered[i] = delta[None].clone()


def test_stored_adds_few_steps_up_to_a_long_search():
    f, A, x = small_net_problem()
    y = A(x)

    def harm(adversary):
        return errors(f, y + run(adversary, f, y, x, batches=30)[-1], x).mean()

    stored = harm(adversaries.Stored(1.0, 2))
    assert harm(adversaries.PerSample(1.0, 2)) < stored
    assert stored > 0.99 * harm(adversaries.PerSample(1.0, 60))


@pytest.mark.parametrize("index", [None, torch.arange(3), torch.arange(5)], ids=["none", "three", "five"])
def test_stored_asks_which_images_these_are(index):
    adversary = adversaries.Stored(1.0, 2)
    adversary.index = index
    with pytest.raises(ValueError, match="index"):
        adversary.perturb(F, Y, X)


# ---- Common


def direction_after(adversary, f, y, x, batches):
    delta = run(adversary, f, y, x, batches=batches)[-1]
    return delta / norms(delta)[:, None]


@pytest.mark.parametrize("step", [0.1, 0.5])
def test_common_finds_the_top_singular_vector(step):
    # Without an error to begin with the mean error is ε² ‖M d‖².
    f, y, x = linear_problem(M, 0.0)
    d = direction_after(adversaries.Common(0.5, step=step), f, y, x, 400)
    top = np.linalg.svd(M.numpy())[2][0]
    assert np.abs(d.numpy() @ top).min() > 1 - 1e-9


def test_common_finds_the_worst_delta_of_all_samples_together():
    # The mean of ‖eᵢ + εᵢ M d‖² is that of one sample with ε² = mean εᵢ² and error e = mean εᵢ eᵢ / ε, up to what d
    # does not change: exact_worst_case solves it.
    f, y, x = linear_problem(M, 2.0)
    x = x + 0.5 * normal(14, seed=8)  # misfits that do not average out
    radii = torch.linspace(0.2, 1.0, 16, dtype=torch.float64)
    radius = radii.square().mean().sqrt()
    error = (radii[:, None] * (f(y) - x)).mean(0, keepdim=True) / radius
    best = attacks.exact_worst_case(M, 0 * y[:1], -error, radius.item()) / radius
    d = direction_after(adversaries.Common(lambda y: radii), f, y, x, 600)
    assert torch.allclose(d, best.expand_as(d), atol=1e-6)


def test_common_has_one_direction_for_all_samples():
    f, A, x = small_net_problem()
    y = A(x)
    for delta in run(adversaries.Common(adversaries.relative(0.1)), f, y, x):
        d = delta / norms(delta)[:, None]
        assert torch.allclose(d, d[:1].expand_as(d), atol=1e-6)


@pytest.mark.parametrize("step", [0.0, 0.1, 1.0])
def test_common_moves_by_one_step_uphill_for_each_batch(step):
    f, y, x = linear_problem(M, 1.0)
    adversary = adversaries.Common(0.7, step=step)
    first, second = (delta[:1] / 0.7 for delta in run(adversary, f, y, x, batches=2))
    slope = ((f(y + 0.7 * first) - x) @ M).mean(0, keepdim=True)
    moved = first + step * slope / slope.norm()
    assert torch.allclose(second, moved / moved.norm(), atol=1e-12)
    assert (norms(second - first) <= step + 1e-12).all()


def test_common_keeps_its_direction_from_epoch_to_epoch_and_batch_to_batch():
    f, y, x = linear_problem(M, 1.0)
    adversary = adversaries.Common(0.5, step=0.0)
    kept = run(adversary, f, y, x, batches=1)[0][0]
    for seed in (1, 2):
        adversary.begin_epoch(seed)
        assert torch.allclose(adversary.perturb(f, y[:3], x[:3])[2], kept)


def test_common_stays_where_f_is_flat():
    y, x = normal(4, 6), normal(4, 6, seed=1)
    first, second = run(adversaries.Common(0.5), lambda v: 0 * v, y, x, batches=2)
    assert torch.allclose(first, second)
    assert torch.allclose(norms(first), torch.full((4,), 0.5, dtype=torch.float64))


def test_common_follows_the_network_to_another_type():
    # As it must follow to a GPU a direction that comes from a checkpoint, which is on the CPU.
    adversary = adversaries.Common(0.5)
    run(adversary, *linear_problem(M, 1.0))
    f, y, x = linear_problem(M, 1.0, dtype=torch.float32)
    assert adversary.perturb(f, y, x).dtype == torch.float32


# ---- Generator: its own tests follow with it; add it to KINDS above, too.


# ---- bad input

F, Y, X = linear_problem(M, 1.0, count=4)
BAD = {
    "share": (lambda: adversaries.relative(-0.1), ValueError, "share .*-0.1"),
    "share zero of a pair": (lambda: adversaries.relative((0.0, 0.1)), ValueError, r"share must .* 0\.0"),
    "share of three": (lambda: adversaries.relative((0.1, 0.2, 0.3)), ValueError, r"pair .*\(0\.1, 0\.2, 0\.3\)"),
    "share a word": (lambda: adversaries.relative("0.1"), ValueError, "share .*'0.1'"),
    "steps": (lambda: adversaries.PerSample(1.0, 0), ValueError, "steps .* 0"),
    "steps a fraction": (lambda: adversaries.PerSample(1.0, 2.5), ValueError, "steps .* 2.5"),
    "longest": (lambda: adversaries.PerSample(1.0, 5, longest=0.0), ValueError, r"longest must .* 0\.0"),
    "longest of three": (lambda: adversaries.Stored(1.0, 5, longest=(1, 2, 3)), ValueError, r"pair .*\(1, 2, 3\)"),
    "step": (lambda: adversaries.Common(1.0, step=-0.1), ValueError, "step .*-0.1"),
    "step NaN": (lambda: adversaries.Common(1.0, step=math.nan), ValueError, "step .*nan"),
    "images of another batch, per sample": (
        lambda: adversaries.PerSample(1.0, 2).perturb(F, Y, X[:3]), ValueError, "4 and 3"),
    "images of another shape, per sample": (
        lambda: adversaries.PerSample(1.0, 2).perturb(F, Y, X[:, :3]), ValueError, r"target has shape \(4, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


@each_kind
@pytest.mark.parametrize("radius", [-0.5, math.nan, math.inf, "1", None, torch.ones(4)], ids=str)
def test_refuses_a_radius_at_once(make, radius):
    with pytest.raises(ValueError, match="radius"):
        make(radius)


@each_kind
@pytest.mark.parametrize(
    "values",
    [torch.ones(3), torch.ones(4, 1), -torch.ones(4), torch.full((4,), math.nan), "1", [1.0] * 4],
    ids=["too few", "column", "negative", "nan", "word", "list"],
)
def test_refuses_the_values_of_a_radius(make, values):
    with pytest.raises((ValueError, TypeError), match="radius"):
        run(make(lambda y: values), F, Y, X)


DATA = {"int": Y.int(), "nan": Y * math.nan, "no batch": Y[0]}


@each_kind
@pytest.mark.parametrize("y", DATA.values(), ids=DATA)
def test_refuses_data(make, y):
    with pytest.raises((ValueError, TypeError), match="y must|y has NaN"):
        run(make(1.0), F, y, X)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in KINDS for name in DATA],
)
def test_refuses_data_later_too(kind, name):
    adversary = KINDS[kind](1.0)
    run(adversary, F, Y, X)
    with pytest.raises((ValueError, TypeError), match="y must|y has NaN"):
        run(adversary, F, DATA[name], X)


@pytest.mark.parametrize("x", [X[:1], X[:3], X[:, :1]], ids=["one image", "three", "one pixel"])
def test_common_refuses_images_that_do_not_fit(x):
    with pytest.raises(ValueError, match="x|target"):
        adversaries.Common(1.0).perturb(F, Y, x)
