"""Numbers that leave a chapter: into its text, and with its verdicts on claims into ``_build/claims.json``."""

import html
import json
import math
import sys
from pathlib import Path

import numpy as np

from ir_helpers.checks import finite
from ir_helpers.claims import CLAIMS, THEMES, VERDICTS, headline

_MIME = "application/vnd.ir-helpers.claim+json"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Verdict:
    """One row of the ledger, shown as a box on its page and kept in the cell's output for the build to collect."""

    def __init__(self, row):
        self.row = row

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {_MIME: self.row, "text/html": self._html(), "text/plain": self._plain()}

    def _plain(self):
        return f"Claim {self.row['id']}: {self.row['verdict']}. {self.row['claim']}"

    def _html(self):
        cells = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{number(value)}</td></tr>"
            for name, value in self.row["figures"].items()
        )
        kind = VERDICTS.index(self.row["verdict"])
        return (
            f'<div class="verdict verdict-{kind}"><p><strong>Claim <code>{self.row["id"]}</code>: '
            f"{self.row['verdict']}.</strong> {html.escape(self.row['claim'])}</p>"
            f'<table class="verdict-figures"><tbody>{cells}</tbody></table></div>'
        )


def note(values=None, /, **numbers):
    """Keep numbers for the text of the page, where ``{glue:text}`name:.2f``` prints them.

    Scalars of NumPy and one-element tensors become Python's: the text cannot format the others.

    Parameters
    ----------
    values : dict of str to number or str, optional
        By the name the text uses.
    numbers : number or str
        The same, for names that are identifiers.
    """
    from myst_nb import glue  # only pages need it: the package works without the book's tools

    for name, value in ((values or {}) | numbers).items():
        if not isinstance(value, str) and math.prod(np.shape(value)) != 1:
            raise TypeError(
                f"numbers must be single ones, {name} has the shape {np.shape(value)}: {type(value).__name__}"
            )
        glue(name, value if isinstance(value, (int, str)) else float(value), display=False)


def verdict(claim, verdict, page, figures):
    """Return the verdict of a chapter on one claim; make it the last expression of a cell.

    Parameters
    ----------
    claim : str
        A key of ``CLAIMS``.
    verdict : str
        One of ``VERDICTS``: "holds", "holds in part", "does not hold here".
    page : str
        File name of the chapter, without ending.
    figures : dict of str to float
        The measured numbers the verdict rests on, each finite, with names that say what they are.

    Raises
    ------
    ValueError
        If the claim or verdict is unknown, or a figure is missing or not finite.
    """
    if claim not in CLAIMS:
        raise ValueError(f"claim must be one of {sorted(CLAIMS)}, got {claim!r}")
    if verdict not in VERDICTS:
        raise ValueError(f"verdict must be one of {VERDICTS}, got {verdict!r}")
    try:
        numbers = {name: np.asarray(value, dtype=None) for name, value in figures.items()}
    except (AttributeError, RuntimeError, TypeError, ValueError):  # no dict, or values that are no numbers
        numbers = {}
    if not numbers or not all(map(_is_finite, numbers.values())):
        raise ValueError(f"figures must be one or more finite numbers by name, got {figures!r}")
    numbers = {name: value.item() * 1.0 for name, value in numbers.items()}
    row = {"id": claim, "claim": CLAIMS[claim], "verdict": verdict, "page": page, "figures": numbers}
    return Verdict(row)


def _is_finite(value):
    return value.size == 1 and value.dtype.kind in "fiu" and bool(np.isfinite(value).all())


def collect(executed, build):
    """Read the verdicts out of executed notebooks; write ``claims.json`` and the tables of the ledger.

    ``claims.json`` has all numbers. The tables are MyST Markdown, made from it: ``ledger.md``, the short form of the
    first page, and ``take_home.md``, every claim by theme with the numbers behind its verdict.

    Parameters
    ----------
    executed : path
        Folder with executed ``.ipynb`` files.
    build : path
        Folder to write to.

    Returns
    -------
    list of dict
        The rows, in the order of ``CLAIMS``.

    Raises
    ------
    ValueError
        If two cells give a verdict on one claim.
    """
    rows = {}
    for path in sorted(Path(executed).rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                row = output.get("data", {}).get(_MIME)
                if row is not None and row["id"] in rows:
                    raise ValueError(
                        f"the claim {row['id']} has a verdict in {rows[row['id']]['page']} and in {path.stem}"
                    )
                if row is not None:
                    rows[row["id"]] = row
    ordered = [rows[claim] for claim in CLAIMS if claim in rows]
    build = Path(build)
    (build / "claims.json").write_text(
        json.dumps(ordered, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    written = json.loads((build / "claims.json").read_text(encoding="utf-8"))
    (build / "ledger.md").write_text(short_form(written), encoding="utf-8")
    (build / "take_home.md").write_text(full_form(written), encoding="utf-8")
    return ordered


def count(rows):
    """Return one sentence: how many claims were measured, and with which verdicts."""
    verdicts = [row["verdict"] for row in rows]
    parts = ", ".join(f"*{name}* {verdicts.count(name)}" for name in VERDICTS)
    if len(rows) == len(CLAIMS):
        return f"All {len(CLAIMS)} claims are measured: {parts}."
    return f"Of the {len(CLAIMS)} claims {len(rows)} are measured so far: {parts}."


def short_form(rows):
    """Return the ledger as a Markdown table with one line for each measured claim, and the count below it."""
    lines = ["| claim | verdict | measured in |", "|---|---|---|"]
    lines += [f"| {row['claim']} | {_word(row['verdict'])} | {{doc}}`/book/{row['page']}` |" for row in rows]
    return "\n".join(lines) + f"\n\n{count(rows)}\n"


def full_form(rows):
    """Return all claims by theme: verdict, the numbers behind it, and the page; "not yet measured" where none is."""
    by_id = {row["id"]: row for row in rows}
    return f"{count(rows)}\n" + "".join(_theme(title, claims, by_id) for title, claims in THEMES.items())


def _theme(title, claims, by_id):
    head = [
        "",
        f"### {title}",
        "",
        "````{list-table}",
        ":class: ledger",
        ":header-rows: 1",
        ":widths: 40 32 28",
        "",
    ]
    head += ["* - claim and verdict", "  - numbers behind it", "  - measured in"]
    return (
        "\n".join(head + [line for claim in claims for line in _row(claim, by_id.get(claim))] + ["````"])
        + "\n"
    )


def _row(claim, row):
    first = [f"* - {CLAIMS[claim]}", ""]
    if row is None:
        return [*first, f"    {_word(None)}", "  - –", "  - –"]
    numbers = [f"{name}: **{number(value)}**" for name, value in headline(row).items()]
    listed = [f"  - - {numbers[0]}", *(f"    - {text}" for text in numbers[1:])]
    return [*first, f"    {_word(row['verdict'])}", *listed, f"  - {{doc}}`/book/{row['page']}`"]


def _word(verdict):
    """Return the verdict as a word with a mark, whose colour repeats what the word says."""
    kind = len(VERDICTS) if verdict is None else VERDICTS.index(verdict)
    return f'<span class="verdict-word verdict-{kind}">{verdict or "not yet measured"}</span>'


def number(value):
    """Write a number for the ledger with three digits, very small and very large ones as a power of ten.

    >>> [number(v) for v in (0, 0.05301, -2.4, 999.05)], number(5.8e-15).split()
    (['0', '0.053', '−2.4', '999'], ['5.8', '×', '10⁻¹⁵'])
    """
    value = finite("value", value)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(_RAISED)}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


if __name__ == "__main__":
    collect(*sys.argv[1:])
