"""The training loop, against one written out by hand, and the promise that a stop leaves no trace."""

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from toys import errors, matrix_with_spectrum, normal

from ir_helpers import adversaries, attacks, checkpoints, datasets, networks, operators, training
from ir_helpers.store import DataError

A = operators.gaussian(20, (1, 8, 8))
IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
COLUMNS = ["epoch", "loss", "adversarial_loss", "perturbation"]
COLUMNS += ["learning_rate", "seconds", "gradient_evaluations"]


def network(seed=0, **settings):
    """A small reconstruction network with random weights."""
    torch.manual_seed(seed)
    return networks.Reconstructor(A, networks.UNet(**({"width": 4, "levels": 2} | settings)))


def noisy(x, generator):
    """A measurement with noise."""
    y = A(x)
    return y + 0.1 * torch.randn(y.shape, generator=generator)


def pairs(f, g):
    return zip(f.state_dict().values(), g.state_dict().values(), strict=True)


def same(f, g):
    """Equal parameters and buffers, to the last bit."""
    return all(torch.equal(a, b) for a, b in pairs(f, g))


def close(f, g, tolerance):
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs(f, g))


# ---- against a loop written out by hand


class Listener:
    """An adversary with a fixed rule, that asks f for its opinion and writes down what it is shown."""

    def __init__(self):
        self.evaluations, self.index, self.heard, self.modes, self.epochs = 0, None, [], [], []

    def begin_epoch(self, seed):
        self.epochs.append(seed)

    def perturb(self, f, y, x):
        f(1000 * y)  # in training mode this would spoil the statistics of batch normalisation
        self.modes.append(f.training)
        self.heard.append((self.index.clone(), y.clone(), x.clone()))
        return 0.3 * torch.sin(3 * y).detach()

    def state(self):
        return {}

    def load_state(self, state):
        pass


def adamw_by_hand(f, batches, rates, *, lam=None, decay=0.0, beta=None, top=1e-2):
    """Train f with the formulas of Loshchilov and Hutter (arXiv:1711.05101), and those of Parseval networks by an SVD."""
    weights, moments = list(f.parameters()), [[0.0, 0.0] for _ in f.parameters()]
    f.train()
    for t, ((y, x), rate) in enumerate(zip(batches, rates, strict=True), start=1):
        if lam is None:
            loss = (f(y) - x).pow(2).sum() / len(x)
        else:  # both halves in one batch: batch normalisation sees them together
            clean, attacked = f(torch.cat([y, y + 0.3 * torch.sin(3 * y)])).chunk(2)
            loss = ((clean - x).pow(2).sum() + lam * (attacked - x).pow(2).sum()) / len(x)
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, moment, g in zip(weights, moments, slopes, strict=True):
                moment[0] = 0.9 * moment[0] + 0.1 * g
                moment[1] = 0.999 * moment[1] + 0.001 * g**2
                w *= 1 - rate * decay
                w -= rate * (moment[0] / (1 - 0.9**t)) / ((moment[1] / (1 - 0.999**t)).sqrt() + 1e-8)
                if beta is not None and w.ndim > 1:
                    U, s, Vt = torch.linalg.svd(w.flatten(1), full_matrices=False)
                    b = beta * rate / top  # the retraction follows the learning rate
                    w.copy_(((U * ((1 + b) * s - b * s**3)) @ Vt).view_as(w))


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize(
    ("lam", "decay", "beta"), [(None, 0.0, None), (None, 3.0, None), (0.7, 0.0, None), (0.7, 2.0, 0.1)]
)
def test_equals_a_loop_written_out_by_hand(lam, decay, beta, norm):
    images, A64 = IMAGES.double(), A.to(torch.float64)
    shown = []

    def measure(x, generator):
        shown.append((A64(x), x))
        return A64(x)

    found, expected = network(norm=norm).double(), network(norm=norm).double()
    history = training.fit(
        found,
        A64,
        images,
        None if lam is None else Listener(),
        lam=1.0 if lam is None else lam,
        weight_decay=decay,
        parseval=None if beta is None else training.Parseval(beta),
        measure=measure,
        epochs=5,
        learning_rate=0.01,
    )
    # One step in each epoch, so the table holds the learning rate of every step.
    adamw_by_hand(expected, shown, history["learning_rate"], lam=lam, decay=decay, beta=beta)
    assert close(found, expected, 1e-9)
    assert not close(found, network(norm=norm).double(), 1e-2)


