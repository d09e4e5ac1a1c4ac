"""The CT experiment of the book: slices by patient, low dose, and the settings of its trainings."""

import dataclasses
import itertools

import numpy as np
import torch

from ir_helpers import datasets
from ir_helpers.checks import positive_int
from ir_helpers.experiments import Experiment
from ir_helpers.splits import few_each, members

__all__ = ["EXPERIMENT", "PHOTONS", "WIDE", "circle", "low_dose", "patients", "slices"]

PHOTONS = 1e5  # of each ray
_PARTS = ("train", "validation", "train+validation", "test")
_SLICES = 4  # of each patient, where networks are judged: some have a hundred, others one


def slices(part):
    """Return CT slices, split by patient: of those for training, every fifth is kept apart while methods are tuned.

    Parameters
    ----------
    part : str
        "train", "validation", "train+validation" or "test". In those for judging, at most four slices of a patient.

    Returns
    -------
    torch.Tensor
        (B, 1, 256, 256), values as ``datasets.ct_slices`` gives them.

    Raises
    ------
    DataError
        If the larger set is not in the folder IR_DATA_DIR.
    """
    if part not in _PARTS:
        raise ValueError(f"part must be one of {', '.join(_PARTS)}, got {part!r}")
    if part == "test":
        return datasets.ct_slices("test", full=True)[_judged()]
    images, patients = datasets.ct_slices("train", full=True), datasets.ct_patients("train")
    if part == "train+validation":
        return images
    if part == "train":
        return images[members(patients, "train")]
    apart = members(patients, "test")
    return images[apart[few_each(patients[apart], _SLICES)]]


def patients():
    """Return the patient of each test slice as a number from 0, shape (slices,)."""
    return np.unique(datasets.ct_patients("test")[_judged()], return_inverse=True)[1]


def _judged():
    return few_each(datasets.ct_patients("test"), _SLICES)


def circle(size, device=None):
    """Return which pixels of a square image lie in its inscribed circle, shape (size, size), bool.

    The rays of every view cover the circle; a patient fits into it, the corners of the square stay empty.
    """
    positive_int("size", size)
    place = torch.arange(size, device=device) - (size - 1) / 2
    return place[:, None].square() + place.square() <= (size / 2) ** 2


def low_dose(A, images, generator, photons=PHOTONS):
    """Measure images with few photons, counted on the device of the images, with a seed from a generator of the CPU.

    Arguments as in ``datasets.low_dose``, with the experiment's dose.
    """
    for name, value, kind in (("images", images, torch.Tensor), ("generator", generator, torch.Generator)):
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be a torch.{kind.__name__}, got {type(value).__name__}")
    seed = int(torch.randint(2**62, (), generator=generator))
    return datasets.low_dose(A, images, photons, torch.Generator(images.device).manual_seed(seed))


def _grid(*rates, **strengths):
    """Return each combination of a learning rate and the strengths, given as tuples."""
    names, values = ("learning_rate", *strengths), (rates, *strengths.values())
    return tuple(dict(zip(names, combination, strict=True)) for combination in itertools.product(*values))


# A network at this size learns the rule of its adversary's steps, and its radius: first steps of all lengths, ascents that begin on
# the sphere and well inside, and radii over the range that is measured, spread over the batch, leave it no rule to learn.
_SPREAD = (0.005, 0.05)
_SEARCHING = {"radius": (_SPREAD,), "lam": (0.1, 0.2, 0.3), "longest": ((0.3, 8.0),)}


# Radii are shares of ‖y‖₂.
EXPERIMENT = Experiment(
    name="ct",
    operator={"factory": "parallel_beam", "image_size": 256, "num_angles": 143},
    network={"width": 32, "levels": 3, "norm": "batch"},
    images=slices,
    grids={
        "plain": _grid(4e-3, 8e-3, 1.6e-2),
        "weight-decay": _grid(4e-3, 8e-3, weight_decay=(1.0, 3.0)),
        "parseval": _grid(4e-3, 8e-3, beta=(1e-2, 1e-1)),
        "noise": _grid(4e-3, radius=(0.04, 0.08, (0.005, 0.08)), lam=(0.3, 1.0)),
        "common": _grid(4e-3, 8e-3, radius=(0.02,), lam=(0.3, 1.0), step=(1.0,))
        + _grid(4e-3, radius=(_SPREAD,), lam=(0.1, 0.3), step=(1.0,)),
        "min-max": _grid(8e-3, **_SEARCHING, ascent_steps=(2,), sees_error=(True,), starts=((1.0, 0.25),)),
        "per-sample": _grid(8e-3, **_SEARCHING, steps=(5,)),
    },
    epochs=60,
    tuning_epochs=20,
    # At this size long steps pass by the worst case of robust networks, and measured ones by some others: restarts take turns.
    search={"steps": 150, "restarts": 2, "rule": "measured"},
    tuning_search={"steps": 50, "restarts": 1, "rule": "measured"},
    slack=1.1,  # the gap in clean error grows with training, and the tuning is short
    batch_size=8,
    radius=0.02,
    radii=(0.0, 0.005, 0.01, 0.02, 0.05),
    seeds=dict.fromkeys(("weight-decay", "parseval", "noise", "common", "per-sample"), 1),
    start="fbp",
    relative=True,
    measure=low_dose,
    mixed_precision=True,
)
# FBPConvNet at the width of its paper, 64 to 1,024 channels and 31 million parameters. The learning rates stay: batch
# normalisation makes their scale that of the weights, whatever the width.
WIDE = dataclasses.replace(EXPERIMENT, name="ct-wide", network={"width": 64, "levels": 5, "norm": "batch"})
