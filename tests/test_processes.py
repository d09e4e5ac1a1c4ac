"""Several processes train as one: real processes on the CPU, begun as a user would begin them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ir_helpers import adversaries, datasets, networks, operators, processes, training

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve()
METHODS = ("plain", "common", "min-max", "per-sample")


def adversary_of(method, A):
    if method == "min-max":
        torch.manual_seed(
            1 + processes.rank()
        )  # as if somebody forgot the seed: all must begin with the first one's G
        network = networks.Perturber(A, networks.UNet(4, width=4, levels=1, fold=4), sees_error=True)
        return adversaries.Generator(network, 1.0, ascent_steps=2)
    return {
        "plain": None,
        "common": adversaries.Common(1.0, step=0.5),
        "per-sample": adversaries.PerSample(1.0, 3),
    }[method]


def train(method, images, checkpoint=None, stop=False):
    """Train for two epochs; with ``stop`` the second is broken off as it begins."""
    A = operators.gaussian(20, (1, 28, 28))
    torch.manual_seed(processes.rank())
    f = networks.Reconstructor(A, networks.UNet(width=4, levels=1, fold=4))
    if processes.size() == 1:
        torch.manual_seed(0)
        f = networks.Reconstructor(A, networks.UNet(width=4, levels=1, fold=4))
    adversary = adversary_of(method, A)
    if stop:
        begin = adversary.begin_epoch
        adversary.begin_epoch = lambda seed: 1 / 0 if begun else begun.append(begin(seed))
        begun = []
    history = training.fit(f, A, images, adversary, epochs=2, batch_size=8, checkpoint=checkpoint)
    return f, history


def digest(f, history):
    weights = torch.cat([p.detach().flatten() for p in f.parameters()]).double()
    columns = ("loss", "adversarial_loss", "perturbation", "gradient_evaluations")
    return {"weights": weights.tolist(), **{name: history[name].tolist() for name in columns}}


def launch(count, folder):
    """Run this file in ``count`` processes; return what each of them wrote."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(HERE), str(folder)], check=False, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{k}.json").read_text()) for k in range(count)]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two processes found for each method, and what both wrote about themselves."""
    return launch(2, folder=tmp_path_factory.mktemp("together"))


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_find_what_one_does(together, method):
    alone = digest(*train(method, datasets.digits("train", count=32)))
    for name, expected in alone.items():
        assert np.allclose(together[0][method][name], expected, rtol=2e-4, atol=2e-5, equal_nan=True), name
        assert np.array_equal(together[0][method][name], together[1][method][name], equal_nan=True), name


def test_an_uneven_last_batch_and_noise_of_ones_own(together):
    assert [one["part"] for one in together] == [[0, 1, 2], [3, 4, 5]]  # of seven
    assert together[0]["noise"] != together[1]["noise"]
    assert np.isfinite(together[0]["uneven"]["loss"]).all()


def test_a_run_of_two_goes_on_from_its_checkpoint(together):
    for name in ("weights", "loss", "gradient_evaluations"):
        assert np.allclose(together[0]["resumed"][name], together[0]["min-max"][name], rtol=1e-6)


def test_what_keeps_something_for_each_image_is_refused(together):
    assert "adversary must keep nothing for each image" in together[0]["refused"]


def test_jobs_run_together_and_are_written_once(together):
    assert together[0]["jobs"] == together[1]["jobs"] == [[2, "a"], [2, "b"]]


def test_only_the_first_process_of_a_recipe_writes_to_its_folder(together):
    assert [one["recipe"] for one in together] == [0, 0]  # exit status
    assert together[0]["written"] == together[1]["written"] == ["by 0 of 2, data set"]


def test_a_single_process_is_a_group_of_one():
    gradient = torch.ones(3)
    processes.average([gradient]), processes.share([gradient]), processes.wait(), processes.leave()
    assert processes.size() == 1 and processes.rank() == 0 and torch.equal(gradient, torch.ones(3))
    assert processes.part(torch.arange(5)).tolist() == [0, 1, 2, 3, 4]
    assert processes.join("cpu") == "cpu"


def _count(job, folder, device):
    assert device == "cpu"
    return [processes.size(), job["name"]]


def _main(folder):
    from ir_helpers import jobs, recipes

    assert processes.join("cpu") == "cpu"
    images = datasets.digits("train", count=32)
    found = {method: digest(*train(method, images)) for method in METHODS}
    checkpoint = folder / "run.safetensors"
    noise = []

    def measure(x, generator):
        noise.append(torch.randn(2, generator=generator).tolist())
        return operators.gaussian(20, (1, 28, 28))(x)

    with pytest.raises(ZeroDivisionError):
        train("min-max", images, checkpoint, stop=True)
    found["resumed"] = digest(*train("min-max", images, checkpoint))
    found["part"] = processes.part(torch.arange(7)).tolist()
    A = operators.gaussian(20, (1, 28, 28))
    f = networks.Reconstructor(A, networks.UNet(width=4, levels=1, fold=4))
    found["uneven"] = digest(f, training.fit(f, A, images[:27], epochs=1, batch_size=8, measure=measure))
    found["noise"] = noise
    try:
        training.fit(f, A, images, adversaries.Stored(1.0, 1), epochs=1)
    except ValueError as error:
        found["refused"] = str(error)
    found["jobs"] = jobs.run_all(_count, [{"name": "a"}, {"name": "b"}], jobs.Machine(folder=folder / "jobs"))
    processes.wait()

    def write(out, machine):
        (out / "note.txt").write_text(
            f"by {processes.rank()} of {processes.size()}, data {os.environ['IR_DATA_DIR']}"
        )
        processes.wait()

    recipes.RECIPES["tiny"] = recipes.Recipe("tiny", "", ("note.txt",), write)
    (folder / "out").mkdir(exist_ok=True)
    rank = processes.rank()
    found["recipe"] = recipes.main(["run", "tiny", "--out", str(folder / "out"), "--data", "set"])
    found["written"] = [(folder / "out" / "note.txt").read_text()]
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