class Marker(nn.Module):
    """One weight that a target far away pulls with a constant force: Adam's steps are as long as the learning rate."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, y):
        return self.weight.expand(len(y), 1, 8, 8)


def learning_rates(steps_per_epoch, epochs, peak):
    """The learning rate of every step, as the lengths of the steps."""
    f, positions = Marker(), []
    images = torch.full((steps_per_epoch, 1, 8, 8), 1e6, dtype=torch.float64)

    def measure(x, generator):
        positions.append(f.weight.item())
        return x

    training.fit(
        f, A.to(torch.float64), images, measure=measure, epochs=epochs, batch_size=1, learning_rate=peak
    )
    return np.diff([*positions, f.weight.item()])


@pytest.mark.parametrize(("steps_per_epoch", "epochs"), [(40, 5), (200, 1), (1, 200)])
def test_learning_rate_rises_for_a_twentieth_and_falls_along_a_cosine(steps_per_epoch, epochs):
    rates, peak = learning_rates(steps_per_epoch, epochs, 0.01) / 0.01, 10
    position = (np.arange(200) + 0.5) / 200
    cosine = 0.5 * (1 + np.cos(np.pi * position))
    # Where in a step the cosine is read is not tested: it changes by at most π/2 in all of training.
    assert np.abs(rates - cosine)[peak:].max() < np.pi / 2 / 200
    assert np.allclose(np.diff(rates[:peak]), 0.1, atol=0.01)
    assert 0 < rates[0] <= 0.11
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-3


def test_a_single_step_trains():
    f = network()
    training.fit(f, A, IMAGES, epochs=1)
    assert not close(f, network(), 1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_mixed_precision_computes_in_bfloat16_and_keeps_the_weights(mixed):
    f, kinds = network(), set()
    f.network.register_forward_hook(lambda net, inputs, output: kinds.add((inputs[0].dtype, output.dtype)))
    history = training.fit(
        f, A, IMAGES, adversaries.PerSample(0.5, 2), epochs=4, batch_size=4, mixed_precision=mixed
    )
    assert kinds == {(torch.float32, torch.bfloat16 if mixed else torch.float32)}
    assert {weights.dtype for weights in f.parameters()} == {torch.float32}
    assert {type(value) for value in history["loss"]} == {float}


def test_mixed_precision_is_close_to_single():
    table = {}
    for mixed in (False, True):
        settings = {"epochs": 5, "batch_size": 4, "mixed_precision": mixed}
        history = training.fit(network(), A, IMAGES, adversaries.Common(0.5), **settings)
        table[mixed] = history[["loss", "adversarial_loss", "perturbation"]].to_numpy()
    # bfloat16 has 8 significant bits: an error of 0.4 % in each product, less in their sums.
    assert np.allclose(table[True], table[False], rtol=0.005)
    assert not np.allclose(table[True][-1, :2], table[False][-1, :2], rtol=1e-7)


# ---- what training achieves


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_loss_falls(norm):
    f = network(norm=norm)
    before = errors(f.eval(), A(IMAGES), IMAGES).mean().item()
    history = training.fit(f, A, IMAGES, epochs=15, batch_size=4, learning_rate=0.02)
    assert history["loss"].iloc[-1] < 0.5 * history["loss"].iloc[0]
    assert errors(f, A(IMAGES), IMAGES).mean().item() < 0.8 * before


def test_an_adversary_makes_linear_reconstructions_robust():
    # Worst-case errors are exact: f is linear.
    M = matrix_with_spectrum(np.geomspace(0.1, 1, 8), 8, 12)
    B, x = operators.from_matrix(M, (1, 3, 4)), normal(64, 1, 3, 4)
    y, worst = B(x), {}
    for name, adversary in {"plain": None, "per sample": adversaries.PerSample(0.5, 5)}.items():
        f = networks.LinearReconstructor(B)
        training.fit(f, B, x, adversary, epochs=80, learning_rate=0.1)
        delta = attacks.exact_worst_case(f.matrix.detach(), y, x.flatten(1), 0.5)
        worst[name] = errors(f, y + delta, x).mean()
    assert worst["per sample"] < 0.7 * worst["plain"]


def test_weight_zero_is_training_without_an_adversary():
    images, A64 = IMAGES.double(), A.to(torch.float64)
    plain, attacked = network().double(), network().double()
    settings = {"epochs": 3, "batch_size": 5, "learning_rate": 0.01}
    training.fit(plain, A64, images, **settings)
    history = training.fit(attacked, A64, images, adversaries.Noise(1.0), lam=0.0, **settings)
    assert close(plain, attacked, 1e-7)  # sums of another order, in float64
    assert (history["adversarial_loss"] > 0).all()


# ---- chance


@pytest.mark.parametrize("variant", ["plain", "noise", "common"])
def test_the_seed_decides(variant):
    fitted, tables = [], []
    for seed in (0, 0, 1):
        f, adversary, settings = parts(variant)
        torch.manual_seed(17 + len(fitted))  # the global generator plays no part ...
        before = torch.get_rng_state()
        tables.append(training.fit(f, A, IMAGES, adversary, measure=noisy, seed=seed, **settings))
        assert torch.equal(torch.get_rng_state(), before)  # ... and is left alone
        fitted.append(f)
    assert same(fitted[0], fitted[1])
    assert tables[0].drop(columns="seconds").equals(tables[1].drop(columns="seconds"))
    assert not same(fitted[0], fitted[2])


def batches_seen(adversary=None, **settings):
    """(x, noise, where the noise came from) of every step, with images that carry their number."""
    numbered, seen = torch.arange(12.0).reshape(12, 1, 1, 1).expand(12, 1, 8, 8) / 12, []

    def measure(x, generator):
        noise = torch.randn(len(x), 20, generator=generator)
        seen.append(((12 * x[:, 0, 0, 0]).round().int().tolist(), noise, generator.device.type))
        return A(x) + noise

    settings = {"epochs": 3, "batch_size": 5} | settings
    training.fit(network(), A, numbered, adversary, measure=measure, **settings)
    return seen


def test_an_epoch_shows_every_image_once_in_its_own_order():
    orders = [numbers for numbers, _, _ in batches_seen()]
    assert [len(numbers) for numbers in orders] == [5, 5, 2] * 3
    epochs = [[*first, *second, *third] for first, second, third in zip(*[iter(orders)] * 3, strict=True)]
    assert all(sorted(numbers) == list(range(12)) for numbers in epochs)
    assert len({tuple(numbers) for numbers in epochs}) == 3


@pytest.mark.parametrize("batch_size", [12, 13, 10_000])
def test_a_batch_may_be_larger_than_the_set(batch_size):
    orders = [numbers for numbers, _, _ in batches_seen(batch_size=batch_size, epochs=2)]
    assert [sorted(numbers) for numbers in orders] == [list(range(12))] * 2


@pytest.mark.parametrize("adversary", [None, adversaries.Noise(0.5)], ids=["plain", "noise"])
def test_the_generator_of_the_measurement_repeats_with_the_seed_and_nothing_else(adversary):
    first, again, other = (batches_seen(adversary, seed=seed) for seed in (0, 0, 1))
    assert {kind for _, _, kind in first} == {"cpu"}
    assert all(torch.equal(a, b) for (_, a, _), (_, b, _) in zip(first, again, strict=True))
    draws = torch.cat([noise for _, noise, _ in first + other])  # batches, epochs and seeds
    correlations = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlations.abs().max() < 0.95  # rows of 20 numbers: 1 if drawn twice, about 0.8 by chance


# ---- other views of the images


def lift(x, generator):
    """Add a number, another one for each image and epoch."""
    return x + torch.rand(len(x), 1, 1, 1, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("adversary", [None, Listener()], ids=["plain", "attacked"])
def test_views_are_measured_and_aimed_at_anew_in_every_epoch(adversary):
    """Against the loop written out by hand, which is told what was measured."""
    images, A64, shown = IMAGES.double(), A.to(torch.float64), []

    def measure(x, generator):
        shown.append((A64(x), x))
        return A64(x)

    found, expected = network().double(), network().double()
    settings = {"epochs": 5, "learning_rate": 0.01, "measure": measure, "augment": lift}
    history = training.fit(found, A64, images, adversary, **settings)
    adamw_by_hand(expected, shown, history["learning_rate"], lam=None if adversary is None else 1.0)
    assert close(found, expected, 1e-9)
    steps = []
    for _, x in shown:  # each image moved as a whole, by another step in each epoch
        nearest = (x[:, None] - images).flatten(2).std(dim=2).argmin(dim=1)
        steps.append((x - images[nearest]).flatten(1))
        assert sorted(nearest.tolist()) == list(range(12)) and steps[-1].std(dim=1).max() < 1e-12
    steps = torch.stack([step[:, 0] for step in steps])
    assert steps.min() > 0 and steps.flatten().unique().numel() == 60
    if adversary is not None:
        assert all(torch.equal(x, view) for (_, _, x), (_, view) in zip(adversary.heard, shown, strict=True))


def test_views_and_noise_come_from_one_generator_that_the_seed_decides():
    kinds, draws = set(), []

    def augment(x, generator):
        kinds.add(generator.device.type)
        draws.append(torch.rand(20, generator=generator))
        return x

    def measure(x, generator):
        draws.append(torch.rand(20, generator=generator))
        return A(x)

    settings = {"epochs": 2, "batch_size": 5, "measure": measure, "augment": augment}
    for seed in (0, 0, 1):
        training.fit(network(), A, IMAGES, seed=seed, **settings)
    first, again, other = torch.stack(draws).split(12)
    assert kinds == {"cpu"} and torch.equal(first, again)
    correlations = torch.corrcoef(torch.cat([first, other])).fill_diagonal_(0)
    assert correlations.abs().max() < 0.95  # rows of 20 numbers: 1 if drawn twice, about 0.8 by chance


def test_no_views_are_the_images_themselves():
    f, g = network(), network()
    training.fit(f, A, IMAGES, epochs=2, batch_size=5, measure=noisy)
    training.fit(g, A, IMAGES, epochs=2, batch_size=5, measure=noisy, augment=lambda x, generator: x)
    assert same(f, g)


# ---- the table


def test_history_has_a_row_for_each_epoch():
    history = training.fit(network(), A, IMAGES, adversaries.Noise(0.5), epochs=3, batch_size=5)
    assert list(history.columns) == COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3]
    assert np.isfinite(history.to_numpy()).all()
    assert (np.diff(history["seconds"], prepend=0) > 0).all()


def test_history_holds_means_over_all_images():
    # The weights stand still, so the means are those of the whole set, although the last batch is a small one.
    f, radius = network(), adversaries.relative(0.1)
    settings = {"epochs": 1, "batch_size": 5, "learning_rate": 1e-30}
    clean, y = errors(f.eval(), A(IMAGES), IMAGES).mean().item(), A(IMAGES)
    plain = training.fit(f, A, IMAGES, **settings).iloc[0]
    assert plain["loss"] == pytest.approx(clean, rel=1e-5)
    assert math.isnan(plain["adversarial_loss"]) and plain["perturbation"] == 0
    row = training.fit(f, A, IMAGES, Listener(), lam=5.0, **settings).iloc[0]
    delta = 0.3 * torch.sin(3 * y)
    assert row["loss"] == pytest.approx(clean, rel=1e-5)
    assert row["adversarial_loss"] == pytest.approx(errors(f, y + delta, IMAGES).mean().item(), rel=1e-5)
    assert row["perturbation"] == pytest.approx(delta.norm(dim=1).mean().item(), rel=1e-5)
    row = training.fit(f, A, IMAGES, adversaries.Noise(radius), **settings).iloc[0]
    assert row["perturbation"] == pytest.approx(0.1 * y.norm(dim=1).mean().item(), rel=1e-5)


class Counted(nn.Module):
    """Counts how many samples go backward through a network."""

    def __init__(self, f):
        super().__init__()
        self.f, self.backward = f, 0

    def forward(self, y):
        out = self.f(y)
        out.register_hook(self.note)
        return out

    def note(self, gradient):
        self.backward += len(gradient)


@pytest.mark.parametrize(
    ("adversary", "each"),
    [
        (None, 1),
        (adversaries.Noise(0.5), 2),
        (adversaries.PerSample(0.5, 1), 3),
        (adversaries.PerSample(0.5, 6), 8),
        (adversaries.Stored(0.5, 2), 4),
        (adversaries.Common(0.5), 3),
    ],
    ids=["plain", "noise", "per sample, 1 step", "per sample, 6 steps", "stored", "common"],
)
def test_gradient_evaluations_are_what_went_backward(adversary, each):
    f, counts = Counted(network()), []

    def measure(x, generator):
        counts.append(f.backward)
        return A(x)

    history = training.fit(f, A, IMAGES, adversary, epochs=3, batch_size=5, measure=measure)
    assert history["gradient_evaluations"].tolist() == [each, 2 * each, 3 * each]
    assert [count / 12 for count in (counts[3], counts[6], f.backward)] == [each, 2 * each, 3 * each]


def test_gradient_evaluations_of_a_second_run_with_one_adversary():
    adversary = adversaries.PerSample(0.5, 2)
    tables = [training.fit(network(), A, IMAGES, adversary, epochs=2) for _ in range(2)]
    assert tables[0]["gradient_evaluations"].equals(tables[1]["gradient_evaluations"])


# ---- modes


def test_attacked_in_evaluation_mode_trained_in_training_mode_and_left_in_evaluation_mode():
    f, listener, modes = network(norm="batch"), Listener(), []
    f.network.last.register_forward_hook(lambda *_: modes.append(f.network.down[0].training))
    training.fit(f, A, IMAGES, listener, epochs=2, batch_size=5)
    assert listener.modes == [False] * 6
    assert modes == [False, True] * 6  # the listener's own question, then the step
    assert not any(layer.training for layer in f.modules())
    assert len(set(listener.epochs)) == 2  # each epoch has chance of its own
    f.train()
    training.fit(f, A, IMAGES, epochs=1)
    assert not f.training


def test_an_adversary_is_told_which_images_these_are():
    listener = Listener()
    training.fit(network(), A, IMAGES, listener, epochs=2, batch_size=5, measure=noisy)
    assert [len(index) for index, _, _ in listener.heard] == [5, 5, 2] * 2
    for index, y, x in listener.heard:
        assert torch.equal(x, IMAGES[index])
        assert 0 < (y - A(x)).abs().max() < 0.6  # what noisy adds


# ---- stop and resume

VARIANTS = {
    "plain": {},
    "noise": {"adversary": lambda: adversaries.Noise(0.5)},
    "per sample": {"adversary": lambda: adversaries.PerSample(adversaries.relative(0.1), 2)},
    "stored": {"adversary": lambda: adversaries.Stored(0.5, 2)},
    "common": {"adversary": lambda: adversaries.Common(0.5)},
    "batch normalisation": {"norm": "batch", "adversary": lambda: adversaries.Noise(0.5)},
    "parseval": {"parseval": training.Parseval(0.1, 0.7)},
    "decay, weight, seed": {"weight_decay": 0.3, "lam": 0.4, "seed": 5, "adversary": lambda: adversaries.Common(1.0)},
    "mixed precision": {"mixed_precision": True, "learning_rate": 0.01},
}  # fmt: skip
EPOCHS, STEPS = 3, 3  # 12 images in batches of 5


class Stop(Exception):
    pass


def stopped(count):
    """The noisy measurement, which breaks off the run at step ``count``."""
    calls = []

    def measure(x, generator):
        calls.append(len(x))
        if len(calls) > count:
            raise Stop
        return noisy(x, generator)

    return measure


def parts(variant, seed=0):
    """f, the adversary, and the settings of a variant."""
    settings = {"epochs": EPOCHS, "batch_size": 5} | VARIANTS[variant]
    adversary = settings.pop("adversary", lambda: None)()
    return network(seed, norm=settings.pop("norm", "none")), adversary, settings


@functools.cache
def unstopped(variant):
    """f and the history of a variant's run, with noisy measurements."""
    f, adversary, settings = parts(variant)
    return f, training.fit(f, A, IMAGES, adversary, measure=noisy, **settings)


