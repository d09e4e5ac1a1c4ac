"""From an experiment to weights and tables, at a size of seconds: the same code that makes `data/`."""

import dataclasses
import functools
import json

import pandas as pd
import pytest
import torch

from ir_helpers import bands, catalogue, datasets, jobs, network_recipes, networks, recipes, robustness
from ir_helpers.experiments import METHODS

NAMES = ("mnist-gaussian", "mnist-dct")
SHORT = {key: {"steps": 3, "restarts": 1} for key in ("search", "tuning_search")}


@functools.cache  # else every tuning and training unpacks the digits again
def few_digits(part):
    return datasets.digits("test" if part == "test" else "train", count=8 if part == "test" else 16)


def in_this_process(function, todo, machine):
    return [json.loads(json.dumps(function(job, machine.folder, machine.devices[0]))) for job in todo]


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def methods(name):
    return catalogue.EXPERIMENTS[name].methods


def make_tiny(name, folder):
    """Run the recipe with tiny networks, two settings a method at most, one epoch and a short attack; return its folder."""
    out, work = folder / "data", folder / "work"
    work.mkdir()
    with pytest.MonkeyPatch.context() as change:
        for each, experiment in catalogue.EXPERIMENTS.items():
            tiny = {"epochs": 1, "tuning_epochs": 1, "network": {"width": 4, "levels": 2, "fold": 2}}
            grids = {m: settings[: 2 if m == "plain" else 1] for m, settings in experiment.grids.items()}
            tiny |= SHORT | {"images": few_digits, "radii": (0.0, 2.0), "batch_size": 8, "grids": grids}
            change.setitem(catalogue.EXPERIMENTS, each, dataclasses.replace(experiment, **tiny))
        for each, variants in catalogue.VARIANTS.items():
            change.setitem(catalogue.VARIANTS, each, dict(list(variants.items())[::4]))
        change.setattr(network_recipes, "run_all", in_this_process)
        network_recipes.make(name, out, jobs.Machine(folder=work))
    return out


@pytest.fixture(scope="module")
def made(name, tmp_path_factory):
    """The folder that the recipe fills."""
    return make_tiny(name, tmp_path_factory.mktemp("made"))


def test_exactly_the_listed_files_are_made(made, name):
    files = {str(path.relative_to(made).as_posix()) for path in made.rglob("*") if path.is_file()}
    assert files == set(network_recipes.outputs(name)) == set(recipes.RECIPES[name].outputs)


@pytest.mark.parametrize("name", NAMES[:1], indirect=True, scope="module")
def test_the_same_seeds_give_the_same_bits_again(made, name, tmp_path):
    """All methods, tunings and attacks: weights are equal byte for byte, tables but for the seconds."""
    again = make_tiny(name, tmp_path)
    for file in network_recipes.outputs(name):
        if file.endswith(".csv"):
            tables = [
                pd.read_csv(folder / file, dtype=str).drop(columns="seconds", errors="ignore")
                for folder in (made, again)
            ]
            pd.testing.assert_frame_equal(*tables)
        else:
            assert (again / file).read_bytes() == (made / file).read_bytes(), file
    assert bands.report(network_recipes.outputs(name), again, made) == 0


def test_every_network_loads_and_says_how_it_was_made(made, name, methods):
    for method in methods:
        f = networks.pretrained(made / "weights" / name / f"{method}.safetensors")
        assert f(torch.zeros(2, 100)).shape == (2, 1, 28, 28)
        assert f.notes["recipe"] == name and f.notes["method"] == method and f.notes["seed"] == "0"
        assert {"versions", "loss", "adversarial_loss", "epochs", "settings"} <= set(f.notes)


def test_the_curve_has_each_method_seed_and_radius_once(made, name, methods):
    table = pd.read_csv(made / "results" / f"{name}.csv")
    keys = ["measurements", "method", "seed", "radius"]
    assert not table.duplicated(keys).any()
    counts = table.groupby("measurements")["method"].nunique()
    related = {200: 3, 300: 3} if name == "mnist-gaussian" else {}
    assert counts.to_dict() == {100: len(methods)} | related
    assert set(table["seed"]) == set(network_recipes.SEEDS)


def test_the_chosen_settings_are_those_that_were_trained(made, name, methods):
    tuning = pd.read_csv(made / "results" / f"{name}-tuning.csv")
    training = pd.read_csv(made / "results" / f"{name}-training.csv")
    chosen = tuning[tuning["chosen"]].set_index("method")["settings"]
    assert sorted(chosen.index) == sorted(methods)
    for method, settings in chosen.items():
        assert set(training.loc[training["method"] == method, "settings"]) == {settings}


def test_no_foreign_attack_beats_a_network_s_own_by_much_nor_is_one_missing(made, name, methods):
    table = pd.read_csv(made / "results" / f"{name}-transfer.csv")
    assert len(table) == len(methods) ** 2
    square = table.pivot(index="source", columns="target", values="error")
    for method in methods:
        assert square.loc[method, method] >= 0.99 * square[method].max()


def test_errors_by_image_agree_with_the_weights(made, name):
    table = pd.read_csv(made / "results" / f"{name}-images.csv")
    f = networks.pretrained(made / "weights" / name / "plain.safetensors")
    x = few_digits("test")
    clean = robustness.squared_error(f(f.operator(x)), x)
    own = torch.tensor(table.loc[table["method"] == "plain", "error"].to_numpy())
    assert len(own) == len(x) and (own >= clean.double() * 0.999).all()


def tuned(**rows):
    """A table of (method, clean, rho) from method=[(clean, rho), ...]."""
    return pd.DataFrame(
        [{"method": m.replace("_", "-"), "clean": c, "rho": r} for m, pairs in rows.items() for c, r in pairs]
    )


def test_choice_is_the_most_robust_that_keeps_the_clean_error():
    table = tuned(plain=[(5.0, 20.0), (4.0, 30.0)], min_max=[(4.7, 15.0), (4.9, 10.0), (4.2, 16.0)])
    assert sorted(network_recipes.choose(table, slack=1.2)) == [1, 2]


def test_choice_falls_back_to_the_smallest_clean_error():
    table = tuned(plain=[(4.0, 30.0)], common=[(9.0, 5.0), (8.0, 6.0)])
    assert sorted(network_recipes.choose(table, slack=1.2)) == [0, 2]


def test_the_dct_experiment_is_the_gaussian_s_but_for_its_operator():
    gaussian, dct = (catalogue.EXPERIMENTS[name] for name in NAMES)
    assert dct.methods == tuple(method for method in METHODS if method != "common")
    for same in ("network", "images", "epochs", "tuning_epochs", "batch_size", "radius", "radii", "start"):
        assert getattr(dct, same) == getattr(gaussian, same)
    for method in ("plain", "weight-decay", "parseval"):  # no setting of the Gaussian is missing
        assert all(settings in dct.grids[method] for settings in gaussian.grids[method])
    for method in ("min-max", "per-sample"):  # the same adversary; what it weighs is tuned anew
        adversaries = [
            {key: value for key, value in settings.items() if key not in ("learning_rate", "radius", "lam")}
            for experiment in (gaussian, dct)
            for settings in experiment.grids[method]
        ]
        assert all(each == adversaries[0] for each in adversaries)
    A, B = (networks.make_operator(experiment.operator) for experiment in (gaussian, dct))
    assert A.data_shape == B.data_shape and A.image_shape == B.image_shape
    assert A.matrix().norm().item() == pytest.approx(B.matrix().norm().item(), rel=1e-5)
