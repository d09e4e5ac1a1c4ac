"""Run many independent trainings, several at a time, each once: what is finished is kept in a folder."""

import hashlib
import json
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

from ir_helpers import processes
from ir_helpers.files import DataError, write
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

    Raises
    ------
    DataError
        If the folder cannot be written to, or a process was killed. The text names the jobs that were not finished; those
        that were are kept, and a second call goes on from them.
    """
    try:
        machine.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the folder {machine.folder} for finished jobs cannot be made: {error}. Pass another one, --work FOLDER"
        ) from error
    if processes.size() > 1:
        return _run_together(function, jobs, machine)
    paths, waiting = _waiting(jobs, machine)
    begin = time.perf_counter()
    # Processes start afresh: a CUDA context does not survive a fork.
    with ProcessPoolExecutor(machine.workers, mp_context=get_context("spawn")) as pool:
        running = [
            pool.submit(_run, function, job, machine.folder, device, path)
            for (job, path), device in zip(waiting, cycle(machine.devices), strict=False)
        ]
        try:
            for count, finished in enumerate(as_completed(running), 1):
                name, seconds = finished.result()
                note = f"{time.perf_counter() - begin:5.0f} s: {count}/{len(running)}"
                print(f"{note} {name} took {seconds:.0f} s", flush=True)
        except BrokenProcessPool as error:
            missing = ", ".join(path.stem for _, path in waiting if not path.exists())
            raise DataError(
                f"a process was killed, perhaps for its memory; not finished: {missing}. What is finished is kept in "
                f"{machine.folder}: call again to go on, with fewer workers if memory was short"
            ) from error
    return [_result(path) for path in paths]


def _waiting(jobs, machine):
    """Return where the results of all jobs belong, and the jobs, each with its place, that have no whole result yet."""
    paths = [machine.folder / f"{job['name']}-{_digest(job)}.json" for job in jobs]
    waiting = []
    for job, path in zip(jobs, paths, strict=True):
        try:
            _result(path)
        except FileNotFoundError:
            waiting.append((job, path))
        except ValueError as error:
            warnings.warn(f"damaged result {path} ({error}): its job runs again", stacklevel=3)
            path.unlink(missing_ok=True)
            waiting.append((job, path))
    return paths, waiting


def _run_together(function, jobs, machine):
    """Run one job after the other, each in all processes of the group; the first process keeps the results."""
    paths, waiting = _waiting(jobs, machine)
    processes.wait()  # before the first writes what the others must still find missing
    for job, path in waiting:
        result = function(job, machine.folder, machine.devices[0])
        if processes.rank() == 0:
            _keep(result, path)
        processes.wait()
    return [_result(path) for path in paths]


def _result(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _run(function, job, folder, device, path):
    begin = time.perf_counter()
    _keep(function(job, folder, device), path)
    return path.stem, time.perf_counter() - begin


def _keep(result, path):
    text = json.dumps(result)
    write(path, lambda part: part.write_text(text, encoding="utf-8"))


def _digest(job):
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:10]
