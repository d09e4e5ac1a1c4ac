"""The CT experiment: its split, its dose, and its recipe at a size of seconds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import shipped
import torch

from ir_helpers import (
    catalogue,
    chest,
    chest_recipes,
    classical,
    datasets,
    jobs,
    network_recipes,
    networks,
    operators,
)
from ir_helpers.splits import few_each

SIZE = 32
SHORT = {"steps": 3, "restarts": 1, "rule": "measured"}


def phantoms(part):
    return datasets.ellipses(6, SIZE, seed=0 if part == "test" else 1)


def in_this_process(function, todo, machine):
    return [json.loads(json.dumps(function(job, machine.folder, machine.devices[0]))) for job in todo]


@pytest.fixture
def larger_set(tmp_path, monkeypatch):
    """A file like the larger set: patients with 1 to 12 slices in mixed order; each slice's value tells the patient."""
    counts = [12, 1, 3, 2, 9, 1, 4, 2, 7, 3, 2]
    owner = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    hounsfield = np.broadcast_to((10 * owner - 500).astype(np.int16)[:, None, None], (len(owner), 256, 256))
    np.savez(tmp_path / "ct_tcia256.npz", hu=hounsfield, patient=np.array([f"P{k:02d}" for k in owner]))
    monkeypatch.setenv("IR_DATA_DIR", str(tmp_path))
    return counts


def patients_in(images):
    return [round((value.item() * 2048 - 1024 + 500) / 10) for value in images.mean((1, 2, 3))]


def test_no_patient_is_in_two_parts(larger_set):
    parts = {part: patients_in(chest.slices(part)) for part in ("train", "validation", "test")}
    seen = [set(found) for found in parts.values()]
    assert set.union(*seen) == set(range(len(larger_set)))
    assert sum(map(len, seen)) == len(larger_set)
    assert sorted(patients_in(chest.slices("train+validation"))) == sorted(
        k for k in seen[0] | seen[1] for _ in range(larger_set[k])
    )


def test_judges_take_few_slices_of_each_patient(larger_set):
    for part in ("validation", "test"):
        found = patients_in(chest.slices(part))
        assert all(found.count(k) == min(4, larger_set[k]) for k in set(found))
    assert max(map(patients_in(chest.slices("train")).count, range(11))) > 4


def test_patients_go_with_their_slices(larger_set):
    names = datasets.ct_patients("train")
    assert [int(name[1:]) for name in names] == patients_in(datasets.ct_slices("train", full=True))


def test_few_each_is_spread_and_sorted():
    ids = np.array(list("aabababaaa"))
    assert few_each(ids, 2).tolist() == sorted(
        [*np.flatnonzero(ids == "a")[[1, 5]], *np.flatnonzero(ids == "b")[[0, 2]]]
    )
    assert few_each(ids, 99).tolist() == list(range(10))


