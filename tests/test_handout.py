"""The notebooks for a class: solutions and hidden checks go, everything that the rest needs stays."""

import subprocess
import sys

import nbformat
import pytest
from test_chapters import ROOT, SOURCES, code_cells

sys.path.insert(0, str(ROOT / "book" / "_tools"))
import handout

CHAPTERS = [source for source in SOURCES if code_cells(source)]


def cell(source, *tags):
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def text(source):
    return nbformat.v4.new_markdown_cell(source)


def test_fenced_solutions_go_and_the_text_around_them_stays():
    cells = [
        text("Before.\n\n```{solution} ex-1\n:class: dropdown\n\nSecret.\n```\n\n```{exercise}\nAsk.\n```")
    ]
    (kept,) = handout.without_solutions(cells)
    assert kept.source == "Before.\n\n```{exercise}\nAsk.\n```"


def test_gated_solutions_go_with_their_cells():
    start = "Ask.\n\n````{solution-start} ex-1\n:class: dropdown\n````"
    end = "So much.\n\n````{solution-end}\n````\n\n## After"
    cells = [
        text(start),
        cell("secret = 1"),
        text("Hm."),
        cell("assert secret", "remove-cell"),
        text(end),
        cell("1 + 1"),
    ]
    assert [kept.source for kept in handout.without_solutions(cells)] == ["Ask.", "## After", "1 + 1"]


@pytest.mark.parametrize("gate", ["start", "end"])
def test_a_gate_without_its_partner_is_an_error(gate):
    with pytest.raises(ValueError, match="solution"):
        handout.without_solutions([text(f"````{{solution-{gate}}} ex-1\n````")])


def test_hidden_checks_go():
    cells = [cell("a = 1"), cell("# sure?\nassert a == 1\nglue('a', a)", "remove-cell"), cell("print(a)")]
    assert [kept.source for kept in handout.without_checks(cells)] == ["a = 1", "print(a)"]


@pytest.mark.parametrize(
    ("hidden", "later"),
    [
        ("b = 1\nassert b", "print(b)"),
        ("b = 1\n# certain?\nassert (\n    b\n)\nglue('assert', b)", "print(b)"),
        ("import b\nassert b", "b.c"),
        ("def b(): return 1\nassert b()", "f = lambda: b()"),
        ("b[0] = 1\nassert b[0]", "sum(b)"),
        ("b = 1\nassert b", "def f():\n    return b"),
        ("b = 1\nassert b", "b += 1"),
        ("b = 1\nassert b", "b = b + 1"),
    ],
)
def test_a_hidden_cell_that_is_needed_stays_without_its_assertions(hidden, later):
    kept = handout.without_checks([cell(hidden, "remove-cell"), cell(later)])
    assert len(kept) == 2 and "assert" not in kept[0].source


@pytest.mark.parametrize(
    "later", ["b = 2\nprint(b)", "[b for b in range(3)]", "for b in (1, 2):\n    print(b)", "lambda b: b"]
)
def test_a_hidden_cell_is_not_needed_for_a_name_that_is_bound_anew(later):
    assert [kept.source for kept in handout.without_checks([cell("b = 1", "remove-cell"), cell(later)])] == [
        later
    ]


def test_numbers_of_the_build_stand_in_the_text():
    values = {"share": "0.256", "best": "'noise'", "CT: x": "2.5"}
    line = "{glue:text}`share:.0%` by {glue:text}`best`, {glue:text}`unknown:.1f`, {glue:text}`CT: x:.2f`"
    assert handout.filled(line, values) == "26% by noise, {glue:text}`unknown:.1f`, 2.50"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    target = tmp_path_factory.mktemp("handout")
    for chapter in CHAPTERS:
        handout.write(chapter, target, ROOT / "no such folder")
    return target


def test_chapters_without_solutions_hold_none(written):
    for chapter in CHAPTERS:
        if chapter.stem == "write_a_chapter":  # it shows how a solution is written
            continue
        notebooks = {
            k: nbformat.read(written / k / f"{chapter.stem}.ipynb", as_version=4) for k in ("with", "without")
        }
        sources = {k: "\n".join(c.source for c in notebook.cells) for k, notebook in notebooks.items()}
        assert "{solution" not in sources["without"], chapter.stem
        assert sources["with"].count("{exercise}") == sources["without"].count("{exercise}")
        assert ("{solution" in sources["with"]) == ("{exercise}" in sources["with"])


def test_chapters_without_solutions_lack_no_name(written):
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", written / "without"]
    result = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
