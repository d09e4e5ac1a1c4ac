"""The experiment on faces, from folders as its users have them to weights and tables, at a size of seconds."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ir_helpers import catalogue, datasets, network_recipes, networks, recipes

NAMES = ("faces", "faces-celeba")
METHODS = ["plain", "weight-decay", "parseval", "noise", "common", "min-max", "per-sample"]
PEOPLE = 45
SHORT = {key: {"steps": 2, "restarts": 1} for key in ("search", "tuning_search")}


def heads(count, height, width):
    """Bright ellipses of some colour, whose place and size tell them apart."""
    rng, images = np.random.default_rng(0), np.zeros((count, height, width, 3), np.uint8)
    row, column = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    for image in images:
        centre, radii = rng.uniform(-0.1, 0.1, 2), rng.uniform(0.4, 0.7, 2)
        inside = ((row - centre[0]) / radii[0]) ** 2 + ((column - centre[1]) / radii[1]) ** 2 < 1
        image[inside] = rng.integers(100, 256, 3)
    return images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder IR_DATA_DIR with portraits and a celeba/ in the layout of the real ones."""
    folder = tmp_path_factory.mktemp("sets")
    ids = np.array([f"A{k:06d}" for k in np.random.default_rng(1).permutation(PEOPLE)])
    np.savez(folder / "faces_congress64.npz", images=heads(PEOPLE, 64, 64), bioguide=ids)
    (folder / "celeba" / "img_align_celeba").mkdir(parents=True)
    for k, image in enumerate(heads(14, 218, 178)):
        Image.fromarray(image).save(folder / f"celeba/img_align_celeba/{k:06d}.jpg")
    lines = [f"{k:06d}.jpg {figure}\n" for k, figure in enumerate([0] * 8 + [1] * 3 + [2] * 3)]
    (folder / "celeba/list_eval_partition.txt").write_text("".join(lines))
    return folder


def in_this_process(function, todo, machine):
    return [json.loads(json.dumps(function(job, machine.folder, machine.devices[0]))) for job in todo]


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """What the command line makes of both experiments: small networks and operators, one setting a method, one epoch."""
    out, work = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as change:
        change.setenv("IR_DATA_DIR", str(folder))
        for name in NAMES:
            experiment = catalogue.EXPERIMENTS[name]
            tiny = {
                "operator": experiment.operator | {"num_measurements": 40},
                "network": experiment.network | {"width": 4},
                "grids": {method: settings[:1] for method, settings in experiment.grids.items()},
            }
            tiny |= SHORT | {"epochs": 1, "tuning_epochs": 1, "batch_size": 20, "radii": (0.0, 0.1)}
            tiny["further"] = {"orl": lambda faces=experiment.further["orl"]: faces()[:6]}
            change.setitem(catalogue.EXPERIMENTS, name, dataclasses.replace(experiment, **tiny))
        change.setattr(catalogue, "_CELEBA", {"train": 6, "validation": 2, "test": 3})
        change.setattr(network_recipes, "run_all", in_this_process)
        assert recipes.main(["run", *NAMES, "--out", str(out), "--work", str(work)]) == 0
    return out


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_makes_the_listed_files(made, name):
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    mine = {file for file in files if file.split("/")[1].removesuffix("-orl.csv").startswith(f"{name}")}
    if name == "faces":
        mine = {file for file in mine if "celeba" not in file}
    assert mine == set(recipes.RECIPES[name].outputs)
    assert {f"results/{name}-orl.csv", f"weights/{name}/min-max.safetensors"} < mine


@pytest.mark.parametrize("name", NAMES)
def test_every_network_loads_and_starts_from_the_smooth_inverse(made, name):
    for method in METHODS:
        f = networks.pretrained(made / "weights" / name / f"{method}.safetensors")
        assert f(torch.ones(2, 40)).shape == (2, 3, 64, 64)
        assert f.start == "smooth" and f.notes["recipe"] == name and f.notes["method"] == method


