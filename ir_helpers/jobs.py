"""Run many independent trainings, several at a time, each once: what is finished is kept in a folder."""

import hashlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

from ir_helpers import processes
from ir_helpers.store import DATA

__all__ = ["Machine", "run_all"]


@dataclass(frozen=True)
class Machine:
    """Where trainings run.

    Attributes
    ----------
    devices : tuple of str
        Taken in turn.
    workers : int
        Processes at a time. A training on a GPU replays recorded kernels and fills it: one or two for each GPU.
    folder : pathlib.Path
        Where results are kept, so that a recipe that was stopped goes on where it was.
    """

    devices: tuple = ("cpu",)
    workers: int = 1
    folder: Path = DATA.parent / "_build" / "recipes"


def run_all(function, jobs, machine):
    """Return ``function(job, machine.folder, device)`` for each job, in the order of the jobs.

    Results already in the folder are read instead.

    Parameters
    ----------
    function : callable
        A module-level function; what it returns must be what JSON can hold. It may keep further files in the folder.
    jobs : list of dict
        Of what JSON can hold; ``"name"`` begins the name of the result's file and is printed. Put the longest first.
    machine : Machine
    """
    machine.folder.mkdir(parents=True, exist_ok=True)
    if processes.size() > 1:
        return _run_together(function, jobs, machine)
    paths = [machine.folder / f"{job['name']}-{_digest(job)}.json" for job in jobs]
    waiting = [(job, path) for job, path in zip(jobs, paths, strict=True) if not path.exists()]
    begin = time.perf_counter()
    # Processes start afresh: a CUDA context does not survive a fork.
    with ProcessPoolExecutor(machine.workers, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_run, function, job, machine.folder, device, path)
            for (job, path), device in zip(waiting, cycle(machine.devices), strict=False)
        ]
        for count, finished in enumerate(as_completed(running), 1):
            name, seconds = finished.result()
            note = f"{time.perf_counter() - begin:5.0f} s: {count}/{len(running)}"
            print(f"{note} {name} took {seconds:.0f} s", flush=True)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _run_together(function, jobs, machine):
    """Run one job after the other, each in all processes of the group; the first process keeps the results."""
    paths = [machine.folder / f"{job['name']}-{_digest(job)}.json" for job in jobs]
    waiting = [(job, path) for job, path in zip(jobs, paths, strict=True) if not path.exists()]
    processes.wait()  # before the first writes what the others must still find missing
    for job, path in waiting:
        result = function(job, machine.folder, machine.devices[0])
        if processes.rank() == 0:
            _keep(result, path)
        processes.wait()
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _run(function, job, folder, device, path):
    begin = time.perf_counter()
    _keep(function(job, folder, device), path)
    return path.stem, time.perf_counter() - begin


def _keep(result, path):
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(result), encoding="utf-8")
    os.replace(part, path)


def _digest(job):
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:10]
