"""The experiments of the book, by name: settings only."""

import dataclasses
import itertools

from ir_helpers import datasets
from ir_helpers.experiments import Experiment

__all__ = ["EXPERIMENTS", "RELATED", "VARIANTS"]

_VALIDATION = 5000  # of MNIST's training images, kept apart while methods are tuned


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


def _settings(learning_rate, **strengths):
    """Return one setting for each tuple of strengths, given as a list for each."""
    names, values = strengths.keys(), zip(*strengths.values(), strict=True)
    return tuple({"learning_rate": learning_rate} | dict(zip(names, v, strict=True)) for v in values)


def _attacked(**of_the_adversary):
    """Return the grid of the two methods that search δ for each sample: radius and learning rate."""
    grid = itertools.product((2e-3, 4e-3), (2.0, 2.25, 2.5))
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


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (_MNIST, _with_measurements(_MNIST, 200), _with_measurements(_MNIST, 300))
}
# Trained with the settings chosen for the first, without a tuning of their own, with so many seeds each.
RELATED = {
    "mnist-gaussian": {
        f"mnist-gaussian-{count}": {"plain": 3, "min-max": 1, "per-sample": 1} for count in (200, 300)
    }
}
