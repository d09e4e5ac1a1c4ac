"""How training speeds up with the number of GPUs: the CT networks at full width, in groups of processes."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import chest, processes, robustness
from ir_helpers.files import write_table
from ir_helpers.jobs import run_all

__all__ = ["OUTPUTS", "make"]

OUTPUTS = ("results/ct-scaling.csv",)
_WARM_UP = 2  # epochs that are not timed: kernels are chosen, steps are recorded
_EPOCHS = {"plain": 16, "min-max": 8, "per-sample": 6}
_RUNS = ((64, 0), (64, 1), (32, 0))  # batch of all processes together, seed
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
    jobs = [_job(method, batch, seed) for batch, seed in _RUNS for method in _SETTINGS]
    # One after the other on one device, or they would slow each other down.
    run_all(_measure, jobs, dataclasses.replace(machine, devices=machine.devices[:1], workers=1))
    found = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(machine.folder.glob("scaling-*.json"))
    ]
    table = pd.DataFrame(found)
    same = ["method", "batch", "seed"]
    alone = table[table["processes"] == 1].set_index(same)["images_per_second"].rename("alone")
    table = table.join(alone, on=same).assign(speed_up=lambda t: t["images_per_second"] / t["alone"])
    table = table.drop(columns="alone").sort_values([*same, "processes"])
    write_table(Path(out, OUTPUTS[0]), table, "%.4g")


def _job(method, batch, seed):
    known = {"method": method, "batch": batch, "seed": seed, "processes": processes.size()}
    return {"name": f"scaling-{method}-{batch}-{seed}-{processes.size()}"} | known


def _measure(job, folder, device):
    experiment, on_gpu = dataclasses.replace(chest.WIDE, batch_size=job["batch"]), device.startswith("cuda")
    images = experiment.images("train")
    if on_gpu:
        torch.cuda.init()  # a process of its own has not begun it
        torch.cuda.reset_peak_memory_stats(device)
    settings, epochs = {"learning_rate": 1e-3} | _SETTINGS[job["method"]], _EPOCHS[job["method"]]
    f, history, _ = experiment.train(
        job["method"], settings, images=images, seed=job["seed"], device=device, epochs=epochs
    )
    seconds = history["seconds"].diff().iloc[_WARM_UP:].mean()
    x = experiment.images("test").to(device)
    with torch.no_grad():
        estimate = f(experiment.data(f.operator, x))
    return {
        **{name: job[name] for name in ("method", "batch", "seed", "processes")},
        "seconds_per_epoch": seconds,
        "images_per_second": len(images) / seconds,
        "mebibytes": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else float("nan"),
        "loss": history["loss"].iloc[-1],
        "psnr": robustness.psnr(estimate, x).mean().item(),
        "device": torch.cuda.get_device_name(device) if on_gpu else "CPU",
    }
