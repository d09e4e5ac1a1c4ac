"""Print the built book: LaTeX from the executed chapters, then _build/pdf/robust-image-reconstruction.pdf. Called by `make pdf`.

No chapter runs: `make book` ran them. An error, a reference that leads nowhere and a missing sign fail the target; lines
that stick out by more than 20 points are listed.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LATEX = ROOT / "_build" / "latex"
EXECUTED = ROOT / "_build" / "executed"
NAME = "robust-image-reconstruction"
TARGET = ROOT / "_build" / "pdf" / f"{NAME}.pdf"
PROGRAMS = ("xelatex", "latexmk", "makeindex", "rsvg-convert")
STYLES = (
    "tcolorbox.sty",
    "newunicodechar.sty",
    "unicode-math.sty",
    "texgyrepagella-regular.otf",
    "texgyrepagella-math.otf",
)
INSTALL = (
    "apt-get install --no-install-recommends latexmk texlive-xetex texlive-latex-extra texlive-fonts-recommended "
    "fonts-texgyre fonts-texgyre-math fonts-dejavu-core librsvg2-bin"
)
TOO_WIDE = 20.0  # points
PATTERNS = (
    re.compile(r"^! .*"),
    re.compile(r"Missing character: .*"),
    re.compile(r"(?:LaTeX|Package hyperref) Warning: (?:Hyper reference|Reference) .* undefined.*"),
    re.compile(r"LaTeX Warning: Citation .* undefined.*"),
    re.compile(r"LaTeX Warning: Label .* multiply defined.*"),
)


def missing(which=shutil.which, find_style=None):
    """Return the programs and styles that are not installed."""
    programs = [name for name in PROGRAMS if which(name) is None]
    if programs:
        return programs
    return [name for name in STYLES if not (find_style or kpsewhich)(name)]


def kpsewhich(name):
    return subprocess.run(["kpsewhich", name], capture_output=True, check=False).stdout.strip()


def complaint(names):
    """Return the sentence for a machine that lacks something."""
    return f"make pdf needs {', '.join(names)}. On Debian and Ubuntu: {INSTALL}"


def problems(log):
    """Return what must not be in the log, each once; only the errors where there are any, for warnings follow from them."""
    found = dict.fromkeys(m.group() for line in log.splitlines() for p in PATTERNS if (m := p.search(line)))
    return [text for text in found if text.startswith("!")] or list(found)


def wide_lines(log):
    """Return (points, message) of the boxes that stick out too far, widest first."""
    found = re.findall(r"^(Overfull \\hbox \((\d+(?:\.\d+)?)pt too wide\).*)", log, flags=re.MULTILINE)
    return sorted(((float(points), text) for text, points in found if float(points) > TOO_WIDE), reverse=True)


def write_latex():
    shutil.rmtree(LATEX, ignore_errors=True)
    program = Path(sys.executable).with_name("jupyter-book")
    command = [program, "build", ".", "--builder", "latex", "-n", "-W", "--keep-going", "--quiet"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit("The LaTeX was not written cleanly: see the warnings above.")


def join_index_keys(source):
    r"""Write the hyphen of all index entries alike: LaTeX puts a blank behind some ``\sphinxhyphen``, and they stand twice."""
    entry = re.compile(r"\\index\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}")
    return entry.sub(lambda found: found.group().replace(r"\sphinxhyphen{}", "-"), source)


def picture_of(notebook, name):
    """Return the PNG that the cell of a figure of this name shows, from an executed notebook."""
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == name:
            return next(
                base64.b64decode(out["data"]["image/png"])
                for out in cell["outputs"]
                if "image/png" in out["data"]
            )
    raise KeyError(f"{notebook} has no figure {name}")


def finish_latex():
    """Mend the index, and put this build's own picture on the title page."""
    source = LATEX / f"{NAME}.tex"
    source.write_text(join_index_keys(source.read_text(encoding="utf-8")), encoding="utf-8")
    (LATEX / "one_perturbation.png").write_bytes(picture_of(EXECUTED / "index.ipynb", "fig-landing"))


def typeset():
    """Run XeLaTeX as often as references and index need it; return its log."""
    # The same file on any day; messages of the log on one line each.
    fixed = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1", "max_print_line": "10000"}
    command = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-silent", f"{NAME}.tex"]
    done = subprocess.run(
        command, cwd=LATEX, env=os.environ | fixed, check=False, capture_output=True, text=True
    )
    log = LATEX / f"{NAME}.log"
    if not log.is_file():
        sys.exit(done.stdout + done.stderr)
    return done.returncode, log.read_text(encoding="utf-8", errors="replace")


def main():
    lacking = missing()
    if lacking:
        sys.exit(complaint(lacking))
    start = time.perf_counter()
    write_latex()
    finish_latex()
    code, log = typeset()
    wrong = problems(log)
    for points, text in wide_lines(log):
        print(f"  {points:.0f} pt too wide: {text}")
    if code or wrong:
        sys.exit("\n".join(["The PDF was not made cleanly:", *wrong[:40]]))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(LATEX / f"{NAME}.pdf", TARGET)
    size = TARGET.stat().st_size / 2**20
    print(
        f"The PDF is ready after {time.perf_counter() - start:.0f} s: {TARGET.relative_to(ROOT)}, {size:.1f} MiB"
    )


if __name__ == "__main__":
    main()
