"""The table of speed-ups, at a size of seconds: rows of several group sizes add up, and tell what they should."""

import dataclasses
import json

import pandas as pd
import pytest

from ir_helpers import chest, datasets, jobs, processes, scaling_recipes


@pytest.fixture
def tiny(monkeypatch):
    small = dataclasses.replace(
        chest.WIDE,
        operator={"factory": "parallel_beam", "image_size": 32, "num_angles": 20},
        network={"width": 2, "levels": 2, "norm": "batch"},
        images=lambda part: datasets.ellipses(6, 32, seed=int(part == "test")),
    )
    monkeypatch.setattr(chest, "WIDE", small)
    monkeypatch.setattr(scaling_recipes, "_RUNS", ((3, 0), (3, 1), (2, 0)))
    monkeypatch.setattr(scaling_recipes, "_EPOCHS", dict.fromkeys(scaling_recipes._SETTINGS, 3))

    def here(function, todo, machine):
        for job in todo:
            (machine.folder / f"{job['name']}.json").write_text(
                json.dumps(function(job, machine.folder, "cpu"))
            )

    monkeypatch.setattr(scaling_recipes, "run_all", here)


def test_rows_of_several_groups_add_up_to_speed_ups(tiny, tmp_path, monkeypatch):
    machine = jobs.Machine(folder=tmp_path)
    scaling_recipes.make(tmp_path, machine)
    monkeypatch.setattr(processes, "size", lambda: 2)  # the numbers of a second run are then changed by hand
    for path in sorted(tmp_path.glob("scaling-*.json")):
        row = json.loads(path.read_text())
        assert row["images_per_second"] == pytest.approx(6 / row["seconds_per_epoch"])
        factor = 1.7 if row["batch"] == 3 else 1.2  # each batch has a speed-up of its own
        other = row | {"processes": 2, "images_per_second": factor * row["images_per_second"]}
        (tmp_path / path.name.replace("-1.json", "-2.json")).write_text(json.dumps(other))
    monkeypatch.setattr(scaling_recipes, "run_all", lambda *_: None)
    scaling_recipes.make(tmp_path, machine)
    table = pd.read_csv(tmp_path / scaling_recipes.OUTPUTS[0])
    assert not table.duplicated(["method", "batch", "seed", "processes"]).any() and len(table) == 2 * 3 * 3
    assert table.query("processes == 1")["speed_up"].eq(1).all()
    by_batch = table.query("processes == 2").groupby("batch")["speed_up"].agg(["min", "max"])
    assert by_batch.loc[3].to_list() == pytest.approx([1.7] * 2, rel=1e-3)
    assert by_batch.loc[2].to_list() == pytest.approx([1.2] * 2, rel=1e-3)
    assert table["psnr"].gt(4).all()  # a black image has 5
