"""The benchmarks measure what they say: counts, scales, gaps, budgets, and tables that keep what other devices measured."""

import importlib.util
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from peers import attack_table, tables, training_cost
from peers.problems import Problem, linear_maps
from peers.searches import SEARCHES, Ours, Search
from peers.watched import Watched

MISSING = importlib.util.find_spec("deepinv") is None


def quiet(*_):
    """Say nothing."""


# ---- attacks


def toy(name="toy"):
    M = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    y = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    x = y @ M.T + 0.1 * torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    image = lambda t: t.reshape(4, 1, 2, 3)
    return Problem(name, "linear", lambda data: (data @ M.T).reshape(-1, 1, 2, 3), y, image(x), 1.0)


def test_the_label_hides_the_error_but_not_its_direction():
    problem = toy()
    for low, span in ((0.0, 1.0), (-7.0, 20.0)):
        watched = Watched(problem, low=low, span=span)
        u = watched.inputs().requires_grad_()
        loss = torch.nn.functional.cross_entropy(watched(u), watched.labels(), reduction="none")
        (found,) = torch.autograd.grad(loss.sum(), u)
        data = problem.y.clone().requires_grad_()
        error = (problem.reconstruct(data) - problem.x).square().flatten(1).sum(1)
        (expected,) = torch.autograd.grad(error.sum(), data)
        cosine = torch.nn.functional.cosine_similarity(found.flatten(1), expected.flatten(1))
        assert (cosine > 1 - 1e-5).all()
        assert loss.tolist() == pytest.approx([math.log(1.5)] * 4, rel=1e-5)  # e is the clean error
        assert (watched(u).argmax(1) == 0).all() and watched.evaluations == 1


def test_gradients_are_counted_and_the_worst_allowed_point_is_kept():
    problem = toy()
    watched = Watched(problem)
    clean = watched.clean.mean().item()
    data = problem.y.clone().requires_grad_()
    watched.reconstruct(data).sum().backward()
    watched.reconstruct(problem.y + 0.3)
    inside = watched.worst.mean().item()
    watched.reconstruct(problem.y + 30.0)  # outside the ball: not kept
    assert watched.evaluations == 1
    assert watched.after(0) == pytest.approx(clean) and watched.after(7) == inside > clean
    assert watched.worst.mean().item() == inside and watched.delta.flatten(1).norm(dim=1).max() <= 1


@pytest.mark.parametrize("search", [Ours("both"), Ours("long"), Ours("measured"), Ours("race")])
def test_our_search_takes_no_more_than_its_budget(search):
    searches = {"ours": search}
    rows = attack_table.measure(budgets=(1, 5, 101), searches=searches, problems=[toy()], say=quiet)
    assert all(row["gradients"] <= row["evaluations"] for row in rows)
    assert rows[0]["gradients"] == 1
    assert rows[-1]["error"] >= rows[0]["error"]


def test_a_search_that_takes_more_than_its_budget_is_refused():
    class Greedy(Search):
        def run(self, watched, evaluations, step):
            for _ in range(evaluations + 1):
                watched.reconstruct(watched.problem.y.clone().requires_grad_()).sum().backward()

    with pytest.raises(RuntimeError, match="6 gradients were taken instead of 5"):
        attack_table.measure(budgets=(5,), searches={"greedy": Greedy()}, problems=[toy()], say=quiet)


def test_a_package_that_fails_costs_its_own_rows_alone():
    class Broken(Search):
        def run(self, watched, evaluations, step):
            raise TypeError("no such norm\nmore")

    searches = {"broken": Broken(), "ours": Ours("both")}
    broken, ours = attack_table.measure(budgets=(5,), searches=searches, problems=[toy()], say=quiet)
    assert broken["reason"] == "TypeError: no such norm" and ours["error"] > 0


def test_tuning_takes_the_best_step_of_each_row():
    class Jump(Search):
        steps, prefix = (0.1, 0.9, 0.5), True

        def run(self, watched, evaluations, step):
            direction = torch.nn.functional.normalize(torch.ones_like(watched.problem.y), dim=1)
            watched.reconstruct(watched.problem.y + step * direction)

    recommended, tuned = attack_table.measure(
        budgets=(5,), searches={"jump": Jump()}, problems=[toy()], say=quiet
    )
    assert recommended["step"] == 0.1 and tuned["setting"] == "tuned"
    assert tuned["error"] >= recommended["error"] and tuned["gradients"] == 0


