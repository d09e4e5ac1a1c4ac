"""Train a reconstruction network, with or without an adversary: one loop for all methods of the book."""

import pandas as pd
import torch
from torch import nn

from ir_helpers import checkpoints
from ir_helpers.checks import check_batch, check_path, check_seed, not_negative, positive, positive_int
from ir_helpers.files import DataError
from ir_helpers.linear_operator import check_operator
from ir_helpers.parseval import Parseval
from ir_helpers.training_run import Diverged, Run

__all__ = ["Diverged", "Parseval", "fit", "resume"]


def fit(
    f,
    A,
    images,
    adversary=None,
    *,
    epochs,
    lam=1.0,
    batch_size=128,
    learning_rate=1e-3,
    weight_decay=0.0,
    parseval=None,
    measure=None,
    augment=None,
    mixed_precision=False,
    checkpoint=None,
    seed=0,
):
    """Train f by min over θ of E ‖f(y) − x‖² + λ ‖f(y + δ) − x‖², y = A x, with δ from the adversary.

    Adam with decoupled weight decay; the learning rate rises for 5 % of the steps and then falls to zero along a cosine.
    f is attacked in evaluation mode and trained on the clean and the perturbed data in one batch. Where ``torchrun`` began
    several processes (``processes.join``), each takes an equal part of every batch, and gradients are averaged.

    Parameters
    ----------
    f : torch.nn.Module
        From data to images; trained in place, on the device its parameters are on, and left in evaluation mode.
    A : LinearOperator
        On the same device.
    images : torch.Tensor
        x, (N, \\*A.image_shape), on any device, or on the disk (``datasets.on_disk``): one batch at a time is held.
    adversary : object, optional
        Gives δ, see ``adversaries``. None trains on clean data only.
    epochs : int
        Passes over all images.
    lam : float
        λ ≥ 0, weight of the adversarial term.
    batch_size : int
        Images in one step; the last, smaller batch of an epoch is used too.
    learning_rate, weight_decay : float
        Of the optimiser; the decay is per step and multiplied by the learning rate, as in AdamW.
    parseval : Parseval, optional
        Applied after each step, with a β that follows the learning rate.
    measure : callable, optional
        From images and a seeded ``torch.Generator`` of the CPU to data, for noise in the measurement; None takes A x.
    augment : callable, optional
        From a batch of images and the same generator to images of the same shape, such as ``datasets.flip_and_shift``:
        applied anew in every epoch, before the measurement. An adversary that keeps a δ for each image, as
        ``adversaries.Stored`` does, then goes on from the δ of another view of it.
    mixed_precision : bool
        Compute f's layers in bfloat16 where that is safe (``torch.autocast``). Weights stay as they are.
    checkpoint : str or pathlib.Path, optional
        File written after each epoch. If it is there, the run goes on from it, to the same result as without a stop: to the
        last bit on a CPU.
    seed : int
        Of the order of the images, of ``augment`` and of ``measure``. The network's first weights are the caller's: ``torch.manual_seed``.

    Returns
    -------
    pandas.DataFrame
        One row for each epoch: means over it of ``loss`` (‖f(y) − x‖²), ``adversarial_loss`` (‖f(y + δ) − x‖²) and
        ``perturbation`` (‖δ‖₂), the learning rate at its end, and up to its end ``seconds`` and ``gradient_evaluations``:
        how often an image went forward and backward through f, per image of the training set.

    Raises
    ------
    Diverged
        If a loss is not finite.
    DataError
        If the checkpoint is of a run with other settings, or cannot be read or written.
    torch.OutOfMemoryError
        If a step does not fit the GPU; the checkpoint of the epoch before is kept.
    ValueError, TypeError
        If an argument is not what it should be.
    """
    _check(f, A, images, adversary, parseval, measure, augment, mixed_precision)
    settings = {
        "epochs": positive_int("epochs", epochs),
        "lam": not_negative("lam", lam),
        "batch_size": positive_int("batch_size", batch_size),
        "learning_rate": positive("learning_rate", learning_rate),
        "weight_decay": not_negative("weight_decay", weight_decay),
        "parseval": None if parseval is None else [parseval.beta, parseval.gain],
        "mixed_precision": mixed_precision,
        "seed": check_seed(seed),
    }
    if checkpoint is not None:
        check_path("checkpoint", checkpoint)
    run = Run(f, A, images, adversary, measure, augment, settings)
    if checkpoint is not None:
        run.take_over(checkpoint)
    while run.epoch < epochs:
        try:
            run.train_one_epoch()
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            raise torch.OutOfMemoryError(_out_of_memory(run.epoch, batch_size, checkpoint)) from error
        if checkpoint is not None:
            run.save(checkpoint)
    f.eval()
    return pd.DataFrame(run.history)


def _is_out_of_memory(error):
    # Where a CUDA graph is being recorded (``replay``), leaving the recording fails too, and that error comes last.
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error is not None


def _out_of_memory(finished, batch_size, checkpoint):
    text = f"the GPU has too little memory for batch_size={batch_size} in epoch {finished + 1}: pass a smaller batch_size"
    if checkpoint is None or finished == 0:
        return text
    # Another batch_size is another run, see Run.take_over.
    return (
        f"{text} and another checkpoint, or free the GPU of other programs and call training.resume: the checkpoint "
        f"{checkpoint} keeps the epochs up to {finished}"
    )


def _check(f, A, images, adversary, parseval, measure, augment, mixed_precision):
    if not isinstance(f, nn.Module) or not any(p.requires_grad for p in f.parameters()):
        raise TypeError("f must be a torch.nn.Module with parameters to train; f.requires_grad_() frees them")
    check_operator(A)
    check_batch("images", images, A.image_shape)
    if images.dtype != A.dtype:
        raise TypeError(f"images has dtype {images.dtype}, A {A.dtype}: pass images.to({A.dtype})")
    if adversary is not None and not callable(getattr(adversary, "perturb", None)):
        raise TypeError(f"adversary must be one of ir_helpers.adversaries, or None, got {adversary!r}")
    if parseval is not None and not isinstance(parseval, Parseval):
        raise TypeError(f"parseval must be a training.Parseval, or None, got {parseval!r}")
    for name, function in (("measure", measure), ("augment", augment)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function of images and a generator, or None, got {function!r}")
    if not isinstance(mixed_precision, bool):
        raise TypeError(f"mixed_precision must be True or False, got {mixed_precision!r}")


def resume(checkpoint, f, A, images, adversary=None, *, measure=None, augment=None):
    """Go on with the run kept at ``checkpoint``, with the settings kept there; otherwise as ``fit``.

    f, A, images, adversary, measure and augment must be made as they were for that run.

    Raises
    ------
    DataError
        If there is no checkpoint, or it is of another network or adversary.
    """
    check_path("checkpoint", checkpoint)
    state = checkpoints.load(checkpoint)
    if state is None:
        raise DataError(f"there is no checkpoint at {checkpoint}: start the run with training.fit")
    settings = {key: value for key, value in state["settings"].items() if key not in ("adversary", "images")}
    if settings["parseval"] is not None:
        settings["parseval"] = Parseval(*settings["parseval"])
    return fit(f, A, images, adversary, measure=measure, augment=augment, checkpoint=checkpoint, **settings)
