"""The ledger of claims, from a cell's output through an executed notebook to the collected files."""

import json
import math
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from ir_helpers import claims, ledger

# Typed from the list of claims, not read from the module.
IDS = [
    "unstable-tiny",
    "unstable-structure",
    "unstable-samples",
    "range-only",
    "ill-conditioned",
    "operator-mismatch",
    "per-sample-expensive",
    "common-suboptimal",
    "generator-specific",
    "mnist-robust",
    "faces-robust",
    "ct-robust",
    "regularised-vulnerable",
    "theorem",
    "trade-off",
    "conditioning",
]
MIME = "application/vnd.ir-helpers.claim+json"


def write_notebook(folder, name, *shown):
    """Write an executed notebook as Jupyter does: one cell for each object, with its display data as output."""
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "# Title"},
        {"cell_type": "code", "metadata": {}, "execution_count": 1, "source": "1", "outputs": [
            {"output_type": "stream", "name": "stdout", "text": "hello"},
            {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": "1"}},
        ]},
    ]  # fmt: skip
    for each in shown:
        data, metadata = DisplayFormatter().format(each)
        output = {"output_type": "execute_result", "execution_count": 2, "metadata": metadata, "data": data}
        cells.append(
            {
                "cell_type": "code",
                "metadata": {},
                "source": "verdict",
                "execution_count": 2,
                "outputs": [output],
            }
        )
    path = folder / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8"
    )


def some_verdicts():
    return (
        ledger.verdict("theorem", "holds", "filtered_svd", {"gap": 1e-9}),
        ledger.verdict(
            "range-only", "holds in part", "x_or_y", {"share in Range(A)": np.float32(0.25), "views": 143}
        ),
        ledger.verdict("conditioning", "does not hold here", "conditioning", {"ρ": torch.tensor(2.5)}),
    )


def test_the_claims_are_the_sixteen():
    assert len(IDS) == 16
    assert list(ledger.CLAIMS) == IDS
    assert ledger.VERDICTS == ("holds", "holds in part", "does not hold here")
    for text in ledger.CLAIMS.values():
        assert text[0].isupper()
        assert text.endswith(".")
        assert "|" not in text  # it stands in a Markdown table


def test_round_trip(tmp_path):
    theorem, range_only, conditioning = some_verdicts()
    write_notebook(tmp_path / "executed" / "book", "filtered_svd", theorem, conditioning)
    write_notebook(tmp_path / "executed" / "book", "x_or_y", range_only)
    write_notebook(tmp_path / "executed", "index")
    rows = ledger.collect(tmp_path / "executed", tmp_path)
    # In the order of the claims, whatever the order of pages.
    assert [row["id"] for row in rows] == ["range-only", "theorem", "conditioning"]
    assert rows[0] == {
        "id": "range-only",
        "claim": ledger.CLAIMS["range-only"],
        "verdict": "holds in part",
        "page": "x_or_y",
        "figures": {"share in Range(A)": 0.25, "views": 143.0},
    }
    text = (tmp_path / "claims.json").read_text(encoding="utf-8")
    assert json.loads(text) == rows
    assert "ρ" in text  # readable, not escaped


def test_markdown_table(tmp_path):
    write_notebook(tmp_path, "page", *some_verdicts())
    ledger.collect(tmp_path, tmp_path)
    table, sentence = (tmp_path / "ledger.md").read_text(encoding="utf-8").split("\n\n")
    header, rule, *lines = table.splitlines()
    assert rule == "|---|---|---|"
    assert len(lines) == 3
    assert all(line.count("|") == 4 for line in (header, *lines))
    assert lines[0].startswith(f"| {ledger.CLAIMS['range-only']} | ")
    assert ">holds in part</span>" in lines[0]
    assert "`/book/x_or_y`" in lines[0]
    assert sentence == (
        "Of the 16 claims 3 are measured so far: *holds* 1, *holds in part* 1, *does not hold here* 1.\n"
    )


def test_a_whole_ledger_no_longer_says_so_far():
    rows = [{"verdict": "holds" if k % 4 else "holds in part"} for k in range(16)]
    assert ledger.count(rows) == (
        "All 16 claims are measured: *holds* 12, *holds in part* 4, *does not hold here* 0."
    )


def test_full_form_shows_every_claim_once(tmp_path):
    write_notebook(tmp_path, "page", *some_verdicts())
    rows = ledger.collect(tmp_path, tmp_path)
    text = (tmp_path / "take_home.md").read_text(encoding="utf-8")
    assert text == ledger.full_form(rows)
    for claim in ledger.CLAIMS.values():
        assert text.count(f"* - {claim}\n") == 1
    assert text.count("not yet measured") == len(IDS) - 3
    for verdict in ledger.VERDICTS:
        assert text.count(f">{verdict}</span>") == 1
    assert "{doc}`/book/x_or_y`" in text
    assert "share in Range(A): **0.25**" in text
    assert "gap: **1.0\u00a0×\u00a010⁻⁹**" in text