def assert_same_run(f, history, variant):
    g, expected = unstopped(variant)
    assert same(f, g)
    assert history.drop(columns="seconds").equals(expected.drop(columns="seconds"))
    assert (np.diff(history["seconds"], prepend=0) > 0).all()
    assert not f.training


def stopped_run(folder, variant, stop):
    f, adversary, settings = parts(variant)
    checkpoint = folder / "new" / "run.safetensors"
    with pytest.raises(Stop):
        training.fit(f, A, IMAGES, adversary, measure=stopped(stop), checkpoint=checkpoint, **settings)
    return checkpoint


@pytest.mark.parametrize("stop", [4, 8], ids=["in the second epoch", "in the third epoch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(variant, stop, tmp_path):
    checkpoint = stopped_run(tmp_path, variant, stop)
    # Everything is new: weights from another seed, an adversary without memory.
    f, adversary, settings = parts(variant, seed=1)
    if stop == 4:
        history = training.resume(checkpoint, f, A, IMAGES, adversary, measure=noisy)
    else:
        history = training.fit(f, A, IMAGES, adversary, measure=noisy, checkpoint=checkpoint, **settings)
    assert_same_run(f, history, variant)


@pytest.mark.parametrize("make", [lambda: None, lambda: adversaries.Stored(0.5, 2)], ids=["plain", "stored"])
def test_a_run_with_other_views_that_was_stopped_ends_with_the_same_bits(make, tmp_path):
    settings = {"epochs": EPOCHS, "batch_size": 5, "augment": datasets.flip_and_shift}
    expected, f, checkpoint = network(), network(1), tmp_path / "c"
    table = training.fit(expected, A, IMAGES, make(), measure=noisy, **settings)
    with pytest.raises(Stop):
        training.fit(network(), A, IMAGES, make(), measure=stopped(4), checkpoint=checkpoint, **settings)
    views = settings["augment"]
    history = training.resume(checkpoint, f, A, IMAGES, make(), measure=noisy, augment=views)
    assert same(f, expected)
    assert history.drop(columns="seconds").equals(table.drop(columns="seconds"))


def test_a_run_stopped_in_its_first_epoch_begins_anew(tmp_path):
    checkpoint = stopped_run(tmp_path, "common", 2)
    f, adversary, settings = parts("common")
    with pytest.raises(DataError, match=r"no checkpoint at .*run\.safetensors.*training\.fit"):
        training.resume(checkpoint, f, A, IMAGES, adversary, measure=noisy)
    history = training.fit(f, A, IMAGES, adversary, measure=noisy, checkpoint=checkpoint, **settings)
    assert_same_run(f, history, "common")


def test_a_run_may_stop_again_and_again(tmp_path):
    settings = parts("common")[2] | {"checkpoint": tmp_path / "c"}
    for seed in range(EPOCHS - 1):  # each goes on for four steps: one epoch, and a step that is lost
        f, adversary, _ = parts("common", seed)
        with pytest.raises(Stop):
            training.fit(f, A, IMAGES, adversary, measure=stopped(4), **settings)
    f, adversary, _ = parts("common", seed=9)
    assert_same_run(f, training.fit(f, A, IMAGES, adversary, measure=noisy, **settings), "common")


def test_a_finished_run_is_read_not_trained(tmp_path):
    f, adversary, settings = parts("common")
    checkpoint = tmp_path / "run.safetensors"
    first = training.fit(f, A, IMAGES, adversary, measure=noisy, checkpoint=checkpoint, **settings)
    before, never = checkpoint.read_bytes(), stopped(0)
    f, adversary, _ = parts("common", seed=1)
    history = training.fit(f, A, IMAGES, adversary, measure=never, checkpoint=checkpoint, **settings)
    assert_same_run(f, history, "common")
    f, adversary, _ = parts("common", seed=1)
    history = training.resume(checkpoint, f, A, IMAGES, adversary, measure=never)
    assert_same_run(f, history, "common")
    assert history.equals(first)
    assert checkpoint.read_bytes() == before


def test_a_damaged_checkpoint_costs_an_epoch_and_changes_nothing(tmp_path):
    checkpoint = stopped_run(tmp_path, "common", 7)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    f, adversary, settings = parts("common", seed=1)
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        history = training.fit(f, A, IMAGES, adversary, measure=noisy, checkpoint=checkpoint, **settings)
    assert_same_run(f, history, "common")


OTHER = {
    "epochs": (4, "epochs=3, not 4"),
    "lam": (2.0, r"lam=1\.0, not 2\.0"),
    "batch_size": (4, "batch_size=5, not 4"),
    "learning_rate": (2e-3, r"learning_rate=0\.001, not 0\.002"),
    "weight_decay": (0.1, r"weight_decay=0\.0, not 0\.1"),
    "parseval": (training.Parseval(0.1), r"parseval=None, not \[0\.1, 1\.0\]"),
    "mixed_precision": (True, "mixed_precision=False, not True"),
    "seed": (1, "seed=0, not 1"),
}


@pytest.mark.parametrize("name", OTHER)
def test_other_settings_are_named(name, tmp_path):
    checkpoint, (value, text) = stopped_run(tmp_path, "common", 3), OTHER[name]
    f, adversary, settings = parts("common", seed=1)
    before = checkpoint.read_bytes()
    with pytest.raises(DataError, match=rf"run\.safetensors .*{text}"):
        training.fit(f, A, IMAGES, adversary, checkpoint=checkpoint, **settings | {name: value})
    assert checkpoint.read_bytes() == before
    assert same(f, network(1))


def test_another_network_is_refused(tmp_path):
    checkpoint = stopped_run(tmp_path, "common", 7)
    for f in (network(width=5), network(norm="batch"), networks.LinearReconstructor(A)):
        with pytest.raises(DataError, match=r"run\.safetensors is of another network"):
            training.resume(checkpoint, f, A, IMAGES, adversaries.Common(0.5))


def test_an_adversary_is_not_added_on_the_way(tmp_path):
    checkpoint = stopped_run(tmp_path, "plain", 7)
    with pytest.raises(DataError, match=r"run\.safetensors is of a run with adversary=None"):
        training.resume(checkpoint, network(), A, IMAGES, adversaries.Common(0.5))


@pytest.mark.parametrize(
    ("adversary", "images"),
    [
        (None, IMAGES),
        (adversaries.Noise(0.5), IMAGES),
        (adversaries.Common(5.0), IMAGES),
        (adversaries.Common(0.5, step=0.3), IMAGES),
        (adversaries.Common(0.5), IMAGES[:7]),
    ],
    ids=["none", "another kind", "another radius", "another step", "other images"],
)
def test_another_adversary_or_other_images_are_refused(adversary, images, tmp_path):
    checkpoint = stopped_run(tmp_path, "common", 3)
    with pytest.raises(DataError):
        training.resume(checkpoint, network(), A, images, adversary)


# ---- divergence


class Trap(nn.Module):
    """Multiplies its output by infinity when it is trained for the nth time: all of it, or its second half."""

    def __init__(self, when, share):
        super().__init__()
        self.weight, self.when, self.share, self.count = nn.Parameter(torch.ones(())), when, share, 0

    def forward(self, y):
        x = self.weight * A.T(y)
        if not self.training:
            return x
        self.count += 1
        factor = torch.ones(len(x), 1, 1, 1)
        if self.count == self.when:
            factor[int(self.share * len(x)) :] = math.inf
        return x * factor


@pytest.mark.parametrize("share", [0.0, 0.5], ids=["both losses", "the attacked loss"])
@pytest.mark.parametrize("when", [1, 20, 21, 30, 31, 60])
def test_divergence_is_named_at_the_step_where_it_began(when, share, tmp_path):
    # 30 steps in an epoch: losses are looked at every 20 steps, and the later ones are not finite either.
    epoch, step = divmod(when - 1, 30)
    images, checkpoint = IMAGES[:1].expand(30, 1, 8, 8), tmp_path / "c"
    settings = {"epochs": 2, "batch_size": 1, "checkpoint": checkpoint}
    text = f"in step {step + 1} of epoch {epoch + 1}: lower learning_rate=0.001 "
    with pytest.raises(training.Diverged, match=text):
        training.fit(Trap(when, share), A, images, adversaries.Noise(0.5), **settings)
    # What came before is kept, what is broken is not.
    kept = checkpoints.load(checkpoint)
    assert (kept is None) == (epoch == 0)
    if kept is not None:
        assert kept["network"]["weight"].isfinite()


def assert_diverges(adversary):
    text = r"in step \d of epoch 1: lower learning_rate=1e\+06 or lam=1"
    with pytest.raises(training.Diverged, match=text):
        training.fit(network(), A, IMAGES, adversary, epochs=3, batch_size=2, learning_rate=1e6)


@pytest.mark.parametrize("adversary", [None, adversaries.Noise(0.5)], ids=["plain", "noise"])
def test_divergence_of_a_network(adversary):
    assert_diverges(adversary)


@pytest.mark.parametrize("make", [lambda: adversaries.PerSample(0.5, 2), lambda: adversaries.Common(0.5)])
def test_divergence_of_a_network_that_is_searched(make):
    assert_diverges(make())


# ---- bad input


def fit(images=IMAGES, f=None, operator=A, **settings):
    return training.fit(f or network(), operator, images, **{"epochs": 2} | settings)


BAD = {
    "images a list": (lambda: fit([1.0]), TypeError, "images must be .*list"),
    "images an array": (lambda: fit(IMAGES.numpy()), TypeError, "images must be .*ndarray"),
    "images of whole numbers": (lambda: fit((255 * IMAGES).to(torch.uint8)), TypeError, "images must be .*uint8"),
    "images of another size": (lambda: fit(IMAGES[..., :4]), ValueError, r"images .*\(B, 1, 8, 8\).*\(12, 1, 8, 4\)"),
    "images without channel": (lambda: fit(IMAGES[:, 0]), ValueError, r"images .*\(12, 8, 8\)"),
    "no images": (lambda: fit(IMAGES[:0]), ValueError, r"images .*\(0, 1, 8, 8\)"),
    "images NaN": (lambda: fit(IMAGES * math.nan), ValueError, "images has NaN"),
    "images of another type": (lambda: fit(IMAGES.double()), TypeError, "torch.float64"),
    "epochs": (lambda: fit(epochs=0), ValueError, "epochs must .* 0"),
    "epochs a fraction": (lambda: fit(epochs=1.5), ValueError, r"epochs must .* 1\.5"),
    "lam": (lambda: fit(lam=-1), ValueError, "lam must .*-1"),
    "lam NaN": (lambda: fit(lam=math.nan), ValueError, "lam must .*nan"),
    "batch_size": (lambda: fit(batch_size=0), ValueError, "batch_size must .* 0"),
    "learning_rate": (lambda: fit(learning_rate=0), ValueError, "learning_rate must .* 0"),
    "learning_rate a word": (lambda: fit(learning_rate="1e-3"), ValueError, "learning_rate must .*'1e-3'"),
    "weight_decay": (lambda: fit(weight_decay=-1e-3), ValueError, "weight_decay must .*-0.001"),
    "seed": (lambda: fit(seed=-1), ValueError, "seed must .*-1"),
    "seed a fraction": (lambda: fit(seed=0.5), ValueError, r"seed must .*0\.5"),
    "measurements of another shape": (lambda: fit(measure=lambda x, g: x), ValueError, r"y must have shape \(B, 20\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


class Thin(nn.Module):
    """Gives images of another shape, which torch stretches to that of x without a word."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(20, 8)

    def forward(self, y):
        return self.layer(y).reshape(-1, 1, 1, 8)


UNCLEAR = {
    "f gives another shape": (lambda: fit(f=Thin()), r"f.*\(12, 1, 1, 8\)"),
    "f is frozen": (lambda: fit(f=network().requires_grad_(False)), "f .*requires_grad"),
    "f has no parameters": (lambda: fit(f=nn.Flatten()), "f must"),
    "f is no module": (lambda: fit(f=lambda y: A.T(y)), "f must"),
    "A and images exchanged": (lambda: fit(A, operator=IMAGES), "A must"),
    "adversary a word": (lambda: fit(adversary="noise"), "adversary must"),
    "parseval a number": (lambda: fit(parseval=0.1), "parseval must"),
    "measure a number": (lambda: fit(measure=0), "measure must"),
    "augment a word": (lambda: fit(augment="flip"), "augment must be a function of images and a generator"),
    "views of another shape": (
        lambda: fit(augment=lambda x, g: x[:, :, :4]),
        r"augment .*\(12, 1, 8, 8\).*\(12, 1, 4, 8\)",
    ),
    "views of another type": (lambda: fit(augment=lambda x, g: x.double()), "augment .*float32.*float64"),
    "other views in one batch": (lambda: fit(augment=lambda x, g: x[:3]), r"augment .*\(12, 1, 8, 8\)"),
    "mixed_precision a word": (lambda: fit(mixed_precision="no"), "mixed_precision must"),
    "seed too large": (lambda: fit(seed=2**64), "seed must"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_names_the_argument(name):
    call, text = UNCLEAR[name]
    with pytest.raises((TypeError, ValueError), match=text):
        call()
