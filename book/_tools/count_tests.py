"""Count what the tests try, for the page *Status*: python book/_tools/count_tests.py writes book/_data/tests.csv.

The numbers come from pytest's collection and from constants in the tests. `tests/test_counts.py` fails when the file is out of date.
"""

import ast
import csv
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "book" / "_data" / "tests.csv"
HEADER = ("What was tried", "How often", "What must happen", "Where")
OTHERS = "the tests of each module"  # all files that no other row counts
# What was tried, what must happen, where, and the summands: a pattern of test names, then, if each such test tries several,
# a pattern of its source that gives their number.
ROWS = [
    (
        "A training is killed (SIGKILL) at a chosen or a random moment",
        "it resumes and ends with the same bits; one epoch at most is lost",
        "test_faults",
        [("killed_five_times", r"range\(0, kills, (\d+)\)"), ("a_kill_costs", None)],
    ),
    (
        "A disk is full, memory is exhausted, a worker dies, a result is cut off",
        "the last good file stays, and the error says what to do",
        "test_faults",
        [("full_disk|grows_too_large|without_memory|never_had_the_memory|killed_job|half_a_result", None)],
    ),
    (
        "An archive, a checkpoint, weights or a scan made to do harm",
        "refused by name, before memory is taken and without running anything",
        "test_untrusted",
        [("hostile|forged|bomb|all_memory|climbs|fill_the_memory|outside|device|without_end", None)],
    ),
    (
        "A good file damaged at random",
        "refused by name, or read as it was",
        "test_untrusted",
        [("whatever_the_damage", r"for _ in range\((\d+)\)")],
    ),
    (
        "A download is cut, altered, stalled, or led elsewhere",
        "resumed, or given up in bounded time; no half file is left",
        "test_downloads",
        [("", None)],
    ),
    (
        "A function is given what it cannot take",
        "an error whose text names the argument",
        OTHERS,
        [("refuse", None)],
    ),
    (
        "Drawn input: odd shapes, types, memory layouts, scales and numbers",
        "a finite, correct result, or a documented error",
        "test_properties",
        [("", None)],
    ),
    (
        "A network or a search with a flaw that makes an attack look weak",
        "`check_attack` flags it",
        "test_doubts",
        [("test_flags", None)],
    ),
    (
        "A sound attack, on the book's own networks too",
        "`check_attack` lets it pass",
        "test_doubts",
        [("test_lets", None)],
    ),
    (
        "No home folder, no network, a read-only installation, two users, path names of Windows",
        "everything a class needs works, or says what to do",
        "test_classroom",
        [("", None)],
    ),
]
# The same, from constants of the tests in a browser.
IN_A_BROWSER = [
    (
        "Code, pictures and frames that the Content-Security-Policy of the pages forbids",
        "refused, while every page works",
        "test_policy",
        "TRIES",
    ),
    ("Readers who open the book at the same time", "each gets every file, whole", "test_readers", "READERS"),
]


def collect() -> list[str]:
    """Return the ids of all tests but those in a browser and the benchmarks."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    command += ["--ignore", "tests/browser", "--ignore", "tests/benchmarks"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if "::" in line]


def count(ids: list[str], where: str, pattern: str, several: str | None) -> int:
    """Count the tests whose name matches, in a file or in ``OTHERS``; ``several`` finds in its source how much each tries."""
    named = {row[2] for row in ROWS} - {OTHERS}
    names = [one.split("[")[0] for one in ids]  # without parameters, which may hold anything
    places = [(name, Path(name.split("::")[0]).stem) for name in names]
    names = [name for name, file in places if (file not in named if where == OTHERS else file == where)]
    found = sum(re.search(pattern, name.split("::", 1)[1]) is not None for name in names)
    if several is None:
        return found
    numbers = set(re.findall(several, (ROOT / "tests" / f"{where}.py").read_text(encoding="utf-8")))
    if len(numbers) != 1:
        raise ValueError(f"{where}: {several} gives {sorted(numbers)}, not one number")
    return found * int(*numbers)


def constant(where: str, name: str) -> int:
    """Return a number that a test in a browser defines, or the length of a dict."""
    tree = ast.parse((ROOT / "tests" / "browser" / f"{where}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return len(node.value.keys) if isinstance(node.value, ast.Dict) else ast.literal_eval(node.value)
    raise ValueError(f"{where} defines no {name}")


def rows(ids: list[str] | None = None) -> list[tuple[str, str, str, str]]:
    """Return the table without its header, from the ids of all tests; None collects them."""
    ids = collect() if ids is None else ids
    counted = [
        (what, sum(count(ids, where, *summand) for summand in summands), must, where)
        for what, must, where, summands in ROWS
    ]
    counted += [(what, constant(where, name), must, where) for what, must, where, name in IN_A_BROWSER]
    zero = [what for what, number, *_ in counted if number == 0]
    if zero:
        raise ValueError(f"no test tries any more: {zero}")
    return [(what, f"{number:,}", must, where) for what, number, must, where in counted]


if __name__ == "__main__":
    TABLE.parent.mkdir(exist_ok=True)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows()])
