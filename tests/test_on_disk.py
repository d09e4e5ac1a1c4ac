"""Images that stay on the disk: the same numbers, the same training, and no more memory than a batch needs."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ir_helpers import checkpoints, datasets, networks, operators, training
from ir_helpers.files import DataError

ROOT = Path(__file__).resolve().parents[1]

# 384 MiB of images, in a file with holes that takes no room; the process may take 250 MiB more than it has when it begins.
# A shared map of a file does not count towards the limit, a copy of it does.
IN_BOUNDED_MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from ir_helpers import datasets, operators, training

class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(1))

    def forward(self, y):
        return self.level.expand(len(y), 1, 512, 512)

A = operators.parallel_beam(512, 1, backend="astra")
fit = lambda images: training.fit(Flat(), A, images, epochs=1, batch_size=8)
fit(torch.zeros(8, 1, 512, 512))  # what is loaded and kept once
images = np.lib.format.open_memmap(sys.argv[1], "w+", "float32", (384, 1, 512, 512))
images[5], images[300] = 1, 1
del images
now = int(next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmData" in l).split()[1])
resource.setrlimit(resource.RLIMIT_DATA, (1024 * now + 250 * 2**20, resource.RLIM_INFINITY))
images = datasets.on_disk(sys.argv[1])
loss = fit(images)["loss"][0]
try:
    images.clone()
except RuntimeError:
    print("too large to copy", loss)
"""


def saved(path, images):
    np.save(path, images)
    return datasets.on_disk(path)


def test_the_same_numbers_and_the_same_training(tmp_path):
    A = operators.gaussian(20, (1, 28, 28))
    images = datasets.digits("train", count=24)
    mapped = saved(tmp_path / "digits.npy", images.numpy())
    assert torch.equal(mapped, images)
    losses = []
    for given in (images, mapped):
        torch.manual_seed(0)
        f = networks.Reconstructor(A, networks.UNet(width=4, levels=1, fold=4))
        losses.append(training.fit(f, A, given, epochs=2, batch_size=7)["loss"].tolist())
    assert losses[0] == losses[1]


def test_a_summary_in_parts_is_the_mean_of_all():
    images = torch.rand(101, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert checkpoints.summary(images) == [101, round(images.double().mean().item(), 6)]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux limits the memory so")
def test_a_set_larger_than_the_memory_is_trained_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IN_BOUNDED_MEMORY, str(tmp_path / "large.npy")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    text, loss = done.stdout.rsplit(maxsplit=1)
    # Two of 384 images are all ones. f begins at 0 and moves by some thousandths.
    assert text == "too large to copy" and float(loss) == pytest.approx(2 * 512**2 / 384, rel=0.05)


def test_other_files_are_refused(tmp_path):
    for name, array in {
        "integers": np.zeros((2, 1, 3, 3), np.uint8),
        "double": np.zeros((2, 1, 3, 3)),
        "flat": np.zeros((2, 9), np.float32),
        "empty": np.zeros((0, 1, 3, 3), np.float32),
    }.items():
        with pytest.raises(DataError, match=r"must hold images \(N, C, H, W\) as float32"):
            saved(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "several.npz", a=np.zeros(3))
    (tmp_path / "text.npy").write_text("no array")
    whole = tmp_path / "whole.npy"
    saved(whole, np.zeros((2, 1, 3, 3), np.float32))
    (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-9])
    for name in ("several.npz", "text.npy", "cut.npy", "missing.npy"):
        with pytest.raises(DataError, match="could not read .* Pass a file that numpy.save wrote"):
            datasets.on_disk(tmp_path / name)
    with pytest.raises(TypeError, match="path must be a str"):
        datasets.on_disk(3)
