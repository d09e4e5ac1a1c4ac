"""Trainings in processes of their own that can be killed: a tiny network, and the moments at which a process ends itself."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ir_helpers import adversaries, checkpoints, files, networks, operators, training

EPOCHS, STEPS = 8, 3


def start(target, *arguments):
    """Run a function in a process that is forked from one that has imported everything: a tenth of a second, not three."""
    context = multiprocessing.get_context("forkserver")
    # Not this module: before Python 3.13 the server does not get the path to it. pytest is what every process runs first, and
    # the optimiser would import torch._dynamo for a second.
    package = [f"ir_helpers.{name}" for name in ("networks", "adversaries", "training")]
    context.set_forkserver_preload(["pytest", "torch._dynamo", *package])
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def wait(process, seconds=60):
    """Return the exit code of a process, negative where a signal ended it."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise AssertionError("the process does not end")
    return process.exitcode


def problem():
    """(f, A, images, adversary): a network of 150 weights with batch normalisation, and an adversary with a memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    A = operators.gaussian(8, (1, 4, 4))
    f = networks.Reconstructor(A, networks.UNet(width=2, levels=2, norm="batch"))
    images = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return f, A, images, adversaries.Common(0.3)


def train(folder, moment=None, limit=None):
    """Train from the checkpoint in the folder, or from the beginning; write the weights, or the error.

    ``moment`` is a name of ``MOMENTS`` and a count: the process kills itself when it gets there that many times. ``limit`` is
    a largest size of files in bytes. A warning of a damaged checkpoint is an error here: killing leaves none.
    """
    folder = Path(folder)
    warnings.simplefilter("error")
    os.environ["TQDM_DISABLE"] = "1"
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if moment is not None:
        MOMENTS[moment[0]](_killer(moment[1]))
    trace = os.open(folder / "trace", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def measure(x, generator):
        os.write(trace, b"s")  # a step
        y = A(x)
        return y + 0.1 * torch.randn(y.shape, generator=generator)

    os.write(trace, b"|")  # a process
    f, A, images, adversary = problem()
    try:
        history = training.fit(
            f,
            A,
            images,
            adversary,
            measure=measure,
            epochs=EPOCHS,
            batch_size=4,
            checkpoint=folder / "run.safetensors",
        )
    except files.DataError as error:
        (folder / "error.txt").write_text(str(error))
        sys.exit(3)
    kept = history.drop(columns="seconds").to_json(double_precision=15)
    save_file(f.state_dict(), folder / "end.safetensors", metadata={"history": kept})


def end(folder):
    """Return the last weights as bytes, and the history."""
    path = Path(folder) / "end.safetensors"
    weights = {key: value.numpy().tobytes() for key, value in load_file(path).items()}
    size = int.from_bytes(path.read_bytes()[:8], "little")
    return weights, json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["history"]


def _killer(count):
    left = [count]

    def here():
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return here


def _in_the_middle_of_the_file(here):
    real = checkpoints.save_file

    def half(tensors, part, metadata):
        real(tensors, part, metadata=metadata)
        content = part.read_bytes()
        part.write_bytes(content[: len(content) // 2])
        here()
        part.write_bytes(content)

    checkpoints.save_file = half


def _before(owner, name, counted=lambda *_: True):
    def install(here):
        real = getattr(owner, name)

        def watched(*arguments, **settings):
            if counted(*arguments):
                here()
            return real(*arguments, **settings)

        setattr(owner, name, watched)

    return install


def _after_the_last_renaming(here):
    real = files.write

    def watched(*arguments, **settings):
        real(*arguments, **settings)
        here()

    checkpoints.write = watched


def _is_old(source, _):
    return not str(source).endswith(".part")


MOMENTS = {
    "before the run is read": _before(checkpoints, "load"),
    "before a step": _before(torch.optim.AdamW, "step"),
    "in the middle of the file": _in_the_middle_of_the_file,
    "before the disk has it": _before(os, "fsync"),
    "before the old file moves": _before(os, "replace", _is_old),
    "between the two renamings": _before(os, "replace", lambda *pair: not _is_old(*pair)),
    "after the last renaming": _after_the_last_renaming,
}
