"""The experiments of the book, by name: settings only."""

import dataclasses
import itertools
import math
import os
from pathlib import Path

import torch

from ir_helpers import chest, datasets
from ir_helpers.experiments import Experiment

__all__ = ["EXPERIMENTS", "RELATED", "SPECTRA", "VARIANTS"]

_VALIDATION = 5000  # of MNIST's training images, kept apart while methods are tuned
_CELEBA = {"train": 19_600, "validation": 1400, "test": 1000}  # evenly spread over the published partition
_RATES, _SHARES = (1e-3, 2e-3), (0.075, 0.1, 0.125)  # of faces: learning rates, and ε in training
_SPREAD = (0.02, 0.12)  # ε of the samples of a batch of faces


def _digits(part):
    if part == "test":
        return datasets.digits(
            "test", count=1000
        )  # of those that come with the book, so readers can repeat it
    images = datasets.digits("train", full=True)
    return {
        "train": images[:-_VALIDATION],
        "validation": images[-_VALIDATION::5],
        "train+validation": images,
    }[part]


def _portraits(part):
    images = datasets.faces("test" if part == "test" else "train", full=True)
    if part in ("test", "train+validation"):
        return images
    kept = torch.arange(len(images)) % 8 == 0  # one portrait of each person, so this is a split by person
    return images[kept if part == "validation" else ~kept]


def _celeba(part):
    source = Path(os.environ.get("IR_DATA_DIR", ""), "celeba")
    parts = [datasets.faces(each, count=_CELEBA[each], source=source) for each in part.split("+")]
    return torch.cat(parts)


def _grey_faces():
    return datasets.faces("test").expand(-1, 3, -1, -1).contiguous()


def _settings(learning_rate, **strengths):
    """Return one setting for each tuple of strengths, given as a list for each."""
    names, values = strengths.keys(), zip(*strengths.values(), strict=True)
    return tuple({"learning_rate": learning_rate} | dict(zip(names, v, strict=True)) for v in values)


def _attacked(rates=(2e-3, 4e-3), radii=(2.0, 2.25, 2.5), **of_the_adversary):
    """Return the grid of the two methods that search δ for each sample: radius and learning rate."""
    grid = itertools.product(rates, radii)
    return tuple({"learning_rate": rate, "radius": radius} | of_the_adversary for rate, radius in grid)


