"""The PDF: what it needs, what its log may not hold, and how outputs of cells and numbers of chapters come to paper."""

import base64
import json
import re
import subprocess
import sys

import pytest
from docutils import nodes
from test_chapters import ROOT

sys.path[:0] = [str(ROOT / "book" / "_tools"), str(ROOT / "book" / "_ext")]
import pdf
import printed
import printed_outputs


def test_without_xelatex_one_sentence_says_what_to_install(tmp_path):
    """The target must stop before it builds anything: PATH holds nothing but an empty folder."""
    done = subprocess.run(
        [sys.executable, ROOT / "book" / "_tools" / "pdf.py"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("make pdf needs xelatex, latexmk") and pdf.INSTALL in sentence


def test_readme_names_the_same_packages():
    packages = set(pdf.INSTALL.split("recommends ")[1].split())
    assert packages <= set(re.findall(r"[\w-]+", (ROOT / "README.md").read_text(encoding="utf-8")))


def test_programs_come_first_then_styles():
    assert pdf.missing(which=lambda name: None) == list(pdf.PROGRAMS)
    assert pdf.missing(which=lambda name: name, find_style=lambda name: name != "tcolorbox.sty") == [
        "tcolorbox.sty"
    ]
    assert pdf.missing(which=lambda name: name, find_style=lambda name: True) == []


LOG = r"""
LaTeX Warning: Hyper reference `book/a:b' on page 4 undefined on input line 468.
LaTeX Warning: Hyper reference `book/a:b' on page 5 undefined on input line 470.
LaTeX Warning: Label `thm-x' multiply defined.
LaTeX Font Warning: Font shape `TU/x' undefined
Missing character: There is no ✅ (U+2705) in font [texgyrepagella-regular.otf]/
Overfull \hbox (7.2pt too wide) in paragraph at lines 1--2
Overfull \hbox (31.5pt too wide) in paragraph at lines 302--304
Overfull \vbox (99.0pt too high) has occurred
"""


def test_log_is_searched_for_references_labels_and_signs():
    found = pdf.problems(LOG)
    assert len(found) == 4 and not any("Font shape" in text for text in found)


def test_errors_hide_the_warnings_that_follow_from_them():
    assert pdf.problems(LOG + "! Undefined control sequence.\n") == ["! Undefined control sequence."]


def test_lines_that_stick_out_are_listed_widest_first():
    assert [points for points, _ in pdf.wide_lines(LOG + LOG.replace("31.5", "44"))] == [44.0, 31.5]


def test_verdict_becomes_a_sentence_and_a_table():
    source = (
        "<div class='verdict'><p><strong>Claim <code>a</code>: holds.</strong> So it is.</p>"
        "<table><tbody><tr><td>ρ(2)</td><td>1.5</td></tr></tbody></table></div>"
    )
    together, paragraph, table = printed_outputs.read_html(source)
    assert "Needspace" in together.astext()  # LaTeX would part them
    assert paragraph.astext() == "Claim a: holds. So it is." and isinstance(paragraph[0], nodes.strong)
    assert [entry.astext() for entry in table.findall(nodes.entry)] == ["ρ(2)", "1.5"]


def test_names_of_an_index_need_no_row_of_their_own():
    head = "<thead><tr><th></th><th>clean</th></tr><tr><th>condition</th><th></th></tr></thead>"
    (table,) = printed_outputs.read_html(
        f"<table>{head}<tbody><tr><th>10</th><td>4.8</td></tr></tbody></table>"
    )
    assert [row.astext().split() for row in table.findall(nodes.row)] == [
        ["condition", "clean"],
        ["10", "4.8"],
    ]
    groups = (
        "<thead><tr><th>a</th><th>b</th></tr><tr><th>c</th><th></th></tr></thead>"  # nothing is free for c
    )
    (table,) = printed_outputs.read_html(
        f"<table>{groups}<tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    )
    assert len(list(table.findall(nodes.row))) == 3


def test_title_page_takes_the_picture_of_a_figure(tmp_path):
    figure = {"mystnb": {"figure": {"name": "fig-landing"}}}
    shown = [
        {"data": {"text/plain": "Figure"}},
        {"data": {"image/png": base64.b64encode(b"pixels").decode()}},
    ]
    cells = [{"metadata": {}, "outputs": []}, {"metadata": figure, "outputs": shown}]
    (tmp_path / "index.ipynb").write_text(json.dumps({"cells": cells}))
    assert pdf.picture_of(tmp_path / "index.ipynb", "fig-landing") == b"pixels"
    with pytest.raises(KeyError, match="fig-other"):
        pdf.picture_of(tmp_path / "index.ipynb", "fig-other")


def test_index_entries_of_one_word_are_written_alike():
    term = r"\index{U\sphinxhyphen{}Net@\spxentry{U\sphinxhyphen{}Net}|spxpagem} a\sphinxhyphen{}b"
    assert pdf.join_index_keys(term) == r"\index{U-Net@\spxentry{U-Net}|spxpagem} a\sphinxhyphen{}b"


def test_table_keeps_head_spans_and_names_of_rows_but_no_style():
    source = (
        "<style>.x {color: red}</style><table><thead><tr><th></th><th colspan='2'>error</th></tr></thead>"
        "<tbody><tr><th>plain</th><td>1</td><td>2</td></tr></tbody></table>"
    )
    (table,) = printed_outputs.read_html(source)
    assert "color" not in table.astext()
    assert table[0]["cols"] == 3 and len(list(table.findall(nodes.colspec))) == 3
    (head,) = table.findall(nodes.thead)
    assert [entry.get("morecols", 0) for entry in head.findall(nodes.entry)] == [0, 1]
    (body,) = table.findall(nodes.tbody)
    assert [bool(list(entry.findall(nodes.strong))) for entry in body.findall(nodes.entry)] == [
        True,
        False,
        False,
    ]


def widget(kind, buffers=(), **state):
    return {"model_name": kind, "state": state, "buffers": list(buffers)}


def test_explorer_shows_the_frame_that_its_sliders_stand_at():
    def picture(data):
        return widget("ImageModel", [{"path": ["value"], "data": base64.b64encode(data).decode()}])

    def slider(label, values, index):
        return widget("SelectionSliderModel", description=label, _options_labels=values, index=index)

    def stack(index, *children):
        return widget("StackModel", selected_index=index, children=[f"IPY_MODEL_{name}" for name in children])

    state = {
        "box": widget(
            "VBoxModel", children=[f"IPY_MODEL_{name}" for name in ("hint", "rows", "columns", "outer")]
        ),
        "hint": widget("HTMLModel", value="<p class='explorer-hint'>Try &lt; 1.</p>"),
        "rows": slider("net", ["plain", "min-max"], 1),
        "columns": slider("ε", ["0", "1"], 0),
        "outer": stack(1, "first", "second"),
        "first": stack(0, "a", "b"),
        "second": stack(0, "c", "d"),
        **{name: picture(name.encode()) for name in "abcd"},
    }
    assert printed_outputs.first_view(state, "box") == ("Try < 1.", [("net", "min-max"), ("ε", "0")], b"c")


def test_counters_begin_where_the_page_begins():
    figures = {
        "a": {"figure": {"x": (2, 3), "y": (2, 4)}, "displaymath": {"e": (2, 1)}},
        "b": {"figure": {"z": (5,)}},
    }
    sections = {"a": {"": (2,), "#s": (2, 1)}}
    start = printed.start_counters(figures, sections, "a")
    assert start == {"chapter": 1, "figure": 2, "table": 0, "literalblock": 0, "equation": 0}
    assert printed.start_counters(figures, sections, "b") == start | {"chapter": 0, "figure": 4}


def test_bookmarks_spell_formulas():
    assert printed.spoken(r"A^\top y") == "Aᵀ y".replace(" ", "")
    assert printed.spoken(r"\lambda_2") == "λ2"


def test_every_font_of_the_config_is_asked_for():
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert r"\setmathfont{texgyrepagella-math.otf}" in config and "texgyrepagella-math.otf" in pdf.STYLES


@pytest.mark.parametrize(
    "command", ["bookpart", "bookchapternumbered", "bookchapterplain", "booktheorem", "bookexercise"]
)
def test_style_defines_what_the_extension_writes(command):
    style = (ROOT / "book" / "_print" / "bookprint.sty").read_text(encoding="utf-8")
    assert re.search(rf"\\new(command\\|environment{{){command}\b", style)


AUX = pdf.LATEX / f"{pdf.NAME}.aux"
PAGES = ROOT / "_build" / "html" / "book"


DIGESTS = ROOT / "_build" / "digests.json"  # written after each build of the pages


def is_current():
    return AUX.is_file() and PAGES.is_dir() and AUX.stat().st_mtime > DIGESTS.stat().st_mtime


@pytest.mark.skipif(not is_current(), reason="needs `make pdf` after `make book`")
def test_numbers_on_paper_are_those_of_the_pages():
    aux = AUX.read_text(encoding="utf-8")
    printed_numbers = dict(
        re.findall(r"newlabel\{book/\w+:((?:fig|thm|lem|prp|ex)-[\w-]+)\}\{\{([\d.]+)\}", aux)
    )
    shown = {}
    for page in PAGES.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(
            r'<figure[^>]* id="(fig-[^"]+)".*?caption-number">Figure ([\d.]+\d)', text, flags=re.DOTALL
        ):
            shown[block[0]] = block[1]
        for name, number in re.findall(
            r'<div class="[^"]*admonition" id="((?:thm|lem|prp|ex)-[^"]+)">\s*<p class="admonition-title"><span '
            r'class="caption-number">\w+ ([\d.]+\d)',
            text,
        ):
            shown[name] = number
    assert len(shown) > 60
    assert {name: printed_numbers.get(name) for name in shown} == shown