def test_full_form_is_made_of_tables_that_can_be_read(tmp_path):
    from docutils import nodes
    from docutils.core import publish_doctree
    from myst_parser.parsers.docutils_ import Parser

    text = ledger.full_form([verdict.row for verdict in some_verdicts()]).replace("{doc}", "")
    parsed = publish_doctree(
        f"# Page\n\n## Ledger\n\n{text}",
        parser=Parser(),
        settings_overrides={"report_level": 2, "halt_level": 2},
    )
    tables = list(parsed.findall(nodes.table))
    assert len(tables) == len(claims.THEMES)
    rows = [row for table in tables for row in table.findall(nodes.row)]
    assert len(rows) == len(tables) + len(IDS)
    assert all(len(list(row.findall(nodes.entry))) == 3 for row in rows)


def test_themes_hold_each_claim_once():
    grouped = [claim for theme in claims.THEMES.values() for claim in theme]
    assert sorted(grouped) == sorted(IDS)
    assert set(claims.HEADLINES) <= set(IDS)
    assert all(2 <= len(names) <= 3 for names in claims.HEADLINES.values())


def test_headline_falls_back_on_what_was_measured():
    named = claims.HEADLINES["theorem"][0]
    figures = {"first": 1.0, "second": 2.0, "third": 3.0, "fourth": 4.0}
    assert claims.headline({"id": "theorem", "figures": figures | {named: 5.0}}) == {named: 5.0}
    assert list(claims.headline({"id": "theorem", "figures": figures})) == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (2.4, "2.4"),
        (0.0692, "0.0692"),
        (576.18, "576"),
        (12345.6, "12,346"),
        (1.2e-30, "1.2\u00a0×\u00a010⁻³⁰"),
        (2e6, "2.0\u00a0×\u00a010⁶"),
        (-0.5, "−0.5"),
    ],
)
def test_numbers_of_the_ledger(value, written):
    assert ledger.number(value) == written


def test_no_verdicts_give_empty_files(tmp_path):
    write_notebook(tmp_path, "index")
    assert ledger.collect(tmp_path, tmp_path) == []
    assert json.loads((tmp_path / "claims.json").read_text()) == []
    assert (tmp_path / "take_home.md").read_text(encoding="utf-8").count("not yet measured") == len(IDS)


def test_command_line(tmp_path):
    write_notebook(tmp_path / "executed", "page", *some_verdicts())
    command = [sys.executable, "-m", "ir_helpers.ledger", str(tmp_path / "executed"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=60)
    assert len(json.loads((tmp_path / "claims.json").read_text(encoding="utf-8"))) == 3


@pytest.mark.parametrize("pages", [("one", "two"), ("one", "one")])
def test_two_verdicts_on_one_claim_are_refused(tmp_path, pages):
    first, second = (
        ledger.verdict("theorem", v, page, {"n": 1}) for v, page in zip(ledger.VERDICTS, pages, strict=False)
    )
    if pages[0] == pages[1]:
        write_notebook(tmp_path, "one", first, second)
    else:
        write_notebook(tmp_path, "one", first), write_notebook(tmp_path, "two", second)
    with pytest.raises(ValueError, match=f"theorem has a verdict in {pages[0]} and in {pages[1]}"):
        ledger.collect(tmp_path, tmp_path)
    assert not (tmp_path / "claims.json").exists()


class Cells(HTMLParser):
    """The text of table cells, and whether all tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.cells += [""] if tag == "td" else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["td"]:
            self.cells[-1] += data


@pytest.mark.parametrize("verdict", ledger.VERDICTS)
def test_what_a_reader_sees(verdict):
    shown = ledger.verdict("ill-conditioned", verdict, "page", {"‖δ‖ < 1 & more": 0.123456, "large": 2e6})
    data, _ = DisplayFormatter().format(shown)
    assert set(data) >= {MIME, "text/html", "text/plain"}
    page = Cells(data["text/html"])
    assert page.open == []
    assert page.cells == ["‖δ‖ < 1 & more", "0.123", "large", "2.0\u00a0×\u00a010⁶"]
    for text in (data["text/html"], data["text/plain"]):
        assert "ill-conditioned" in text
        assert verdict in text
    assert json.loads(json.dumps(data[MIME])) == shown.row


def test_note_hands_plain_numbers_to_the_page(monkeypatch):
    import myst_nb

    kept = {}
    monkeypatch.setattr(
        myst_nb, "glue", lambda name, value, display: kept.__setitem__(name, (value, display))
    )
    ledger.note({"a b": np.float32(0.5), "text": "holds"}, c=torch.tensor([2.0]), d=3, e=np.int64(4))
    assert kept == {
        "a b": (0.5, False),
        "text": ("holds", False),
        "c": (2.0, False),
        "d": (3, False),
        "e": (4, False),
    }
    assert {type(value) for value, _ in kept.values()} <= {float, int, str}


OK = {"claim": "theorem", "verdict": "holds", "page": "p", "figures": {"n": 1.0}}
BAD = {
    "unknown claim": (OK | {"claim": "theorem-2"}, "claim must be one of .*theorem-2"),
    "unknown verdict": (OK | {"verdict": "Holds"}, "verdict must be one of .*Holds"),
    "no figures": (OK | {"figures": {}}, "figures must be"),
    "NaN": (OK | {"figures": {"n": math.nan}}, "figures must be .*nan"),
    "infinite": (OK | {"figures": {"n": 1.0, "m": math.inf}}, "figures must be .*inf"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    arguments, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        ledger.verdict(**arguments)
