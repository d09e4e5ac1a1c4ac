"""Numbers that leave a chapter: into its text, and with its verdicts on claims into ``_build/claims.json``."""

import html
import json
import math
import sys
from pathlib import Path

CLAIMS = {
    "unstable-tiny": "A tiny perturbation in the image domain gives severe artefacts in a deep reconstruction.",
    "unstable-structure": "A small structural change is not recovered.",
    "unstable-samples": "More measurement samples do not improve the recovery.",
    "range-only": "A perturbation of x perturbs y inside Range(A) only, so it misses perturbations of y "
    "unless A has full row rank.",
    "ill-conditioned": "For an ill-conditioned A the ideal inverse is highly vulnerable to small perturbations of y, "
    "and the x-space view misses it.",
    "operator-mismatch": "A mismatch Ã = A + E perturbs y by E x, typically outside Range(A).",
    "per-sample-expensive": "The per-sample inner maximisation is very expensive in training.",
    "common-suboptimal": "One common perturbation is tractable but a worse defence.",
    "generator-specific": "A well-trained G gives sample-specific, near-optimal perturbations from y alone.",
    "mnist-robust": "Compressed sensing on MNIST: the min-max network is more robust than none, weight decay, Parseval.",
    "faces-robust": "The same on faces.",
    "ct-robust": "The same for FBPConvNet on low-dose CT with 143 views.",
    "regularised-vulnerable": "Conventionally trained, and even regularised, networks are vulnerable.",
    "theorem": "The min-max optimal linear reconstruction is a filtered pseudo-inverse, and training converges to it.",
    "trade-off": "Without perturbation the true inverse wins; under a small one it degrades severely, "
    "the filtered one does not.",
    "conditioning": "The behaviour depends on the conditioning of A.",
}
VERDICTS = ("holds", "holds in part", "does not hold here")
_MIME = "application/vnd.ir-helpers.claim+json"


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
            f"<tr><td>{html.escape(name)}</td><td>{value:.3g}</td></tr>"
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
    numbers = {name: float(value) for name, value in figures.items()}
    if not numbers or not all(map(math.isfinite, numbers.values())):
        raise ValueError(f"figures must be one or more finite numbers by name, got {figures!r}")
    row = {"id": claim, "claim": CLAIMS[claim], "verdict": verdict, "page": page, "figures": numbers}
    return Verdict(row)


def collect(executed, build):
    """Read the verdicts out of executed notebooks; write ``claims.json`` and ``ledger.md`` into the folder ``build``.

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
    (build / "ledger.md").write_text(_markdown(ordered), encoding="utf-8")
    return ordered


def _markdown(rows):
    lines = ["| claim | verdict | measured in |", "|---|---|---|"]
    lines += [f"| {row['claim']} | **{row['verdict']}** | {{doc}}`/book/{row['page']}` |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    collect(*sys.argv[1:])
