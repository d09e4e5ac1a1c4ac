"""Two tables without a measurement of their own: what training costs, and what a large data set would cost."""

import math

import pandas as pd

from ir_helpers import store

__all__ = ["LODOPAB_SLICES", "estimate", "training"]

LODOPAB_SLICES = 35_820  # training images of LoDoPaB-CT, doi:10.1038/s41597-021-00893-z
_ADVERSARIES = ("noise", "common", "min-max", "per-sample")


def training(trained=None, measured=None, *, measurements=100, radius=2.0):
    """Return what each adversary costs in training, and what it gains, as the means over seeds.

    Seconds and gradient evaluations an epoch, the worst-case error ρ at ``radius``, ``gain``: by how much ρ is below that of
    plain training, ``extra``: gradient evaluations for each image and epoch beyond plain training, and ``gain_per_extra``.

    Parameters
    ----------
    trained, measured : pandas.DataFrame, optional
        The tables of training and of robustness; None takes data/results/mnist-gaussian-training.csv and -.csv.
    """
    trained = store.load_table("mnist-gaussian-training") if trained is None else trained
    measured = store.load_table("mnist-gaussian") if measured is None else measured
    trained = trained[trained["measurements"] == measurements]
    rho = (
        measured[(measured["measurements"] == measurements) & (measured["radius"] == radius)]
        .groupby("method")["rho"]
        .mean()
    )
    rows = []
    for method in ("plain", *_ADVERSARIES):
        runs = trained[trained["method"] == method]
        if runs.empty or method not in rho:
            raise ValueError(f"no row of {method!r} with {measurements} measurements and radius {radius}")
        epochs = runs["epochs"]
        rows.append({
            "method": method,
            "device": runs["device"].iloc[0],
            "seeds": len(runs),
            "seconds_per_epoch": (runs["seconds"] / epochs).mean(),
            "evaluations_per_epoch": (runs["gradient_evaluations"] / epochs).mean(),
            "rho": rho[method],
        })  # fmt: skip
    table = pd.DataFrame(rows)
    plain = table.iloc[0]
    table["gain"] = plain["rho"] - table["rho"]
    table["extra"] = table["evaluations_per_epoch"] - plain["evaluations_per_epoch"]
    table["gain_per_extra"] = table["gain"] / table["extra"].where(table["extra"] > 0)
    return table


def estimate(scaling, *, slices=LODOPAB_SLICES, epochs=100, gpus=range(1, 9)):
    """Estimate the hours that training on so many slices takes on 1 to 8 GPUs, from measured rates.

    ``scaling`` is the table of the recipe ``ct-scaling``: images per second for each method and number of processes. Between two
    measured numbers the logarithm of the rate is interpolated over that of the number. Beyond the last nobody looked, so there
    are two bounds: ``hours`` takes the rate as constant, as if more GPUs did not help, and ``hours_at_best`` lets every
    GPU add as much as those measured did on average. ``kind`` tells measured rates from such ones; hours are an estimate in
    every row, because reading so many slices was not measured. Of several batch sizes the largest counts: shared
    among processes, a small batch leaves each with little to do.
    """
    missing = {"method", "processes", "batch", "images_per_second", "device"} - set(scaling)
    if missing:
        raise ValueError(f"the table of rates lacks the columns {sorted(missing)}")
    rows = []
    largest = scaling[scaling["batch"] == scaling["batch"].max()]
    for (device, method), group in largest.groupby(["device", "method"], sort=True):
        rates = group.groupby("processes")["images_per_second"].mean().sort_index()
        for count in gpus:
            rate = _rate(rates, count)
            if rate is not None:
                kind = (
                    "measured rate"
                    if count in rates.index
                    else "interpolated rate"
                    if count < rates.index[-1]
                    else "held rate"
                )
                hours, beyond = slices * epochs / rate / 3600, max(1.0, count / rates.index[-1])
                rows.append({
                    "method": method, "device": device, "gpus": count, "slices": slices, "epochs": epochs,
                    "images_per_second": rate, "hours": hours, "hours_at_best": hours / beyond, "kind": f"estimate, {kind}",
                })  # fmt: skip
    return pd.DataFrame(rows)


def _rate(rates, count):
    """Return the rate on ``count`` GPUs, or None below the smallest number measured."""
    if count < rates.index[0]:
        return None
    if count >= rates.index[-1]:
        return rates.iloc[-1]
    low, high = rates.loc[:count], rates.loc[count:]
    if low.index[-1] == count:
        return rates[count]
    part = math.log(count / low.index[-1]) / math.log(high.index[0] / low.index[-1])
    return low.iloc[-1] ** (1 - part) * high.iloc[0] ** part