_MNIST = Experiment(
    name="mnist-gaussian",
    operator={"factory": "gaussian", "num_measurements": 100, "image_shape": [1, 28, 28], "seed": 0},
    network={"width": 48, "levels": 2, "fold": 2},
    images=_digits,
    grids={
        "plain": tuple({"learning_rate": rate} for rate in (1e-3, 2e-3, 4e-3, 8e-3)),
        "weight-decay": _settings(2e-3, weight_decay=(0.1, 0.5)) + _settings(4e-3, weight_decay=(0.1, 0.5)),
        "parseval": _settings(2e-3, beta=(1e-2, 1e-1, 1e-1), gain=(1.0, 1.0, 0.7))
        + _settings(4e-3, beta=(1e-2, 1e-1), gain=(1.0, 1.0)),
        "noise": _settings(2e-3, radius=(4.0, 8.0)) + _settings(4e-3, radius=(4.0, 8.0)),
        "common": _settings(2e-3, radius=(2.0, 2.0, 2.0), step=(0.1, 1.0, 10.0))
        + _settings(4e-3, radius=(2.0, 2.0), step=(0.3, 3.0)),
        "min-max": _attacked(ascent_steps=2, sees_error=True),
        "per-sample": _attacked(steps=10),
    },
    epochs=24,
    tuning_epochs=6,
    batch_size=128,
    radius=2.0,
    radii=(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
)

_SPHERE = {"learning_rate": 2e-3, "radius": 2.0, "lam": 1.0}
# What a generator needs, and what does without one: each trained as in the tuning.
_VARIANTS = {
    "G(y), K = 1": ("min-max", {"inner_steps": 1, "sees_error": False}),
    "G(y), K = 4": ("min-max", {"inner_steps": 4, "sees_error": False}),
    "G(y), K = 4, faster G": ("min-max", {"inner_steps": 4, "sees_error": False, "generator_rate": 3e-3}),
    "G(y), K = 4 on quarters": ("min-max", {"inner_steps": 4, "parts": 4, "sees_error": False}),
    "G(y), hinge, K = 4": ("min-max", {"inner_steps": 4, "penalty": 10.0, "sees_error": False}),
    "G(y, error), K = 4": ("min-max", {"inner_steps": 4, "sees_error": True}),
    "G(y) + 2 steps": ("min-max", {"ascent_steps": 2, "sees_error": False}),
    "G(y, error) + 1 step": ("min-max", {"ascent_steps": 1, "sees_error": True}),
    "G(y, error) + 2 steps": ("min-max", {"ascent_steps": 2, "sees_error": True}),
    "1 step": ("per-sample", {"steps": 1}),
    "2 steps": ("per-sample", {"steps": 2}),
    "4 steps": ("per-sample", {"steps": 4}),
    "10 steps": ("per-sample", {"steps": 10}),
    "stored + 1 step": ("stored", {"steps": 1}),
    "stored + 2 steps": ("stored", {"steps": 2}),
}
VARIANTS = {"mnist-gaussian": {name: (method, _SPHERE | own) for name, (method, own) in _VARIANTS.items()}}


def _with_measurements(experiment, count):
    operator = experiment.operator | {"num_measurements": count}
    return dataclasses.replace(experiment, name=f"{experiment.name}-{count}", operator=operator)


def _milder(**of_the_adversary):
    """Return the grid of a method that searches δ, where ε = 2 at full weight costs too much clean error."""
    rows = _settings(2e-3, radius=(2.0, 1.0), lam=(0.3, 1.0))
    rows += _settings(4e-3, radius=(2.0, 2.0, 2.0, 1.0, 1.0), lam=(0.1, 0.3, 1.0, 0.3, 1.0))
    return tuple(row | of_the_adversary for row in rows)


# As the Gaussian but for A: as many data, the same ‖A‖_F. Without the method "common", whose question is settled there.
_DCT = dataclasses.replace(
    _MNIST,
    name="mnist-dct",
    operator={"factory": "dct_block", "num_measurements": 100, "image_shape": [1, 28, 28]},
    grids={
        "plain": _MNIST.grids["plain"],
        "weight-decay": _MNIST.grids["weight-decay"]
        + _settings(2e-3, weight_decay=(2.0,))
        + _settings(4e-3, weight_decay=(2.0,)),
        "parseval": _MNIST.grids["parseval"] + _settings(8e-3, beta=(1e-1,), gain=(1.0,)),
        "noise": _settings(2e-3, radius=(2.0, 4.0, 8.0))
        + _settings(4e-3, radius=(2.0, 4.0, 8.0, 4.0), lam=(1.0, 1.0, 1.0, 0.3)),
        "min-max": _milder(ascent_steps=2, sees_error=True),
        "per-sample": _milder(steps=10),
    },
)


def _with_condition(experiment, condition):
    """Return the experiment with a geometric spectrum, ‖A‖_F = √n as a Gaussian A has on average, and a short training."""
    m, shape = experiment.operator["num_measurements"], experiment.operator["image_shape"]
    ratios = [condition ** (k / (m - 1)) for k in range(m)]
    scale = math.sqrt(math.prod(shape) / sum(ratio**2 for ratio in ratios))
    values = [scale * ratio for ratio in ratios]
    operator = {"factory": "with_spectrum", "singular_values": values, "image_shape": shape, "seed": 0}
    name = f"mnist-spectra-{condition}"
    return dataclasses.replace(experiment, name=name, operator=operator, epochs=experiment.tuning_epochs)


def _varied(steps, *rows, **same):
    """Return settings of a search on faces with first steps of all lengths; each row gives ε, λ and how many ``steps``."""
    same |= {"learning_rate": 2e-3, "longest": (0.3, 8.0)}
    return tuple({"radius": radius, "lam": lam, steps: count} | same for radius, lam, count in rows)


# Radii are shares of ‖y‖. 560 and 490 portraits make whole batches of 35, which a GPU replays.
_FACES = Experiment(
    name="faces",
    operator={"factory": "gaussian", "num_measurements": 1500, "image_shape": [3, 64, 64], "seed": 0},
    network={"in_channels": 3, "out_channels": 3, "width": 52, "levels": 2, "fold": 4},
    images=_portraits,
    grids={
        "plain": tuple({"learning_rate": rate} for rate in (5e-4, 1e-3, 2e-3, 4e-3)),
        "weight-decay": _settings(1e-3, weight_decay=(0.1, 0.5))
        + _settings(2e-3, weight_decay=(0.1, 0.5, 2.0)),
        "parseval": _settings(1e-3, beta=(1e-2, 1e-1, 1e-1), gain=(1.0, 1.0, 0.7))
        + _settings(2e-3, beta=(1e-2, 1e-1, 3e-1), gain=(1.0, 1.0, 1.0))
        + _settings(4e-3, beta=(1e-1,), gain=(1.0,)),
        "noise": _settings(1e-3, radius=(0.1, 0.15, 0.2, 0.4))
        + _settings(2e-3, radius=(0.1, 0.2, 0.4))
        + _settings(2e-3, radius=(0.1, 0.2, (0.02, 0.2)), lam=(0.3, 0.3, 1.0)),
        "common": _settings(1e-3, radius=(0.1, 0.1, 0.1), step=(0.1, 1.0, 10.0))
        + _settings(2e-3, radius=(0.1, 0.1), step=(0.3, 3.0))
        + _settings(1e-3, radius=(0.1, _SPREAD), lam=(0.1, 0.3), step=(10.0, 10.0)),
        "min-max": _attacked(_RATES, _SHARES, ascent_steps=2, sees_error=True)
        + _varied(
            "ascent_steps",
            *((0.1, 0.3, 2), (0.1, 1.0, 2), (_SPREAD, 0.3, 2), (_SPREAD, 1.0, 2)),
            *((0.1, 0.3, 4), (0.075, 1.0, 4), (_SPREAD, 1.0, 4)),
            *((_SPREAD, 1.0, 6), (_SPREAD, 2.0, 6), ((0.02, 0.15), 1.0, 6), ((0.05, 0.12), 0.5, 6)),
            starts=(1.0, 0.25),
            sees_error=True,
        ),
        "per-sample": _attacked(_RATES, _SHARES, steps=10)
        + _settings(2e-3, radius=(0.1,), lam=(0.3,), steps=(10,))
        + _varied(
            "steps",
            *((0.1, 0.3, 5), (_SPREAD, 0.3, 5), (_SPREAD, 1.0, 5)),
            *((_SPREAD, 1.0, 10), ((0.02, 0.15), 1.0, 10)),
        ),
    },
    epochs=600,
    tuning_epochs=150,
    batch_size=35,
    slack=1.15,  # the gap in clean error grows with training, and the tuning is short
    radius=0.1,
    radii=(0.0, 0.025, 0.05, 0.1, 0.15, 0.2),
    start="smooth",
    relative=True,
    augment=datasets.flip_and_shift,
    seeds=dict.fromkeys(("weight-decay", "parseval", "noise", "common", "per-sample"), 1),
    further={"orl": _grey_faces},
)
# The same on CelebA, for who has it: more faces, each seen less often.
_FACES_CELEBA = dataclasses.replace(_FACES, name="faces-celeba", images=_celeba, epochs=16, tuning_epochs=4)

# By condition number: the same singular vectors, another spectrum.
SPECTRA = {condition: _with_condition(_MNIST, condition) for condition in (1, 3, 10, 30, 100, 300, 1000)}
EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        _MNIST,
        _with_measurements(_MNIST, 200),
        _with_measurements(_MNIST, 300),
        _DCT,
        chest.EXPERIMENT,
        chest.WIDE,
        _FACES,
        _FACES_CELEBA,
    )
}
# Trained with the settings chosen for the first, without a tuning of their own, with so many seeds each.
RELATED = {
    "mnist-gaussian": {
        f"mnist-gaussian-{count}": {"plain": 3, "min-max": 1, "per-sample": 1} for count in (200, 300)
    }
}