def test_linear_maps_come_with_their_optimum():
    """The book's promise: 99.5 % of it in 50 steps, and nothing found beyond it."""
    for problem in linear_maps("cpu", images=4):
        (row,) = attack_table.measure(
            budgets=(50,), searches={"ours": Ours("both")}, problems=[problem], say=quiet
        )
        assert 0.995 * problem.optimum <= row["error"] <= (1 + 1e-3) * problem.optimum, problem.name


@pytest.mark.skipif(not MISSING, reason="the peers are installed here")
def test_every_missing_peer_has_a_reason():
    rows = attack_table.measure(budgets=(5,), searches=SEARCHES, problems=[toy()], say=quiet)
    reasons = {row["peer"]: row["reason"] for row in rows if "reason" in row}
    assert set(reasons) == {name for name in SEARCHES if not name.startswith("ir_helpers")}
    assert all("does not import" in reason for reason in reasons.values())


# ---- tables


def test_rows_of_other_devices_stay(tmp_path):
    path = tmp_path / "t.csv"
    tables.merge(path, [{"device": "GPU", "size": 1, "ms": 1.0}, {"device": "CPU", "size": 1, "ms": 2.0}])
    table = tables.merge(path, [{"device": "CPU", "size": 1, "ms": 3.0, "reason": "new"}], ["device", "size"])
    assert table[["device", "ms"]].to_numpy().tolist() == [["GPU", 1.0], ["CPU", 3.0]]
    table = tables.merge(path, [{"device": "CPU", "size": 2, "ms": 4.0}], ["device", "size"])
    assert table["ms"].tolist() == [1.0, 3.0, 4.0]
    assert pd.read_csv(path)["ms"].tolist() == [1.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="no rows"):
        tables.merge(path, [])
    with pytest.raises(ValueError, match="no column 'machine'"):
        tables.merge(path, [{"machine": 1}], ["machine"])


def test_training_costs_come_from_the_shipped_tables():
    table = training_cost.training().set_index("method")
    assert table.index.tolist() == ["plain", "noise", "common", "min-max", "per-sample"]
    assert table.loc["plain", "extra"] == table.loc["plain", "gain"] == 0
    assert table["evaluations_per_epoch"].is_monotonic_increasing
    assert table.loc["per-sample", "gain"] > table.loc["noise", "gain"] > 0
    expected = table["gain"] / table["extra"]
    assert table["gain_per_extra"].dropna().tolist() == pytest.approx(expected.dropna().tolist())
    with pytest.raises(ValueError, match="radius 9"):
        training_cost.training(radius=9.0)


def test_the_estimate_keeps_to_measured_rates():
    scaling = pd.DataFrame({
        "method": "plain", "device": "GPU", "batch": 32, "processes": [1, 2, 4], "images_per_second": [100.0, 200.0, 300.0],
    })  # fmt: skip
    small = scaling.assign(batch=8, images_per_second=10.0)  # the largest batch alone counts
    pd.testing.assert_frame_equal(
        training_cost.estimate(pd.concat([small, scaling])), training_cost.estimate(scaling)
    )
    table = training_cost.estimate(scaling, slices=36_000, epochs=10).set_index("gpus")
    assert table.loc[1, "hours"] == pytest.approx(1.0)
    assert table.loc[2, "hours"] == pytest.approx(0.5)
    assert 200 < table.loc[3, "images_per_second"] < 300
    assert (table.loc[5:, "images_per_second"] == 300).all()  # no promise beyond what was measured
    assert (table.loc[:4, "hours_at_best"] == table.loc[:4, "hours"]).all()
    assert table.loc[8, "hours_at_best"] == pytest.approx(table.loc[4, "hours"] / 2)  # twice the GPUs
    assert table["kind"].str.startswith("estimate").all()
    assert table.loc[[2, 3, 8], "kind"].tolist() == [
        "estimate, measured rate", "estimate, interpolated rate", "estimate, held rate",
    ]  # fmt: skip
    assert training_cost.estimate(scaling[1:])["gpus"].min() == 2  # one GPU was not measured
    with pytest.raises(ValueError, match="images_per_second"):
        training_cost.estimate(scaling.drop(columns="images_per_second"))


# ---- files


def test_peers_are_pinned_and_the_code_is_short():
    folder = Path(__file__).parent
    lines = [
        line
        for name in ("requirements", "requirements-alone")
        for line in (folder / f"{name}.txt").read_text().splitlines()
    ]
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) == 6 and all(re.fullmatch(r"[a-z-]+==[\d.]+", line) for line in pins)
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 250 for path in folder.rglob("*.py"))