@pytest.mark.parametrize("mixed", [False, True])
def test_half_precision_keeps_channels_side_by_side(mixed):
    small = dataclasses.replace(
        chest.EXPERIMENT,
        operator={"factory": "parallel_beam", "image_size": SIZE, "num_angles": 20},
        network={"width": 4, "levels": 2, "norm": "batch"},
        images=phantoms,
        mixed_precision=mixed,
    )
    settings = {"learning_rate": 1e-3, "radius": 0.02, "ascent_steps": 1}
    f, _, adversary = small.train("min-max", settings, images=phantoms("train"), epochs=1)
    for network in (f, adversary.network):
        convolutions = [p for p in network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
        assert all(p.is_contiguous(memory_format=torch.channels_last) == mixed for p in convolutions)


def test_low_dose_follows_its_generator():
    A, x = operators.parallel_beam(SIZE, 20), phantoms("test")
    first, again = (chest.low_dose(A, x, torch.Generator().manual_seed(3)) for _ in range(2))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(first, again) and torch.equal(first, chest.low_dose(A, x, generator))
    assert not torch.equal(first, chest.low_dose(A, x, generator))
    noise = [(chest.low_dose(A, x, generator, photons) - A(x)).norm() for photons in (1e3, 1e5)]
    assert 8 < noise[0] / noise[1] < 13  # like the square root of the dose


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder that the recipe fills: images of 32 × 32 pixels, one epoch, a short attack, three scenes."""
    out, change = tmp_path_factory.mktemp("data"), pytest.MonkeyPatch()
    grids = {m: settings[: 2 if m == "plain" else 1] for m, settings in chest.EXPERIMENT.grids.items()}
    tiny = dataclasses.replace(
        chest.EXPERIMENT,
        operator={"factory": "parallel_beam", "image_size": SIZE, "num_angles": 20},
        network={"width": 4, "levels": 2, "norm": "batch", "fold": 2},
        images=phantoms,
        grids=grids,
        epochs=1,
        tuning_epochs=1,
        radii=(0.0, 0.02, 0.05),
        search=SHORT,
        tuning_search=SHORT,
    )
    change.setattr(chest, "EXPERIMENT", tiny)
    change.setattr(chest, "slices", phantoms)
    change.setattr(chest, "patients", lambda: np.arange(6) // 2)
    change.setattr(chest_recipes.datasets, "ct_slices", lambda split, count: phantoms(split)[:count])
    change.setitem(catalogue.EXPERIMENTS, "ct", tiny)
    for name in ("_SEARCH", "_SHORT_SEARCH"):
        change.setattr(chest_recipes, name, SHORT)
    for module in (network_recipes, chest_recipes):
        change.setattr(module, "run_all", in_this_process)
    kept = (
        "as trained",
        "a tenth of the dose",
        "60 views",
        "axis off by 1 pixel",
        "other patients and scanners",
        "errors counted in the circle",
    )
    scenes = {name: chest_recipes.SCENES[name] for name in kept}
    scenes["60 views"] = {"known": {"num_angles": 12}}
    change.setattr(chest_recipes, "SCENES", scenes)
    machine = jobs.Machine(folder=tmp_path_factory.mktemp("work"))
    chest_recipes.make(out, machine)
    yield out
    change.undo()


def test_exactly_the_listed_files_are_made(made):
    files = {str(path.relative_to(made).as_posix()) for path in made.rglob("*") if path.is_file()}
    assert files == set(chest_recipes.OUTPUTS)


def test_each_method_is_in_each_scene_clean_and_attacked(made):
    table = pd.read_csv(made / "results" / "ct-scenes.csv")
    methods = {*chest.EXPERIMENT.methods, "fbp", "total-variation"}
    assert set(table["method"]) == methods
    assert not table.duplicated(["method", "scene", "relative_radius"]).any()
    radii = table.groupby(["method", "scene"])["relative_radius"].agg(tuple)
    assert len(radii) == len(methods) * len(chest_recipes.SCENES)
    for (_, scene), found in radii.items():
        assert found == (chest.EXPERIMENT.radii if scene == "as trained" else (0.0, 0.02))
    pairs = table.pivot(index=["method", "scene"], columns="relative_radius", values="rho")
    assert (pairs[0.02] > pairs[0.0]).all()
    assert (pairs[0.05] > pairs[0.02]).xs("as trained", level="scene").all()


def test_errors_in_the_circle(made):
    size = 7
    inside = chest.circle(size)
    assert torch.equal(inside, inside.T) and torch.equal(inside, inside.flip(0)) and inside[3].all()
    assert [row.sum().item() for row in inside] == [3, 5, 7, 7, 7, 5, 3]
    table = pd.read_csv(made / "results" / "ct-scenes.csv").set_index(["scene", "method", "relative_radius"])
    counted, trained = (table.loc[scene] for scene in ("errors counted in the circle", "as trained"))
    trained = trained.loc[counted.index]
    clean = counted.index.get_level_values(1) == 0
    assert (table["rho_circle"] < table["rho"]).loc["as trained"].all()
    np.testing.assert_allclose(counted["rho"], counted["rho_circle"], rtol=1e-4)
    np.testing.assert_allclose(counted["rho"][clean], trained["rho_circle"][clean], rtol=1e-4)
    fbp = counted.loc[("fbp", 0.02)]
    assert fbp["rho"] > trained.loc[("fbp", 0.02), "rho_circle"]  # a linear map: the search finds the largest
    slices = pd.read_csv(made / "results" / "ct-slices.csv")
    by_hand = 10 * np.log10(chest.circle(SIZE).sum().item() / slices["rho_circle"])
    np.testing.assert_allclose(slices["psnr_circle"], by_hand, rtol=1e-3)


def test_slices_have_the_means_of_the_scenes(made):
    slices = pd.read_csv(made / "results" / "ct-slices.csv")
    assert set(slices["scene"]) == {"as trained", "other patients and scanners"}
    keys = ["method", "scene", "relative_radius"]
    scenes = pd.read_csv(made / "results" / "ct-scenes.csv").set_index(keys)
    groups = slices.groupby(keys)
    for name in ("rho", "psnr", "ssim", "worst_region"):
        means = groups[name].mean()
        np.testing.assert_allclose(means, scenes.loc[means.index, name], rtol=1e-3)
    assert (groups.size() == scenes.loc[groups.size().index, "images"]).all()
    owners = slices.query("scene == 'as trained'").drop_duplicates("slice").set_index("slice")["patient"]
    assert owners.sort_index().tolist() == [0, 0, 1, 1, 2, 2]


def test_scenes_of_fbp_agree_with_a_computation_by_hand(made):
    table = pd.read_csv(made / "results" / "ct-scenes.csv").query("method == 'fbp' and relative_radius == 0")
    rho = table.set_index("scene")["rho"]
    formulas = pd.read_csv(made / "results" / "ct-formulas.csv").query("method == 'fbp'")
    window = formulas.loc[formulas["psnr"].idxmax(), "setting"]
    assert formulas.set_index("setting")["chosen"].to_dict() == {w: w == window for w in formulas["setting"]}
    x, generator = phantoms("test"), torch.Generator().manual_seed(0)
    A, off = (operators.parallel_beam(SIZE, 20, axis_shift=shift) for shift in (0.0, 1.0))
    y = chest.low_dose(off, x, generator)
    by_hand = (classical.fbp(A, y, window=window) - x).square().flatten(1).sum(1).mean().item()
    assert rho["axis off by 1 pixel"] == pytest.approx(by_hand, rel=1e-4)
    assert rho["a tenth of the dose"] > rho["as trained"]


def test_the_table_of_radii_is_measured_on_noisy_data(made):
    table = pd.read_csv(made / "results" / "ct.csv").query("method == 'plain' and radius == 0 and seed == 0")
    f = networks.pretrained(made / "weights" / "ct" / "plain.safetensors")
    x = phantoms("test")
    y = chest.EXPERIMENT.data(f.operator, x)
    assert not torch.equal(y, f.operator(x))
    error = (f(y) - x).square().flatten(1).sum(1).mean().item()
    assert table["rho"].iloc[0] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("method", ["plain", "min-max"])
def test_slices_of_a_shipped_network_are_found_again(made, method):
    """As tests/test_shipped.py does with the tables of the book."""
    f = networks.pretrained(made / "weights" / "ct" / f"{method}.safetensors")
    table = pd.read_csv(made / "results" / "ct-slices.csv")
    found = shipped.rechecks(f"ct/{method}", f, {"ct-slices": table}.get)
    assert [each.what for each in found] == ["error of slice 0", "error of slice 1"]
    assert all(each.holds and each.found == pytest.approx(each.listed, rel=1e-3) for each in found)
    wrong = table.assign(rho=table["rho"].where(table["slice"] != 1, 1.05 * table["rho"]))
    found = shipped.rechecks(f"ct/{method}", f, {"ct-slices": wrong}.get)
    assert [each.holds for each in found] == [True, False]
