"""From an experiment to weights and tables: tune each method, train it with several seeds, attack the results."""

import json
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import attacks, networks, processes, robustness
from ir_helpers.catalogue import EXPERIMENTS, RELATED, VARIANTS
from ir_helpers.experiments import METHODS
from ir_helpers.files import write, write_table
from ir_helpers.jobs import run_all

__all__ = ["choose", "make", "outputs", "weights_path"]

SEEDS = (0, 1, 2)
_SAMPLE = 50  # test images whose errors are kept one by one, for readers to recompute


def make(name, out, machine):
    """Make the weights and tables of the experiment ``name`` below the folder ``out``; see ``tables``."""
    tuning = tune_all(name, machine)
    settings = tuning[tuning["chosen"]].set_index("method")["settings"].map(json.loads)
    experiment = EXPERIMENTS[name]
    counts = {method: experiment.seeds.get(method, len(SEEDS)) for method in settings.index}
    runs = [(method, name, seed) for method, count in counts.items() for seed in SEEDS[:count]]
    for other, counts in RELATED.get(name, {}).items():
        runs += [(method, other, seed) for method, count in counts.items() for seed in SEEDS[:count]]
    jobs = [
        _training_job(other, method, settings[method], seed) for method, other, seed in _longest_first(runs)
    ]
    trained = run_all(_train, jobs, machine)
    first = [job for job in jobs if job["experiment"] == name and job["seed"] == SEEDS[0]]
    compared = run_all(_compare, [{"name": f"{name}-compare", "experiment": name, "jobs": first}], machine)[0]
    tables = {
        "": _table([row for result in trained for row in result["curve"]], "measurements", "method", "seed"),
        "-training": _table([result["training"] for result in trained], "measurements", "method", "seed"),
        "-tuning": tuning,
        "-transfer": _table(compared["transfer"], "source", "target"),
        "-images": _table(compared["images"], "method"),
    }
    for other in experiment.further:
        rows = [row for result in trained for row in result["further"][other]]
        tables[f"-{other}"] = _table(rows, "measurements", "method", "seed")
        tables[f"-{other}-images"] = _table(compared["further"][other], "method")
    if name in VARIANTS:
        tables["-variants"] = vary(name, machine)
    for ending, table in tables.items():
        write_table(Path(out, "results", f"{name}{ending}.csv"), table, "%.6g")
    for job in first:
        path = Path(out, "weights", name, f"{job['method']}.safetensors")
        write(path, partial(shutil.copyfile, _weights(job, machine.folder)))


def outputs(name):
    """Return the files that ``make`` writes, as paths below the folder ``data``."""
    endings = ["", "-training", "-tuning", "-transfer", "-images"] + ["-variants"] * (name in VARIANTS)
    endings += [f"-{other}{part}" for other in EXPERIMENTS[name].further for part in ("", "-images")]
    tables = [f"results/{name}{ending}.csv" for ending in endings]
    return tuple([f"weights/{name}/{method}.safetensors" for method in EXPERIMENTS[name].methods] + tables)


def tune_all(name, machine):
    """Train each method with each setting of its grid; return the table, with the setting that is chosen."""
    grids, slack = EXPERIMENTS[name].grids, EXPERIMENTS[name].slack
    runs = [(method, settings) for method, grid in grids.items() for settings in grid]
    table = pd.DataFrame(run_all(_tune, [_tuning_job(name, *run) for run in _longest_first(runs)], machine))
    return _table(table.assign(chosen=table.index.isin(choose(table, slack))), "method")


def vary(name, machine):
    """Train each of ``catalogue.VARIANTS`` as in the tuning; return the table."""
    variants = VARIANTS[name]
    jobs = [_tuning_job(name, *run) for run in variants.values()]
    return pd.DataFrame(run_all(_tune, jobs, machine)).assign(variant=list(variants))


def choose(table, slack):
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


def _longest_first(runs):
    """Sort tuples that begin with a method by its running time, or the end is spent waiting for the longest."""
    return sorted(runs, key=lambda run: -METHODS.index(run[0]))


def _table(rows, *columns):
    """Return a table sorted by the columns, methods in the order of the book."""
    order = {method: k for k, method in enumerate(METHODS)}
    return pd.DataFrame(rows).sort_values(list(columns), key=lambda c: c.replace(order), kind="stable")


def _tuning_job(name, method, settings):
    return {"name": f"tune-{method}", "experiment": name, "method": method, "settings": settings}


