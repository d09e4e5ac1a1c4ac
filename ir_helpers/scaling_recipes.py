"""How training speeds up with the number of GPUs: the CT networks at full width, in groups of processes."""

import json
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import chest, processes, robustness
from ir_helpers.files import write_table
from ir_helpers.jobs import run_all

__all__ = ["OUTPUTS", "make"]

OUTPUTS = ("results/ct-scaling.csv",)
_EPOCHS = 3  # the first one, in which kernels are chosen, is not timed
_SETTINGS = {
    "plain": {},
    "min-max": {"radius": 0.02, "ascent_steps": 2, "sees_error": True},
    "per-sample": {"radius": 0.02, "steps": 10},
}


def make(out, machine):
    """Make ``ct-scaling.csv`` below the folder ``out``, or add to it the rows of another number of processes.

    Run it once for each: ``torchrun --nproc-per-node=K -m ir_helpers.recipes run ct-scaling --device cuda --work FOLDER``. The
    folder keeps what was measured; the table has all of it. Each row: seconds of an epoch, images per second, the peak of
    memory in one process in MiB (NaN on a CPU), and the loss and the PSNR on test slices after the same few epochs, which must
    not depend on the number of processes but for chance. The batch of all processes together is the same.
    """
    jobs = [
        {"name": f"scaling-{method}-{processes.size()}", "method": method, "processes": processes.size()}
        for method in _SETTINGS
    ]
    run_all(_measure, jobs, machine)
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(machine.folder.glob("scaling-*.json"))
    ]
    table = pd.DataFrame(found)
    alone = table[table["processes"] == 1].set_index("method")["images_per_second"]
    table["speed_up"] = table["images_per_second"] / table["method"].map(alone)
    write_table(Path(out, OUTPUTS[0]), table.sort_values(["method", "processes"]), "%.4g")


def _measure(job, folder, device):
    experiment, on_gpu = chest.WIDE, device.startswith("cuda")
    images = experiment.images("train")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    settings = {"learning_rate": 1e-3} | _SETTINGS[job["method"]]
    f, history, _ = experiment.train(job["method"], settings, images=images, device=device, epochs=_EPOCHS)
    seconds = (history["seconds"].iloc[-1] - history["seconds"].iloc[0]) / (_EPOCHS - 1)
    x = experiment.images("test").to(device)
    with torch.no_grad():
        estimate = f(experiment.data(f.operator, x))
    return {
        "method": job["method"],
        "processes": job["processes"],
        "batch": experiment.batch_size,
        "seconds_per_epoch": seconds,
        "images_per_second": len(images) / seconds,
        "mebibytes": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else float("nan"),
        "loss": history["loss"].iloc[-1],
        "psnr": robustness.psnr(estimate, x).mean().item(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
    }
