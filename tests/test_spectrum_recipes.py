"""The sweep over condition numbers, at a size of seconds: the same code that makes its tables."""

import dataclasses
import functools
import json

import numpy as np
import pandas as pd
import pytest

from ir_helpers import catalogue, datasets, jobs, networks, recipes, spectrum_recipes

CONDITIONS = (1, 1000)


@functools.cache  # else every tuning and training unpacks the digits again
def few_digits(part):
    return datasets.digits("test" if part == "test" else "train", count=12 if part == "test" else 300)


def in_this_process(function, todo, machine):
    return [json.loads(json.dumps(function(job, machine.folder, machine.devices[0]))) for job in todo]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that the recipe fills: two condition numbers, two seeds, tiny networks, one epoch and a short attack."""
    out, change = tmp_path_factory.mktemp("data"), pytest.MonkeyPatch()
    tiny = {"epochs": 1, "network": {"width": 4, "levels": 2, "fold": 2}, "images": few_digits}
    tiny["search"] = {"steps": 3, "restarts": 1}
    for condition in catalogue.SPECTRA.copy():
        small = dataclasses.replace(catalogue.SPECTRA[condition], **tiny, batch_size=100)
        change.setitem(catalogue.SPECTRA, condition, small)
        if condition not in CONDITIONS:
            change.delitem(catalogue.SPECTRA, condition)
    change.setattr(spectrum_recipes, "SEEDS", (0, 1))
    change.setattr(spectrum_recipes, "run_all", in_this_process)
    spectrum_recipes.make(out, jobs.Machine(folder=tmp_path_factory.mktemp("work")))
    change.undo()
    return out


@pytest.fixture(scope="module")
def rows(made):
    return pd.read_csv(made / spectrum_recipes.OUTPUTS[0])


@pytest.fixture(scope="module")
def along(made):
    return pd.read_csv(made / spectrum_recipes.OUTPUTS[1])


def test_exactly_the_listed_files_are_made(made):
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert files == set(recipes.RECIPES["mnist-spectra"].outputs)


def test_each_condition_method_and_seed_once(rows):
    assert not rows.duplicated(["condition", "method", "seed"]).any()
    counts = rows.groupby(["condition", "method"]).size().unstack()
    expected = {"plain": 2, "min-max": 2, "filter": 1, "pseudo-inverse": 1}
    for condition in CONDITIONS:
        assert counts.loc[condition].to_dict() == expected
    assert rows[["clean", "rho", "rho_sem", "relative_radius"]].notna().all(axis=None)
    assert (rows["rho"] > rows["clean"]).all()


def test_directions_have_the_prescribed_spectrum(along):
    for (condition, _), table in along.groupby(["condition", "method"]):
        values = table.sort_values("direction")["singular_value"].to_numpy()
        # Five digits are written, and A is rounded to float32.
        assert values == pytest.approx(values[0] * np.geomspace(1, condition, 100), rel=1e-3)
        assert np.sum(values**2) == pytest.approx(784, rel=1e-3)


def test_linear_gains_and_energies_are_those_of_the_theory(along):
    table = along[along["condition"] == 1000].set_index("method")
    inverse = table.loc["pseudo-inverse"]
    assert inverse["gain"].to_numpy() == pytest.approx(1 / inverse["singular_value"].to_numpy(), rel=1e-3)
    # The worst δ of the inverse lies along its weakest direction; that of the filter is spread over what it gave up.
    assert inverse["energy"].iloc[0] > 0.95 * 4
    limited = table.loc["filter"]
    given_up = limited["gain"] * limited["singular_value"] < 0.999
    assert 1 < given_up.sum() < 100 and limited.loc[given_up, "energy"].sum() > 0.7 * 4
    assert limited["energy"].iloc[0] < 0.01 * 4
    assert (table["energy"].groupby(level=0).sum() <= 4 * 1.001).all()


def test_an_exact_filter_beats_the_inverse_where_it_matters(rows):
    rho = rows.pivot_table(index="condition", columns="method", values="rho")
    clean = rows.pivot_table(index="condition", columns="method", values="clean")
    assert rho.loc[1000, "filter"] < 0.1 * rho.loc[1000, "pseudo-inverse"]
    assert (clean["pseudo-inverse"] <= clean["filter"] + 1e-3).all()


def test_operators_of_the_sweep_differ_in_their_spectrum_only():
    for condition, experiment in catalogue.SPECTRA.items():
        A = networks.make_operator(experiment.operator)
        s = A.singular_values()
        assert s[-1] / s[0] == pytest.approx(condition, rel=1e-3)  # rounded to float32
        assert A.matrix().norm().item() == pytest.approx(28.0, rel=1e-5)
        assert (
            experiment.epochs
            == experiment.tuning_epochs
            == catalogue.EXPERIMENTS["mnist-gaussian"].tuning_epochs
        )
