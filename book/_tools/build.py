"""Build the book: run the chapters, gather their claims, render the pages. Called by `make book`.

The outputs of the chapters sit in a jupyter-cache. That cache knows the code of a chapter but nothing of `ir_helpers`,
`data` or the installed packages, so this script keeps digests of those and empties the cache when one changes.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"
DOCTREES = BUILD / ".doctrees"
EXECUTED = BUILD / "executed"
HTML = BUILD / "html"
DIGESTS = BUILD / "digests.json"
CELL_TIMEOUT = 600  # seconds
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of tracebacks, unwanted in a log


def digest(*paths: str, extra: str = "") -> str:
    """Hash the names and contents of files and folders under the project's root."""
    state = hashlib.sha256(extra.encode())
    for path in map(ROOT.joinpath, paths):
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(ROOT)
            if file.is_file() and not any(p == "__pycache__" or p.startswith(".ipynb") for p in name.parts):
                state.update(f"{name}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return state.hexdigest()


def current_digests() -> dict[str, str]:
    """Hash what the outputs, the look and the text of the pages depend on."""
    packages = sorted(f"{d.name}=={d.version}" for d in distributions())
    installed = f"{sys.version} {packages}"
    return {
        "computed": digest(
            "ir_helpers", "data", "pyproject.toml", "constraints.txt", "environment.yml", extra=installed
        ),
        "look": digest("_config.yml", "_toc.yml", "book/_static", "book/_ext", "book/_tools", "book/_vendor"),
        "text": digest("book"),
    }


def chapters() -> list[Path]:
    """Return the pages of the table of contents that hold code, largest first (a guess at the slowest)."""
    import yaml

    def names(entry):
        yield from [entry["file"]] if "file" in entry else []
        for child in entry.get("chapters", []) + entry.get("sections", []) + entry.get("parts", []):
            yield from names(child)

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages = [ROOT / f"{name}.md" for name in [toc["root"], *names(toc)]]
    missing = [page.name for page in pages if not page.is_file()]
    if missing:
        sys.exit(f"_toc.yml names pages that do not exist: {', '.join(missing)}")
    with_code = [page for page in pages if "{code-cell}" in page.read_text(encoding="utf-8")]
    return sorted(with_code, key=lambda page: -page.stat().st_size)


def read_chapter(page: Path):
    """Parse a chapter as the Sphinx extension will, so that both find the same entry of the cache."""
    from myst_nb.core.read import read_myst_markdown_notebook
    from myst_parser.config.main import MdParserConfig

    text = page.read_text(encoding="utf-8")
    if not re.match(r"---\njupytext:", text):
        sys.exit(
            f"{page.name} holds code cells, so it must begin with the jupytext header (see write_a_chapter)"
        )
    return read_myst_markdown_notebook(text, MdParserConfig(), add_source_map=False, path=str(page))


def run_chapter(page: Path):
    """Execute one chapter (in a process of its own); return the notebook, the seconds and the traceback or None."""
    from jupyter_cache.executors.utils import single_nb_execution

    notebook = read_chapter(page)
    result = single_nb_execution(
        notebook,
        cwd=str(page.parent),
        timeout=CELL_TIMEOUT,
        allow_errors=False,
        extra_arguments=["--log-level=ERROR"],  # else each kernel warns that it listens on a local port
    )
    return notebook, result.time, result.exc_string if result.err else None


def execute(pages: list[Path], jobs: int) -> None:
    """Fill the cache with the chapters it lacks, `jobs` at a time, and write every executed notebook."""
    import nbformat
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    def is_cached(page):
        try:
            cache.match_cache_notebook(read_chapter(page))
        except KeyError:
            return False
        return True

    cache = get_cache(CACHE)
    todo = [page for page in pages if not is_cached(page)]
    print(
        f"chapters: {len(pages) - len(todo)} from the cache, {len(todo)} to run, {jobs} at a time", flush=True
    )
    failed = []
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        futures = {pool.submit(run_chapter, page): page for page in todo}
        for future in as_completed(futures):
            page = futures[future]
            try:
                notebook, seconds, trace = future.result()
            except RuntimeError as error:  # a kernel that died, for want of memory for instance
                trace = repr(error)
            if trace:
                failed.append(page.name)
                print(
                    f"  FAILED {page.name}\n{trace if sys.stdout.isatty() else COLOUR.sub('', trace)}",
                    flush=True,
                )
                continue
            print(f"  {seconds:6.1f} s  {page.name}", flush=True)
            bundle = CacheBundleIn(notebook, str(page), data={"execution_seconds": seconds})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    if failed:
        sys.exit(f"A cell failed in: {', '.join(sorted(failed))}")

    shutil.rmtree(EXECUTED, ignore_errors=True)
    EXECUTED.mkdir(parents=True)
    for page in pages:
        _, notebook = cache.merge_match_into_notebook(read_chapter(page))
        nbformat.write(notebook, EXECUTED / f"{page.stem}.ipynb")


def render() -> None:
    """Render the pages; a warning is an error, and it must come back on the next run too."""
    command = [
        Path(sys.executable).with_name("jupyter-book"),
        "build",
        ".",
        "-n",
        "-W",
        "--keep-going",
        "--quiet",
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        # Sphinx warns about a page only when it reads it: a kept doctree would let the next run pass.
        shutil.rmtree(DOCTREES, ignore_errors=True)
        sys.exit("The pages were not built cleanly: see the warnings above.")
    for notebook in EXECUTED.glob("*.ipynb"):
        shutil.copyfile(notebook, HTML / "book" / notebook.name)
    subprocess.run([sys.executable, Path(__file__).with_name("policy.py"), HTML], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="chapters to run at a time")
    jobs = max(1, parser.parse_args().jobs)
    start = time.perf_counter()

    # The short budgets are for tests; here their outputs would be cached and shown.
    os.environ.pop("IR_FAST", None)
    os.environ["TQDM_DISABLE"] = "1"  # progress bars belong to live notebooks, not to pages
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else a warning for every kernel
    # Matplotlib's list of fonts in the user's home may name those of another environment, since removed.
    os.environ["MPLCONFIGDIR"] = str(BUILD / ".matplotlib")

    old = json.loads(DIGESTS.read_text()) if DIGESTS.is_file() else {}
    new = current_digests()
    index = HTML / "index.html"
    if old != new or not index.is_file():
        if old.get("computed") != new["computed"]:
            shutil.rmtree(CACHE, ignore_errors=True)
        if any(old.get(key) != new[key] for key in ("computed", "look")):
            shutil.rmtree(DOCTREES, ignore_errors=True)
            shutil.rmtree(HTML, ignore_errors=True)
        # The text counts as built only after success; the rest describes what the cache and the doctrees hold.
        BUILD.mkdir(exist_ok=True)
        DIGESTS.write_text(json.dumps({**new, "text": ""}))
        # Made once, before several chapters make it at the same time.
        subprocess.run(
            [sys.executable, "-c", "import matplotlib.font_manager"], check=True, stderr=subprocess.DEVNULL
        )
        execute(chapters(), jobs)
        subprocess.run([sys.executable, "-m", "ir_helpers.ledger", EXECUTED, BUILD], cwd=ROOT, check=True)
        render()
        DIGESTS.write_text(json.dumps(new))
    print(f"The book is ready after {time.perf_counter() - start:.0f} s. Open _build/html/index.html")


if __name__ == "__main__":
    main()
