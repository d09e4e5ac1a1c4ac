"""Write the executed chapters for Colab: python colab.py EXECUTED TARGET. Called by `make colab`.

Colab starts with an empty disk, so a first cell fetches the repository and installs its package. The address is that of
_config.yml; the files belong on the branch that book/_ext/launch_buttons.py names.
"""

import sys
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
FIRST_CELL = """\
# On Colab only: fetch the book, its data and its package. Takes a minute or two.
import os, sys

if "COLAB_RELEASE_TAG" in os.environ and not os.path.isdir("/content/book"):
    !git clone --quiet --depth 1 --branch {branch} {url} /content/book
    %pip install --quiet --editable "/content/book[book]"
    sys.path.insert(0, "/content/book")"""


def repository(config):
    """Return the address and the branch that _config.yml names, or None."""
    named = config.get("repository") or {}
    return (named["url"], named.get("branch", "main")) if named.get("url") else None


def with_first_cell(notebook, url, branch):
    """Put the cell in front, below the title, so that the page still begins with its name."""
    cell = nbformat.v4.new_code_cell(FIRST_CELL.format(url=url, branch=branch), metadata={"tags": ["colab"]})
    cell["id"] = "fetch-the-book"
    place = 1 if notebook.cells and notebook.cells[0].cell_type == "markdown" else 0
    notebook.cells.insert(place, cell)
    return notebook


def main(executed, target):
    found = repository(yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")))
    if found is None:
        sys.exit("make colab needs the address of the public repository: set repository: url in _config.yml")
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(executed.glob("*.ipynb")):
        notebook = with_first_cell(nbformat.read(path, as_version=4), *found)
        nbformat.write(notebook, target / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
