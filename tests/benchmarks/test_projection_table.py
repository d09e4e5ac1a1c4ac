"""The table of projections: one geometry for all packages, gaps and gradients that can be seen to be wrong, and honest reasons."""

import importlib.util

import pandas as pd
import pytest
from peers import projection, projectors

MISSING = importlib.util.find_spec("deepinv") is None


def quiet(*_):
    """Say nothing."""


@pytest.fixture(scope="module")
def rows():
    names = (
        "ir_helpers, matrix",
        "ir_helpers, matrix-free",
        "ASTRA, loop on the CPU",
        "deepinv",
        "scikit-image",
    )
    chosen = {name: projectors.PROJECTORS[name] for name in names}
    found = projection.measure("cpu", sizes=[32], batches=[2], angles=12, projectors=chosen, say=quiet)
    return pd.DataFrame(found)


def test_the_same_integrals_are_compared(rows):
    forward = rows[rows["direction"] == "forward"].set_index("peer")
    ours = forward.loc[["ir_helpers, matrix", "ir_helpers, matrix-free"]]
    assert ours["scale"].to_numpy() == pytest.approx(1, abs=1e-5) and (ours["difference"] < 1e-5).all()
    assert forward.loc["ASTRA, loop on the CPU", "scale"] == pytest.approx(32, rel=1e-5)  # lengths in pixels
    assert forward.loc["scikit-image", "scale"] == pytest.approx(32, rel=0.01)
    assert (
        forward.loc["scikit-image", "difference"] < 0.2
    )  # another interpolation; a mirrored scan differs by 0.8


def test_adjoints_and_gradients_are_told_apart(rows):
    forward = rows[rows["direction"] == "forward"].set_index("peer")
    assert (forward.loc[["ir_helpers, matrix", "ASTRA, loop on the CPU"], "gap"] < 1e-6).all()
    assert forward.loc["scikit-image", "gap"] > 1e-4
    assert forward.loc["ir_helpers, matrix", "gradient_error"] < 1e-5
    assert forward.loc["scikit-image", "autograd"] == "none"
    assert (rows.dropna(subset=["direction"])["milliseconds"] > 0).all()


@pytest.mark.skipif(not MISSING, reason="deepinv is installed here")
def test_a_peer_that_cannot_be_had_says_why(rows):
    (reason,) = rows[rows["peer"] == "deepinv"]["reason"]
    assert "deepinv does not import: ModuleNotFoundError" in reason


def test_a_wrong_gradient_shows():
    """A peer whose backward pass is not its adjoint, and whose adjoint is not that of its projection."""

    class Wrong(projectors.Book):
        def __init__(self, *setting):
            super().__init__(*setting, backend="matrix")
            self.adjoint = lambda y: 1.1 * self.A.T(y)

        model = "wrong"

    (row, _) = projection.measure(
        "cpu", sizes=[16], batches=[2], angles=8, projectors={"wrong": Wrong}, say=quiet
    )
    assert row["gradient_error"] == pytest.approx(
        0.1 / 1.1, rel=1e-3
    )  # PyTorch's gradient is right, the adjoint is not
    assert row["slope_error"] < 1e-6 and row["gap"] > 1e-4


def test_a_package_that_fails_costs_its_own_rows_alone():
    class NoGradient(projectors.Book):
        model = "ours"

        def __init__(self, *setting):
            super().__init__(*setting, backend="matrix")
            self.differentiable = lambda x: {}[0]

    class NoProjection(NoGradient):
        def __init__(self, *setting):
            super().__init__(*setting)
            self.forward = lambda x: {}["A"]

    chosen = {"no gradient": NoGradient, "no projection": NoProjection}
    rows = projection.measure("cpu", sizes=[16], batches=[2], angles=8, projectors=chosen, say=quiet)
    reasons = [row["reason"] for row in rows if "reason" in row]
    timed = [row for row in rows if "milliseconds" in row]
    assert reasons == ["KeyError: 'A'"] and len(timed) == 2
    assert all(row["autograd"] == "KeyError: 0" and row["gap"] < 1e-6 for row in timed)
