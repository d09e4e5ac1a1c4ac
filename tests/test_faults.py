"""What is on the disk survives: killed processes, a full disk, a GPU without memory."""

import os
import random
import signal
import subprocess
import time
from concurrent.futures import Future

import faulty
import pandas as pd
import pytest
import torch
from torch import nn

from ir_helpers import adversaries, checkpoints, files, jobs, operators, store, training
from ir_helpers.files import DataError

if os.name != "posix":
    pytest.skip("processes are killed with POSIX signals here", allow_module_level=True)

# ---- killed trainings


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The end of a run that nobody disturbed, and the seconds that it took."""
    faulty.wait(faulty.start(time.sleep, 0))  # the server of processes imports PyTorch only once
    folder = tmp_path_factory.mktemp("unbroken")
    begin = time.perf_counter()
    assert faulty.wait(faulty.start(faulty.train, folder)) == 0
    return faulty.end(folder), time.perf_counter() - begin


def assert_goes_on(folder, unbroken):
    """The next process ends the run, with the weights and the history of the undisturbed one to the last bit."""
    assert faulty.wait(faulty.start(faulty.train, folder)) == 0
    assert faulty.end(folder) == unbroken[0]


def plan(kills=20, seed=0):
    """Half of the kills at named moments, half at times that only chance knows; in runs of five kills each."""
    rng = random.Random(seed)
    names = list(faulty.MOMENTS)
    moments = [names[k % len(names)] for k in range(kills // 2)]
    chosen = []
    for name in moments:
        most = {"before the run is read": 0, "before a step": 2 * faulty.STEPS}.get(name, 1)
        chosen.append((name, rng.randint(0, most)))
    chosen += [rng.random() for _ in range(kills - len(chosen))]
    rng.shuffle(chosen)
    return [chosen[k : k + 5] for k in range(0, kills, 5)]


@pytest.mark.parametrize("kills", plan(), ids=["first", "second", "third", "fourth"])
def test_a_run_that_is_killed_five_times_ends_with_the_same_bits(kills, unbroken, tmp_path):
    for kill in kills:
        if isinstance(kill, tuple):
            if not killed_at(kill, tmp_path):  # an earlier kill came so late that the moment is over
                begin_anew(tmp_path, unbroken)
                assert killed_at(kill, tmp_path)
            continue
        seconds = kill * unbroken[1]
        while not killed_after(seconds, tmp_path):  # too late: the run had ended
            begin_anew(tmp_path, unbroken)
            seconds /= 2
    assert_goes_on(tmp_path, unbroken)


def begin_anew(folder, unbroken):
    """Remove a run that has ended, and ended well."""
    assert faulty.end(folder) == unbroken[0]
    for path in folder.iterdir():
        path.unlink()


def killed_at(moment, folder):
    """Start a training that dies at a moment; return whether the moment came."""
    code = faulty.wait(faulty.start(faulty.train, folder, moment))
    assert code in (0, -signal.SIGKILL)
    return code != 0


def killed_after(seconds, folder):
    """Start a training and kill it after some seconds; return whether it was still there."""
    process = faulty.start(faulty.train, folder)
    time.sleep(seconds)
    process.kill()
    code = faulty.wait(process)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize("moment", faulty.MOMENTS)
def test_a_kill_costs_one_epoch_at_most(moment, unbroken, tmp_path):
    count = faulty.STEPS * 3 if moment == "before a step" else 3
    if moment == "before the run is read":
        count = 0
    assert faulty.wait(faulty.start(faulty.train, tmp_path, (moment, count))) == -signal.SIGKILL
    assert_goes_on(tmp_path, unbroken)
    steps = (tmp_path / "trace").read_text().count("s")
    assert steps <= (faulty.EPOCHS + 1) * faulty.STEPS


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path):
    path = tmp_path / "run.safetensors"
    names = [".run.safetensors.1.part", ".run.safetensors.2.part", ".other.safetensors.1.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    long_ago = time.time() - 3600
    os.utime(tmp_path / names[0], (long_ago, long_ago))
    os.utime(tmp_path / names[2], (long_ago, long_ago))
    checkpoints.save(path, {"number": 1})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [names[2], names[1], path.name]


# ---- a full disk


def assert_full(folder, code=3):
    text = (folder / "error.txt").read_text()
    assert f"could not write {folder / 'run.safetensors'}" in text
    assert "make room" in text and "training.resume" in text
    assert not list(folder.glob(".*.part"))
    return text


def test_a_file_that_grows_too_large_leaves_the_checkpoint_before(unbroken, tmp_path):
    path = tmp_path / "run.safetensors"
    assert faulty.wait(faulty.start(faulty.train, tmp_path, ("before a step", 2 * faulty.STEPS + 1))) < 0
    before = path.read_bytes()
    # The kernel refuses bytes beyond the limit in the middle of the file, as a full disk does.
    assert faulty.wait(faulty.start(faulty.train, tmp_path, None, len(before) // 2)) == 3
    assert "File too large" in assert_full(tmp_path)
    assert path.read_bytes() == before
    assert_goes_on(tmp_path, unbroken)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB, where this is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command mount")
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_checkpoint_before(unbroken, small_disk):
    path = small_disk / "run.safetensors"
    assert faulty.wait(faulty.start(faulty.train, small_disk, ("before a step", 2 * faulty.STEPS + 1))) < 0
    before = path.read_bytes()
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(2**19))
    os.truncate(ballast, ballast.stat().st_size - 8192)  # room for the trace and half a checkpoint
    assert faulty.wait(faulty.start(faulty.train, small_disk)) == 3
    assert "No space left" in assert_full(small_disk)
    assert path.read_bytes() == before
    ballast.unlink()
    assert_goes_on(small_disk, unbroken)


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_weights_survive_a_full_disk(moment, tmp_path, monkeypatch):
    path = store.save_weights(tmp_path / "mine.safetensors", {"w": torch.ones(2)}, {})
    monkeypatch.setattr(os, moment, no_space)
    with pytest.raises(DataError, match=r"could not write .*mine\.safetensors: .*No space.*free some space"):
        store.save_weights(path, {"w": torch.zeros(2)}, {})
    assert store.load_weights(path)[0]["w"].tolist() == [1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.safetensors"]


def test_a_table_survives_a_full_disk(tmp_path, monkeypatch):
    path = files.write_table(tmp_path / "results" / "curve.csv", pd.DataFrame({"rho": [0.125, 2.0]}), "%.2g")
    assert path.read_bytes() == b"rho\n0.12\n2\n"
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(DataError, match=r"could not write .*curve\.csv: .*No space"):
        files.write_table(path, pd.DataFrame({"rho": [3.0]}), "%.2g")
    assert path.read_bytes() == b"rho\n0.12\n2\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["curve.csv"]


def test_an_error_of_the_writer_is_no_error_of_the_disk(tmp_path):
    def wrong(part):
        part.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        files.write(tmp_path / "a", wrong)
    assert not list(tmp_path.iterdir())


# ---- a GPU without memory


class Greedy(nn.Module):
    """A network that runs out of memory when it is trained for the nth time."""

    def __init__(self, A, when, recording=False):
        super().__init__()
        self.weight, self.A, self.when, self.count = nn.Parameter(torch.ones(())), A, when, 0
        self.recording = recording

    def forward(self, y):
        self.count += self.training
        if self.training and self.count == self.when:
            try:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            finally:
                if self.recording:  # as torch.cuda.graph does on leaving
                    raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        return self.weight * self.A.T(y)


@pytest.mark.parametrize("adversary", [None, adversaries.Noise(0.1)], ids=["plain", "noise"])
def test_a_gpu_without_memory_keeps_the_checkpoint_and_says_what_to_lower(adversary, tmp_path):
    A, images, path = operators.gaussian(8, (1, 4, 4)), torch.rand(6, 1, 4, 4), tmp_path / "run.safetensors"
    settings = {"epochs": 3, "batch_size": 2, "checkpoint": path}
    text = (
        r"batch_size=2 in epoch 2: pass a smaller batch_size and another .*run\.safetensors keeps .* up to 1"
    )
    with pytest.raises(torch.OutOfMemoryError, match=text) as caught:
        training.fit(Greedy(A, 5), A, images, adversary, **settings)
    assert "20.00 GiB" in str(caught.value.__cause__)
    assert len(checkpoints.load(path)["history"]) == 1
    resumed, straight = Greedy(A, 0), Greedy(A, 0)
    history = training.resume(path, resumed, A, images, adversary)
    training.fit(straight, A, images, adversary, epochs=3, batch_size=2)
    assert len(history) == 3 and torch.equal(resumed.weight, straight.weight)


def test_a_recording_without_memory_is_seen_behind_its_own_error(tmp_path):
    A = operators.gaussian(8, (1, 4, 4))
    with pytest.raises(torch.OutOfMemoryError, match="pass a smaller batch_size"):
        training.fit(Greedy(A, 1, recording=True), A, torch.rand(6, 1, 4, 4), epochs=1)


def test_another_error_of_a_network_comes_as_it_is():
    class Broken(Greedy):
        def forward(self, y):
            raise RuntimeError("sizes do not match")

    A = operators.gaussian(8, (1, 4, 4))
    with pytest.raises(RuntimeError, match="^sizes do not match$"):
        training.fit(Broken(A, 0), A, torch.rand(6, 1, 4, 4), epochs=1)


@pytest.mark.parametrize("checkpoint", [None, "run.safetensors"])
def test_a_gpu_that_never_had_the_memory(checkpoint, tmp_path):
    A, path = operators.gaussian(8, (1, 4, 4)), None if checkpoint is None else tmp_path / checkpoint
    with pytest.raises(
        torch.OutOfMemoryError, match=r"batch_size=128 in epoch 1: pass a smaller batch_size$"
    ):
        training.fit(Greedy(A, 1), A, torch.rand(6, 1, 4, 4), epochs=1, checkpoint=path)
    assert not list(tmp_path.iterdir())


# ---- killed jobs


def fatal(job, folder, device):
    """A job that kills its process in its first run: in its middle, or while its result is written."""
    mark = folder / f"mark-{job['name']}"
    if job["kill"] and not mark.exists():
        mark.touch()
        kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        if job["kill"] == "in the middle":
            kill()
        os.fsync = kill
    return {"value": job["number"]}


@pytest.mark.parametrize("kill", ["in the middle", "while writing"])
def test_a_killed_job_is_named_and_runs_again(kill, tmp_path):
    todo = [{"name": f"n{k}", "number": k, "kill": kill if k == 1 else None} for k in range(3)]
    machine = jobs.Machine(folder=tmp_path)
    with pytest.raises(DataError, match=r"a process was killed.*not finished: n1-\w+, n2-\w+\. .*call again"):
        jobs.run_all(fatal, todo, machine)
    half = [path for path in tmp_path.iterdir() if path.suffix == ".part"]
    assert len(half) == (kill == "while writing")
    assert [result["value"] for result in jobs.run_all(fatal, todo, machine)] == [0, 1, 2]


def number(job, folder, device):
    (folder / "ran").touch()
    return {"number": job["number"]}


@pytest.mark.parametrize("content", [b"", b'{"number": ', b"\xff\xfe"], ids=["empty", "half", "no text"])
def test_half_a_result_is_named_and_made_again(content, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "ProcessPoolExecutor", InThisProcess)
    machine, todo = jobs.Machine(folder=tmp_path), [{"name": "n", "number": 7}]
    assert jobs.run_all(number, todo, machine) == [{"number": 7}]
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(content)
    (tmp_path / "ran").unlink()
    with pytest.warns(UserWarning, match=rf"damaged result .*{path.name}"):
        assert jobs.run_all(number, todo, machine) == [{"number": 7}]
    assert (tmp_path / "ran").exists()


class InThisProcess:
    """A pool that is no pool: starting a process takes seconds."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def test_a_folder_for_jobs_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"the folder .*file.* cannot be made: .*--work FOLDER"):
        jobs.run_all(number, [], jobs.Machine(folder=tmp_path / "file" / "inside"))
