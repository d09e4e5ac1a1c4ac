"""The table of projection times, made at a size of seconds: what it holds, not how fast a machine is."""

import json

import pandas as pd
import pytest
import torch

from ir_helpers import jobs, projector_recipes


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    out, change = tmp_path_factory.mktemp("data"), pytest.MonkeyPatch()
    for name, value in {"SIZES": (16, 24), "BATCHES": (1, 3), "ANGLES": 7, "_SHORTEST": 0.001}.items():
        change.setattr(projector_recipes, name, value)
    change.setattr(
        projector_recipes,
        "run_all",
        lambda function, todo, machine: [
            json.loads(json.dumps(function(job, machine.folder, "cpu"))) for job in todo
        ],
    )
    projector_recipes.make(out, jobs.Machine(folder=out))
    change.undo()
    return pd.read_csv(out / projector_recipes.OUTPUTS[0])


def test_each_size_batch_backend_and_direction_once(table):
    keys = ["size", "batch", "backend", "direction"]
    assert not table.duplicated(keys).any()
    assert len(table) == 2 * 2 * 2 * 2
    assert set(table["backend"]) == {"matrix", "astra"} and set(table["device"]) == {"CPU"}


def test_times_are_positive_and_both_are_exact_adjoints_on_a_cpu(table):
    assert (table["milliseconds"] > 0).all()
    assert (table["gap"] < 1e-6).all()  # float32


def test_a_time_is_that_of_one_call():
    spent = []

    def call():
        spent.append(sum(range(20000)))

    seconds = projector_recipes._seconds(call, on_gpu=False)
    assert len(spent) > 10 and seconds == pytest.approx(projector_recipes._SHORTEST / len(spent), rel=0.3)


def test_a_gap_shows_a_wrong_adjoint():
    class Pair:
        def forward(self, u):
            return 2 * u

        def adjoint(self, v):
            return 2.1 * v

    u = v = torch.ones(3, 4)
    assert projector_recipes._gap(Pair(), u, v) == pytest.approx(0.05)
