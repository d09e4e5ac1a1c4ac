"""How long projection and back-projection of CT slices take: a table over sizes, batches and back ends."""

import statistics
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import operators, tomography
from ir_helpers.files import write_table
from ir_helpers.jobs import run_all

__all__ = ["BATCHES", "OUTPUTS", "SIZES", "make"]

OUTPUTS = ("results/ct-projectors.csv",)
SIZES = (128, 256, 512)
BATCHES = (1, 8, 32, 128, 884)
ANGLES = 143
_ROUNDS = 7  # interleaved between the back ends, so that a slow moment meets all of them
_SHORTEST = 0.05  # seconds of a round: short calls are repeated


def make(out, machine):
    """Make ``ct-projectors.csv`` below the folder ``out``.

    One row for each size, batch, back end and direction: the median time in milliseconds, the memory in MiB beyond images and
    data that the back end took on a GPU, the matrix included, and the gap |⟨Au, v⟩ − ⟨u, Aᵀv⟩| / (‖Au‖ ‖v‖) on white noise. Back
    ends: ``matrix`` and ``matrix-free``, those of ``operators.parallel_beam``, and ``astra``: its CUDA projectors on the whole
    batch on a GPU, a loop over slices on a CPU.
    """
    jobs = [
        {"name": f"projectors-{size}-{batch}", "size": size, "batch": batch}
        for size in SIZES
        for batch in BATCHES
    ]
    # One after the other on one device, or they would slow each other down.
    alone = replace(machine, devices=machine.devices[:1], workers=1)
    rows = [row for result in run_all(_measure, jobs, alone) for row in result]
    write_table(Path(out, OUTPUTS[0]), pd.DataFrame(rows), "%.4g")


def _measure(job, folder, device):
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    geometry = tomography.ParallelBeam(job["size"], ANGLES)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(job["batch"], job["size"] ** 2, generator=generator).to(device)
    v = torch.randn(job["batch"], ANGLES * geometry.num_detectors, generator=generator).to(device)
    on_gpu = u.is_cuda
    makers = {
        "matrix": lambda: operators.parallel_beam(job["size"], ANGLES, backend="matrix").to(device).backend,
        "matrix-free": lambda: (
            operators.parallel_beam(job["size"], ANGLES, backend="astra").to(device).backend
        ),
        "astra": lambda: tomography.CudaStack(geometry, job["batch"], torch.device(device).index or 0),
    }
    if not on_gpu:  # there ASTRA's loop is the matrix-free back end
        makers = {"matrix": makers["matrix"], "astra": makers["matrix-free"]}
    backends, memory = {}, {}
    for name, maker in makers.items():
        with _PeakMemory(device) as peak:
            backends[name] = maker()
            backends[name].forward(u), backends[name].adjoint(v)
        memory[name] = peak.mebibytes
    calls = {
        (name, direction): partial(getattr(backend, direction), given)
        for name, backend in backends.items()
        for direction, given in (("forward", u), ("adjoint", v))
    }
    times = {key: [] for key in calls}
    for _ in range(_ROUNDS):
        for key, call in calls.items():
            times[key].append(_seconds(call, on_gpu))
    common = {"device": torch.cuda.get_device_name(device) if on_gpu else "CPU", "angles": ANGLES}
    return [
        common
        | {"size": job["size"], "batch": job["batch"], "backend": name, "direction": direction}
        | {
            "milliseconds": 1e3 * statistics.median(found),
            "mebibytes": memory[name],
            "gap": _gap(backends[name], u, v),
        }
        for (name, direction), found in times.items()
    ]


def _seconds(call, on_gpu):
    """Return the mean time of as many calls in a row as fill ``_SHORTEST``."""
    count, begin = 0, time.perf_counter()
    while True:
        call()
        count += 1
        if on_gpu:
            torch.cuda.synchronize()
        spent = time.perf_counter() - begin
        if spent > _SHORTEST:
            return spent / count


def _gap(backend, u, v):
    y = backend.forward(u).double()
    return ((y * v).sum() - (u * backend.adjoint(v).double()).sum()).abs().item() / (
        y.norm() * v.double().norm()
    ).item()


class _PeakMemory:
    """The largest use of a GPU's memory within a ``with`` block, beyond that at its begin; NaN on a CPU.

    ASTRA takes memory by itself, so PyTorch's counters do not see it: a thread asks the driver instead.
    """

    def __init__(self, device):
        self.device, self.mebibytes = device, float("nan")

    def __enter__(self):
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            self._begin = self._least = torch.cuda.mem_get_info(self.device)[0]
            self._done = threading.Event()
            self._thread = threading.Thread(target=self._watch)
            self._thread.start()
        return self

    def _watch(self):
        while not self._done.wait(0.0005):
            self._least = min(self._least, torch.cuda.mem_get_info(self.device)[0])

    def __exit__(self, *_):
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
            self._least = min(self._least, torch.cuda.mem_get_info(self.device)[0])
            self._done.set()
            self._thread.join()
            self.mebibytes = (self._begin - self._least) / 2**20
