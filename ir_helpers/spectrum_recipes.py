"""The sweep over condition numbers: one spectrum after the other, networks trained with and without an adversary."""

import json
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import attacks, directions, networks, robustness, store, theory
from ir_helpers.catalogue import SPECTRA
from ir_helpers.files import write_table
from ir_helpers.jobs import run_all
from ir_helpers.network_recipes import SEEDS

__all__ = ["OUTPUTS", "make"]

OUTPUTS = ("results/mnist-spectra.csv", "results/mnist-spectra-directions.csv")
_TRAINED = ("min-max", "plain")  # the longest first
_LINEAR = {
    "pseudo-inverse": lambda s, radius, variances: 1 / s,
    "filter": theory.per_sample_gains,
}
_PROBED = 100  # test images at which a network's answer to each direction is taken


def make(out, machine):
    """Make the two tables below the folder ``out``, with settings as the recipe ``mnist-gaussian`` chose them.

    ``mnist-spectra.csv`` has one row for each condition number, method and seed: the error ``clean`` and ``rho`` at ε, with
    its standard error over the images. ``mnist-spectra-directions.csv`` has one row for each singular direction of the first
    seeds: the singular value, the gain and the length of the answer (see ``directions.response``), and the mean energy of the
    worst δ. Two methods are linear, and exact: the pseudo-inverse and the filter of ``theory.per_sample_gains``.
    """
    tuning = store.load_table("mnist-gaussian-tuning")
    settings = tuning[tuning["chosen"]].set_index("method")["settings"].map(json.loads)
    runs = [(method, seed, settings[method]) for method in _TRAINED for seed in SEEDS]
    runs += [(method, SEEDS[0], None) for method in _LINEAR]
    jobs = [_job(condition, *run) for run in runs for condition in SPECTRA]
    results = run_all(_measure, jobs, machine)
    rows = pd.DataFrame([result["row"] for result in results])
    along = pd.concat([pd.DataFrame(result["directions"]) for result in results if result["directions"]])
    for name, table in zip(OUTPUTS, (rows, along), strict=True):
        table = table.sort_values(["condition", "method", "seed"], kind="stable")
        write_table(Path(out, name), table, "%.5g")


def _job(condition, method, seed, settings):
    job = {"condition": condition, "method": method, "seed": seed, "settings": settings}
    return {"name": f"mnist-spectra-{condition}-{method}-{seed}"} | job


def _measure(job, folder, device):
    """Return the row of the job, and one row for each direction if the seed is the first."""
    experiment = SPECTRA[job["condition"]]
    measure = _linear if job["settings"] is None else _trained
    errors, along = measure(experiment, job, device)
    known = {name: job[name] for name in ("condition", "method", "seed")}
    along = pd.DataFrame(along).assign(**known).to_dict("records") if job["seed"] == SEEDS[0] else []
    return {"row": known | {"radius": experiment.radius} | errors, "directions": along}


def _trained(experiment, job, device):
    images = experiment.images("train+validation")
    f, history, _ = experiment.train(
        job["method"], job["settings"], images=images, seed=job["seed"], device=device
    )
    A, x = f.operator, experiment.images("test").to(device)
    table = robustness.curve(f, A, x, (0.0, experiment.radius), batch_size=1000, **experiment.search)
    errors = table.iloc[1][["rho", "rho_sem", "relative_radius"]].to_dict()
    errors |= {"clean": table["rho"].iloc[0], "seconds": history["seconds"].iloc[-1]}
    few, basis = x[:_PROBED], directions.Basis.of(A)
    delta = attacks.worst_case(f, A(few), few, experiment.radius, **experiment.search)
    answer = directions.response(f, basis, A(few))
    return errors, _along(basis, delta, answer.gains.mean(0), answer.lengths.mean(0))


def _linear(experiment, job, device):
    """Measure f(y) = μ + B (y − Aμ), with the mean μ and the variances of the training images."""
    A = networks.make_operator(experiment.operator)
    train, x = experiment.images("train+validation"), experiment.images("test")
    mean, basis = train.mean(0, keepdim=True), directions.Basis.of(A)
    variances = ((train - mean).flatten(1) @ basis.right).square().mean(0).double().numpy()
    gains = _LINEAR[job["method"]](basis.values.double().numpy(), experiment.radius, variances)
    B = torch.from_numpy(theory.robust_inverse(A.matrix().numpy(), gains)).to(A.dtype)
    y, target = A(x - mean), (x - mean).flatten(1)
    delta = attacks.exact_worst_case(B, y, target, experiment.radius)
    clean, worst = ((data @ B.T - target).double().square().sum(1) for data in (y, y + delta))
    errors = {"rho": worst.mean().item(), "rho_sem": worst.std().item() / len(worst) ** 0.5}
    errors["relative_radius"] = (experiment.radius / A(x).norm(dim=1)).mean().item()
    q = torch.from_numpy(gains)
    return errors | {"clean": clean.mean().item()}, _along(basis, delta[:_PROBED], q, q)


def _along(basis, delta, gains, lengths):
    columns = {"singular_value": basis.values, "gain": gains, "length": lengths}
    columns["energy"] = directions.energy(basis, delta).mean(0)
    return {"direction": list(range(len(gains)))} | {name: t.tolist() for name, t in columns.items()}
