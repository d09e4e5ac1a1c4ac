"""Laws of the chapters' sources: what every page of the book has in common."""

import re
from pathlib import Path

import jupytext
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
SOURCES = sorted(BOOK.glob("*.md"))
FOLDED = {"hide-input", "hide-cell", "remove-cell", "remove-input"}
MAX_LINES = 400
MAX_CELL_LINES = 12
MAX_CODE_WIDTH = 88  # characters; the column of code on a page is about as wide


def pages_of(entry):
    """Yield the files that an entry of the table of contents lists, in order."""
    if "file" in entry:
        yield entry["file"]
    for child in entry.get("chapters", []) + entry.get("sections", []):
        yield from pages_of(child)


def toc():
    return yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))


def numbered_chapters():
    return [ROOT / f"{page}.md" for part in toc()["parts"] if part.get("numbered") for page in pages_of(part)]


def code_cells(source):
    text = source.read_text(encoding="utf-8")
    if "{code-cell}" not in text:
        return []
    return [cell for cell in jupytext.reads(text, fmt="md:myst").cells if cell.cell_type == "code"]


def tags(cell):
    return set(cell.metadata.get("tags", []))


def drawn_figures(source):
    """Return the settings of the cells that make a figure."""
    return [c.metadata["mystnb"] for c in code_cells(source) if "figure" in c.metadata.get("mystnb", {})]


each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
each_numbered = pytest.mark.parametrize("source", numbered_chapters(), ids=lambda path: path.stem)


def test_table_of_contents_lists_every_page_once():
    contents = toc()
    listed = [contents["root"], *(page for part in contents["parts"] for page in pages_of(part))]
    assert sorted(listed) == sorted(f"book/{source.stem}" for source in SOURCES)


def lines_to_read(source):
    """Count the lines that a reader meets: prose, formulas and visible code, with the blank lines between.

    What is folded away (plot code, solutions) or hidden (assertions) is not read in passing, nor are captions and
    descriptions part of the text. Counting them would reward the chapter that describes and checks itself less.
    """
    text = source.read_text(encoding="utf-8")
    text = re.sub(
        r"^`{4,}\{solution-start\}.*?\{solution-end\}\n`{4,}$", "", text, flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"^(`{3,})\{solution\}.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    cells = jupytext.reads(text, fmt="md:myst").cells
    return sum(len(cell.source.splitlines()) + 1 for cell in cells if not tags(cell) & FOLDED)


@each_source
def test_page_is_short(source):
    assert lines_to_read(source) < MAX_LINES


@each_source
def test_page_begins_with_its_label_and_one_title(source):
    text = re.sub(r"\A---\n.*?\n---\n", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
    prose = re.sub(r"^(`{3,}).*?^\1`*$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", prose, flags=re.MULTILINE)) == 1
    if source.stem != "index":
        assert re.match(rf"\s*\({source.stem.replace('_', '-')}\)=\n+# \S", text)


@each_source
def test_code_has_the_jupytext_header(source):
    cells = code_cells(source)
    if cells:
        metadata = jupytext.reads(source.read_text(encoding="utf-8"), fmt="md:myst").metadata
        assert metadata["kernelspec"]["name"] == "python3"
        assert metadata["jupytext"]["text_representation"]["format_name"] == "myst"


@each_source
def test_visible_cells_are_short(source):
    for cell in code_cells(source):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert tags(cell) & FOLDED or len(lines) <= MAX_CELL_LINES, f"{len(lines)} lines:\n{cell.source}"


@each_source
def test_visible_code_needs_no_sideways_scrolling(source):
    visible = [cell for cell in code_cells(source) if not tags(cell) & FOLDED]
    lines = [line for cell in visible for line in cell.source.splitlines()]
    wide = [line for line in lines if len(line) > MAX_CODE_WIDTH]
    # An import stays on one line: isort would give each name a line of its own.
    assert [line for line in wide if not line.lstrip().startswith(("import ", "from "))] == []


@each_source
def test_every_figure_is_named_captioned_and_described(source):
    for settings in drawn_figures(source):
        name = settings["figure"].get("name", "")
        assert name.startswith("fig-"), settings
        assert settings["figure"].get("caption"), f"{name} has no caption"
        assert len(settings.get("image", {}).get("alt", "")) > 15, f"{name} has no description"


def test_figure_names_are_unique_in_the_book():
    names = [settings["figure"]["name"] for source in SOURCES for settings in drawn_figures(source)]
    assert sorted(names) == sorted(set(names))


@each_source
def test_page_names_no_place_on_a_machine(source):
    text = source.read_text(encoding="utf-8")
    found = re.findall(
        r"(?<![\w.:/])(?:/(?:home|root|tmp|work|usr|mnt|Users)/\S*|[A-Z]:\\\S+|file://\S+)", text
    )
    assert found == []


@each_numbered
def test_chapter_has_solved_exercises(source):
    text = source.read_text(encoding="utf-8")
    blocks = re.findall(r"^`{3,}\{exercise(?:-start)?\}[^\n]*\n(.*?)^`{3,}$", text, re.DOTALL | re.MULTILINE)
    exercises = {label for block in blocks for label in re.findall(r":label: *(\S+)", block)}
    solutions = re.findall(
        r"^`{3,}\{solution(?:-start)?\} *(\S+)\n+:class: dropdown", text, flags=re.MULTILINE
    )
    assert len(exercises) >= 2
    assert set(solutions) == exercises, "each exercise has one solution, folded by `:class: dropdown`"
    assert text.count("{solution-start}") == text.count("{solution-end}")
    grades = [re.match(r"(?::\w+:[^\n]*\n)+\n\((Prove|Compute|Explore)\.\) ", block) for block in blocks]
    assert all(grades), "an exercise begins with (Prove.), (Compute.) or (Explore.)"


@each_numbered
def test_chapter_draws_figures_checks_itself_and_has_an_explorer(source):
    cells = code_cells(source)
    assert drawn_figures(source), "no figure"
    assert any("remove-cell" in tags(c) and "assert" in c.source for c in cells), "no claim is asserted"
    assert any(re.search(r"widgets\.explorer\w*\(", c.source) for c in cells), "no explorer"


def test_api_page_documents_every_module_that_a_chapter_imports():
    imports = re.compile(r"from ir_helpers import ([\w, ]+)|from ir_helpers\.(\w+) import")
    code = "\n".join(cell.source for source in SOURCES for cell in code_cells(source))
    used = {name.strip() for found in imports.findall(code) for name in ",".join(found).split(",")} - {""}
    listed = re.findall(r"automodule:: ir_helpers\.(\w+)", (BOOK / "api.md").read_text(encoding="utf-8"))
    assert used <= set(listed)
