"""The counts on the page *Status* are those of the tests."""

import csv
import sys

import pytest
from test_chapters import ROOT

sys.path.insert(0, str(ROOT / "book" / "_tools"))
import count_tests

PICKING = ("keyword", "markexpr", "deselect", "lf")  # options that leave tests out
IDS = [
    "tests/test_faults.py::test_a_run_that_is_killed_five_times_ends[0]",
    "tests/test_faults.py::test_a_run_that_is_killed_five_times_ends[ftp://a/b.py::c]",
    "tests/test_faults.py::test_other[killed_five_times]",
    "tests/test_store.py::test_refuses[a]",
    "tests/test_training.py::test_fit_refuses_b",
]


def all_collected(session):
    """Return the ids that `count_tests.collect` would find, if this session holds them all; else None."""
    ids = [item.nodeid for item in session.items if item.nodeid.startswith("tests/test_")]
    files = {f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py")}
    chosen = any(getattr(session.config.option, name, None) for name in PICKING)
    chosen = chosen or any("::" in argument for argument in session.config.args)
    return ids if not chosen and {one.split("::")[0] for one in ids} == files else None


def test_the_table_is_up_to_date(request):
    """Of `make test` this is one test, so what it has collected is counted: to collect it again takes as long as many tests."""
    with count_tests.TABLE.open(encoding="utf-8", newline="") as file:
        stored = [tuple(row) for row in csv.reader(file)]
    found = count_tests.rows(all_collected(request.session))
    assert stored == [count_tests.HEADER, *found], "run python book/_tools/count_tests.py"


def test_names_are_matched_and_not_parameters():
    assert count_tests.count(IDS, "test_faults", "killed_five_times", None) == 2
    assert count_tests.count(IDS, "test_faults", "killed_five_times", r"range\(0, kills, (\d+)\)") == 10
    assert count_tests.count(IDS, count_tests.OTHERS, "refuse", None) == 2
    assert (
        count_tests.count([*IDS, "tests/test_untrusted.py::test_refuses"], count_tests.OTHERS, "refuse", None)
        == 2
    )


def test_a_number_that_the_source_no_longer_gives_is_reported():
    with pytest.raises(ValueError, match="not one number"):
        count_tests.count(IDS, "test_faults", "killed_five_times", r"nowhere (\d+)")
    with pytest.raises(ValueError, match="test_readers defines no CROWD"):
        count_tests.constant("test_readers", "CROWD")
    assert count_tests.constant("test_readers", "READERS") >= 60