@pytest.mark.parametrize(("ending", "images"), [("", {"faces": 9, "faces-celeba": 3}), ("-orl", 6)])
@pytest.mark.parametrize("name", NAMES)
def test_tables_have_three_seeds_of_the_methods_compared_and_radii_relative_to_the_data(
    made, name, ending, images
):
    table = pd.read_csv(made / "results" / f"{name}{ending}.csv")
    seeds = table.groupby("method")["seed"].unique().map(sorted).to_dict()
    assert seeds == {method: [0, 1, 2] if method in ("plain", "min-max") else [0] for method in METHODS}
    assert not table.duplicated(["method", "seed", "relative_radius"]).any()
    assert np.allclose(sorted(set(table["relative_radius"].round(6))), [0, 0.1])
    assert (table["images"] == (images if ending else images[name])).all()
    pairs = table.pivot(index=["method", "seed"], columns="relative_radius", values="rho").to_numpy()
    assert (pairs[:, 1] > pairs[:, 0]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_errors_under_attack_of_each_embedded_face_are_those_of_the_first_networks(made, name):
    images, means = (pd.read_csv(made / f"results/{name}-orl{part}.csv") for part in ("-images", ""))
    assert images.groupby("method")["image"].apply(list).to_dict() == {m: list(range(6)) for m in METHODS}
    first = means[(means["seed"] == 0) & (means["relative_radius"] > 0)].set_index("method")["rho"]
    ours = images.groupby("method")["error"].mean().loc[METHODS]
    assert np.allclose(ours, first.loc[METHODS], rtol=1e-2)  # two searches that begin in different places
    f = networks.pretrained(made / f"weights/{name}/plain.safetensors")
    x = datasets.faces("test")[:6].expand(-1, 3, -1, -1)
    with torch.no_grad():
        clean = (f(f.operator(x)) - x).square().flatten(1).sum(1)
    assert (images[images["method"] == "plain"]["error"].to_numpy() > clean.numpy()).all()


def test_portraits_are_parted_by_person_and_all_are_used(folder, monkeypatch):
    monkeypatch.setenv("IR_DATA_DIR", str(folder))
    images = catalogue.EXPERIMENTS["faces"].images
    parts = {part: images(part) for part in ("train", "validation", "train+validation", "test")}
    keys = {part: {image.numpy().tobytes() for image in found} for part, found in parts.items()}
    assert all(len(keys[part]) == len(parts[part]) for part in parts)
    assert not keys["train"] & keys["validation"]
    assert keys["train"] | keys["validation"] == keys["train+validation"]
    assert not keys["train+validation"] & keys["test"]
    assert len(keys["train+validation"] | keys["test"]) == PEOPLE
    assert len(parts["validation"]) == 5 and len(parts["test"]) == 9


def test_the_embedded_faces_are_grey_in_three_channels():
    for name in NAMES:
        faces = catalogue.EXPERIMENTS[name].further["orl"]()
        assert torch.equal(faces, datasets.faces("test").repeat(1, 3, 1, 1))


def test_celeba_keeps_its_published_parts(folder, monkeypatch):
    monkeypatch.setenv("IR_DATA_DIR", str(folder))
    monkeypatch.setattr(catalogue, "_CELEBA", {"train": 8, "validation": 3, "test": 2})
    images = catalogue.EXPERIMENTS["faces-celeba"].images
    train, validation = (datasets.faces(s, source=folder / "celeba") for s in ("train", "validation"))
    assert torch.equal(images("train"), train) and torch.equal(images("validation"), validation)
    assert torch.equal(images("train+validation"), torch.cat([train, validation]))
    assert torch.equal(images("test"), datasets.faces("test", count=2, source=folder / "celeba"))


def test_celeba_differs_in_its_images_and_how_often_each_is_seen():
    ours, theirs = (catalogue.EXPERIMENTS[name] for name in NAMES)
    same = {field.name for field in dataclasses.fields(ours)} - {"name", "images", "epochs", "tuning_epochs"}
    assert all(getattr(ours, field) == getattr(theirs, field) for field in same)
    count = catalogue._CELEBA["train"] + catalogue._CELEBA["validation"]
    assert theirs.epochs * count == ours.epochs * 560  # as many images in all


def test_what_is_made_of_celeba_does_not_enter_the_book(capsys):
    with pytest.raises(SystemExit):
        recipes.main(["run", "faces-celeba"])
    error = capsys.readouterr().err
    assert "error: faces-celeba: " in error and "may not be passed on; give --out FOLDER" in error


def test_six_networks_fit_into_four_mebibytes():
    experiment = catalogue.EXPERIMENTS["faces"]
    assert list(experiment.methods) == METHODS
    numbers = sum(p.numel() for p in networks.UNet(**experiment.network).parameters())
    header = 8192  # names, shapes and notes
    assert len(METHODS) * (2 * numbers + header) <= 4 * 2**20


def test_an_experiment_trains_on_the_views_that_it_names():
    seen = []

    def augment(images, generator):
        seen.append(len(images))
        return images

    small = {
        "operator": {"factory": "gaussian", "num_measurements": 10, "image_shape": [3, 64, 64], "seed": 0}
    }
    small |= {"network": catalogue.EXPERIMENTS["faces"].network | {"width": 2}, "batch_size": 2}
    experiment = dataclasses.replace(catalogue.EXPERIMENTS["faces"], augment=augment, **small)
    experiment.train("plain", {"learning_rate": 1e-3}, images=torch.rand(5, 3, 64, 64), epochs=2)
    assert seen == [2, 2, 1] * 2