def _training_job(name, method, settings, seed):
    job = {"experiment": name, "method": method, "settings": settings, "seed": seed}
    return {"name": f"{name}-{method}-{seed}"} | job


def weights_path(folder, experiment, method, seed=SEEDS[0]):
    """Return where ``make`` keeps the weights of one training in the folder of finished jobs."""
    return Path(folder, f"{experiment}-{method}-{seed}.safetensors")


def _weights(job, folder):
    return weights_path(folder, job["experiment"], job["method"], job["seed"])


def _tune(job, folder, device):
    experiment = EXPERIMENTS[job["experiment"]]
    images, epochs = experiment.images("train"), experiment.tuning_epochs
    f, history, adversary = experiment.train(
        job["method"], job["settings"], images=images, device=device, epochs=epochs
    )
    x = experiment.images("validation").to(device)
    table = _curve(experiment, f, x, (0.0, experiment.radius), **experiment.tuning_search)
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
    """Return the curve (a list of rows), that on each of the further images, and the row of the training table."""
    experiment, seed = EXPERIMENTS[job["experiment"]], job["seed"]
    f, history, adversary = experiment.train(
        job["method"], job["settings"], images=experiment.images("train+validation"), seed=seed, device=device
    )
    last = history.iloc[-1]
    path = _weights(job, folder)
    if processes.rank() == 0:
        networks.save(
            path,
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
    processes.wait()
    f = networks.pretrained(path).to(device)  # what a reader gets: weights in half precision
    x = experiment.images("test").to(device)
    known = {"method": job["method"], "measurements": f.operator.data_shape[-1], "seed": seed}
    curve = _curve(experiment, f, x, experiment.radii, **experiment.search).assign(**known)
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
    further = {
        other: _curve(
            experiment, f, images().to(device), (0.0, experiment.radius), **experiment.search
        ).assign(**known)
        for other, images in experiment.further.items()
    }
    further = {other: table.to_dict("records") for other, table in further.items()}
    return {"curve": curve.to_dict("records"), "further": further, "training": row}


def _curve(experiment, f, x, radii, **search):
    y = experiment.data(f.operator, x)
    relative_to = y.flatten(1).norm(dim=1) if experiment.relative else None
    return robustness.curve(f, f.operator, x, radii, y=y, relative_to=relative_to, batch_size=1000, **search)


def _strength(experiment, f, adversary, x):
    """Return the mean error under the generator's own δ, and under as many steps as it takes, from its δ and without it."""
    y = experiment.data(f.operator, x)
    radius = experiment.radius * (y.flatten(1).norm(dim=1) if experiment.relative else 1.0)
    adversary.radius = lambda data: radius * torch.ones(len(data), device=data.device)
    with torch.no_grad():
        proposed = adversary.propose(f, y, x)
    few = {"steps": max(1, adversary.ascent_steps), "rule": "long"}
    deltas = {
        "generator": proposed,
        "generator_and_steps": attacks.worst_case(f, y, x, radius, start=proposed, **few),
        "steps": attacks.worst_case(f, y, x, radius, **few),
        "search": attacks.worst_case(f, y, x, radius, **experiment.search),
    }
    with torch.no_grad():
        return {f"error_{k}": robustness.squared_error(f(y + d), x).mean().item() for k, d in deltas.items()}


def _compare(job, folder, device):
    """Attack each network with the δ of each other one; return the mean errors, and each one's own errors by image."""
    experiment = EXPERIMENTS[job["experiment"]]
    fs = {one["method"]: networks.pretrained(_weights(one, folder)).to(device) for one in job["jobs"]}
    sets = {"": lambda: experiment.images("test"), **experiment.further}
    transfer, own = {other: [] for other in sets}, {other: [] for other in sets}
    for other, images in sets.items():
        x = images().to(device)
        y = experiment.data(next(iter(fs.values())).operator, x)
        radius = experiment.radius * (y.flatten(1).norm(dim=1) if experiment.relative else 1.0)
        for source, f in fs.items():
            delta = attacks.worst_case(f, y, x, radius, **experiment.search)
            for target, g in fs.items():
                with torch.no_grad():
                    error = robustness.squared_error(g(y + delta), x)
                transfer[other].append({"source": source, "target": target, "error": error.mean().item()})
                errors = enumerate(error.tolist() if source == target else [])
                own[other] += [{"method": source, "image": k, "error": value} for k, value in errors]
    images = [row for row in own.pop("") if row["image"] < _SAMPLE]
    return {"transfer": transfer[""], "images": images, "further": own}
