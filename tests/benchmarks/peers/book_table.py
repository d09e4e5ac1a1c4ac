"""The table ``benchmarks-book.csv``: what the book costs to build, to test, to load and to import.

Run in the book's own environment after `make book`: it reads ``_build``. Builds are measured in a copy of the tracked files, so
that ``_build`` stays as it is.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[3]
HTML = ROOT / "_build" / "html"
FAST = {
    "IR_FAST": "1",
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
}  # as in the Makefile
IMPORT = [sys.executable, "-c", "import ir_helpers.operators"]
PAINT = """() => new Promise(done => {
  setTimeout(() => done(NaN), 20000);
  new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (entry.name === 'first-contentful-paint') done(entry.startTime);
  }).observe({type: 'paint', buffered: true});
})"""


class Loaded(HTMLParser):
    """Collect what a page loads: scripts, styles and pictures, each once."""

    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("img", "script", "source") and values.get("src"):
            self.found.add(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon") and values.get("href"):
            self.found.add(values["href"])


def page_weights(html=HTML):
    """Return {page: (bytes of the page, with its pictures, with the scripts and styles that all pages share)} of ``book/``."""
    weights = {}
    for path in sorted(html.glob("book/*.html")):
        own = path.stat().st_size
        names = {unquote(urlsplit(each).path) for each in Loaded(path.read_text(encoding="utf-8")).found}
        files = {(path.parent / name).resolve() for name in names if name and not name.startswith("data:")}
        sizes = {file: file.stat().st_size for file in files if file.is_file()}
        pictures = sum(size for file, size in sizes.items() if file.parent.name == "_images")
        weights[path.stem] = own, own + pictures, own + sum(sizes.values())
    return weights


def import_seconds(times=5):
    """Return the seconds that a new process needs to import the operators: the best of ``times``."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        subprocess.run(IMPORT, check=True, cwd=ROOT)
        found.append(time.perf_counter() - begin)
    return min(found)


def table_seconds(page=HTML / "book" / "status.html"):
    """Return {chapter: seconds} from the table of run times in the built book."""
    text = page.read_text(encoding="utf-8")
    rows = re.findall(
        r'class="doc">book/(\w+)</span>.*?<p>(?:cache|auto|force)</p></td>\s*<td><p>([\d.]+)</p>',
        text,
        re.DOTALL,
    )
    return {name: float(seconds) for name, seconds in rows}


def paint_milliseconds(times=5):
    """Return {page: median time to first contentful paint} in Chromium from a local server, each time with an empty cache."""
    sys.path.insert(0, str(ROOT / "tests" / "browser"))
    import conftest
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, conftest.NAMES)), None)
    if path is None:
        return {}
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(HTML)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        base = server.stdout.readline().split("(")[1].split(")")[0]
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=path, args=conftest.FLAGS)
            return {
                page.stem: statistics.median(
                    _paint(chromium, f"{base}book/{page.name}") for _ in range(times)
                )
                for page in sorted(HTML.glob("book/*.html"))
            }
    finally:
        server.terminate()


def _paint(chromium, address):
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.goto(address, wait_until="load")
        return page.evaluate(PAINT)
    finally:
        context.close()


def build_seconds():
    """Return the seconds of a cold build, of one after a page of text changed, of a warm one, and of the chapters as notebooks."""
    build = ("book/_tools/build.py", "--jobs", str(os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy_tracked(folder)
        found = {"build, cold": _seconds(folder, *build)}
        page = folder / "book" / "status.md"
        page.write_text(page.read_text(encoding="utf-8") + "\nOne more line.\n", encoding="utf-8")
        found["build, one text changed"] = _seconds(folder, *build)
        found["build, nothing changed"] = _seconds(folder, *build)
        notebooks = _notebooks(folder)
        found["chapters as notebooks"] = _seconds(
            folder,
            "-m",
            "pytest",
            "--nbval-lax",
            "-q",
            "-n",
            build[-1],
            "--dist",
            "loadfile",
            notebooks,
            **FAST,
        )
    return found


def _copy_tracked(folder):
    """Copy what git tracks, and the scripts from npm."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "_build" / "assets", folder / "_build" / "assets")


def _notebooks(folder):
    """Write the chapters with code as notebooks, as `make notebooks` does, and return their folder."""
    pages = folder.glob("book/*.md")
    sources = [str(page) for page in pages if "format_name: myst" in page.read_text(encoding="utf-8")]
    notebooks = folder / "_build" / "notebooks"
    notebooks.mkdir()
    _seconds(folder, "-m", "jupytext", "--quiet", "--to", "../_build/notebooks//ipynb", *sources)
    return str(notebooks)


def _seconds(folder, *command, **variables):
    begin = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(folder)} | variables
    command = [sys.executable, *command]
    subprocess.run(command, cwd=folder, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def measure(build=True):
    """Return the rows: what, value, unit, and on which page where it is the largest of all."""
    rows = [{"what": "import ir_helpers.operators", "value": import_seconds(), "unit": "s"}]
    weights = page_weights()
    for what, part in (
        ("page, largest", 0),
        ("page with its pictures, largest", 1),
        ("page with all, largest", 2),
    ):
        page = max(weights, key=lambda name: weights[name][part])
        rows.append({"what": what, "value": weights[page][part] / 1e6, "unit": "MB", "page": page})
    paints = paint_milliseconds()
    if paints:
        page = max(paints, key=paints.get)
        rows.append(
            {"what": "first paint, median page", "value": statistics.median(paints.values()), "unit": "ms"}
        )
        rows.append({"what": "first paint, slowest page", "value": paints[page], "unit": "ms", "page": page})
    for what, seconds in (build_seconds() if build else {}).items():
        rows.append({"what": what, "value": seconds, "unit": "s"})
    return [row | {"device": "CPU", "cores": os.cpu_count(), "pages": len(weights)} for row in rows]


def main():
    from peers.tables import merge

    parser = argparse.ArgumentParser(prog="python -m peers.book_table", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "results")
    parser.add_argument("--no-build", action="store_true", help="leave the builds out, which take minutes")
    arguments = parser.parse_args()
    if not (HTML / "index.html").is_file():
        parser.error("the book is not built: run `make book` first")
    table = merge(arguments.out / "benchmarks-book.csv", measure(not arguments.no_build), ["what"])
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
