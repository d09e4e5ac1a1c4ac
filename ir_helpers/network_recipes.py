"""From an experiment to weights and tables: tune each method, train it with several seeds, attack the results."""

import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import attacks, networks, robustness
from ir_helpers.catalogue import EXPERIMENTS, VARIANTS
from ir_helpers.experiments import METHODS
from ir_helpers.jobs import run_all

__all__ = ["SLACK", "choose", "train_all", "tune_all"]

SLACK = 1.2  # a tuned method may cost this factor in clean error
SEEDS = (0, 1, 2)
_SAMPLE = 50  # test images whose errors are kept one by one, for readers to recompute


def tune_all(name, folder, methods=METHODS, **where):
    """Train each method with each setting of its grid; return the table, with the setting that is chosen."""
    grids = EXPERIMENTS[name].grids
    runs = [(method, settings) for method in sorted(methods, key=_cost) for settings in grids[method]]
    table = pd.DataFrame(run_all(_tune, [_tuning_job(name, *run) for run in runs], folder, **where))
    return table.assign(chosen=table.index.isin(choose(table)))


def vary(name, folder, **where):
    """Train each of ``catalogue.VARIANTS`` as in the tuning; return the table."""
    jobs = [_tuning_job(name, *run) for run in VARIANTS.values()]
    return pd.DataFrame(run_all(_tune, jobs, folder, **where)).assign(variant=list(VARIANTS))


def _tuning_job(name, method, settings):
    return {"name": f"tune-{method}", "experiment": name, "method": method, "settings": settings}


def choose(table, slack=SLACK):
    """Return the row of each method's chosen setting.

    The plain method takes the setting of the smallest clean error c. Any other method takes the smallest worst-case error
    among its settings with a clean error of at most slack · c; if there is none, its setting of the smallest clean error.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``method``, ``clean``, ``rho``.
    slack : float

    Returns
    -------
    list
        Labels of rows of the table.
    """
    limit = slack * table.loc[table["method"] == "plain", "clean"].min()
    chosen = []
    for method, rows in table.groupby("method"):
        allowed = rows[rows["clean"] <= limit]
        by_clean = method == "plain" or allowed.empty
        chosen.append(rows["clean"].idxmin() if by_clean else allowed["rho"].idxmin())
    return chosen


def train_all(name, tuning, folder, methods=METHODS, seeds=SEEDS, **where):
    """Train each method with its chosen setting on all training images, once for each seed; attack each on the test images.

    Returns
    -------
    list of dict
        See ``_train``.
    """
    settings = tuning[tuning["chosen"]].set_index("method")["settings"].map(json.loads)
    jobs = [
        {
            "name": f"{name}-{method}",
            "experiment": name,
            "method": method,
            "settings": settings[method],
            "seed": seed,
        }
        for method in sorted(methods, key=_cost)
        for seed in seeds
    ]
    return run_all(_train, jobs, folder, **where)


def _cost(method):
    """Order methods by running time, the longest first: they must not be waited for in the end."""
    return METHODS[::-1].index(method)


def _tune(job, folder, device):
    experiment = EXPERIMENTS[job["experiment"]]
    f, history, adversary = experiment.train(
        job["method"],
        job["settings"],
        images=experiment.images("train"),
        device=device,
        epochs=experiment.tuning_epochs,
    )
    x = experiment.images("validation").to(device)
    table = _curve(experiment, f, x, (0.0, experiment.radius), steps=50, restarts=1)
    return {
        "method": job["method"],
        "settings": json.dumps(job["settings"]),
        "epochs": len(history),
        "clean": table["rho"].iloc[0],
        "rho": table["rho"].iloc[1],
        "gradient_evaluations": history["gradient_evaluations"].iloc[-1] / len(history),
        "seconds": history["seconds"].iloc[-1],
    } | (_strength(experiment, f, adversary, x) if job["method"] == "min-max" else {})


def _train(job, folder, device):
    """Return the curve (a list of rows), the row of the training table, and the file of the weights."""
    experiment, seed = EXPERIMENTS[job["experiment"]], job["seed"]
    f, history, adversary = experiment.train(
        job["method"], job["settings"], images=experiment.images("train+validation"), seed=seed, device=device
    )
    last = history.iloc[-1]
    path = networks.save(
        Path(folder, f"{experiment.name}-{job['method']}-{seed}.safetensors"),
        f,
        dict(experiment.operator),
        recipe=experiment.name,
        method=job["method"],
        settings=json.dumps(job["settings"]),
        seed=str(seed),
        epochs=str(len(history)),
        loss=f"{last['loss']:.6g}",
        adversarial_loss=f"{last['adversarial_loss']:.6g}",
        versions=f"torch {version('torch')}, numpy {version('numpy')}",
    )
    f = networks.pretrained(path).to(device)  # what a reader gets: weights in half precision
    x = experiment.images("test").to(device)
    known = {"method": job["method"], "measurements": f.operator.data_shape[-1], "seed": seed}
    curve = _curve(experiment, f, x, experiment.radii, steps=100, restarts=3).assign(**known)
    row = known | {
        "settings": json.dumps(job["settings"]),
        "epochs": len(history),
        "loss": last["loss"],
        "adversarial_loss": last["adversarial_loss"],
        "seconds": last["seconds"],
        "gradient_evaluations": last["gradient_evaluations"],
        "parameters": sum(p.numel() for p in f.parameters()),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
    }
    row |= _strength(experiment, f, adversary, x) if job["method"] == "min-max" else {}
    return {"curve": curve.to_dict("records"), "training": row, "weights": path.name}


def _curve(experiment, f, x, radii, **search):
    y = f.operator(x)
    relative_to = y.flatten(1).norm(dim=1) if experiment.relative else None
    return robustness.curve(f, f.operator, x, radii, y=y, relative_to=relative_to, batch_size=1000, **search)


def _strength(experiment, f, adversary, x):
    """Return the mean error under the generator's own δ, and under as many steps as it takes, from its δ and without it."""
    y = f.operator(x)
    radius = experiment.radius * (y.flatten(1).norm(dim=1) if experiment.relative else 1.0)
    adversary.radius = lambda data: radius * torch.ones(len(data), device=data.device)
    with torch.no_grad():
        proposed = adversary.propose(f, y, x)
    steps = max(1, adversary.ascent_steps)
    deltas = {
        "generator": proposed,
        "generator_and_steps": attacks.worst_case(f, y, x, radius, steps=steps, start=proposed),
        "steps": attacks.worst_case(f, y, x, radius, steps=steps),
        "search": attacks.worst_case(f, y, x, radius, steps=100, restarts=3),
    }
    with torch.no_grad():
        return {f"error_{k}": robustness.squared_error(f(y + d), x).mean().item() for k, d in deltas.items()}


def transfer(names, folder, device="cpu"):
    """Attack each network with the δ found for each other one, on the test images; return a tidy table."""
