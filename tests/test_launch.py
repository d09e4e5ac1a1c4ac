"""Buttons for Binder and Colab: one address in _config.yml makes all of them, and none without it."""

import re
import sys
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from test_chapters import ROOT

sys.path[:0] = [str(ROOT / "book" / "_tools"), str(ROOT / "book" / "_ext")]
import colab
import launch_buttons


def buttons(options, page="book/mnist", metadata=None):
    app = SimpleNamespace(
        config=SimpleNamespace(html_theme_options=options),
        env=SimpleNamespace(metadata={page: {"kernelspec": {}} if metadata is None else metadata}),
    )
    context = {"header_buttons": []}
    launch_buttons.add_launch_buttons(app, page, "page.html", context, None)
    return context["header_buttons"]


def test_without_an_address_there_is_no_button():
    assert buttons({}) == []


def test_a_page_without_code_has_no_button():
    assert buttons({"repository_url": "https://github.com/a/b"}, metadata={}) == []


def test_buttons_lead_to_the_notebook_of_the_page():
    (menu,) = buttons({"repository_url": "https://github.com/a/b.git", "repository_branch": "main"})
    assert {button["text"]: button["url"] for button in menu["buttons"]} == {
        "Binder": "https://mybinder.org/v2/gh/a/b/main?urlpath=lab%2Ftree%2F_build%2Fnotebooks%2Fmnist.ipynb",
        "Colab": "https://colab.research.google.com/github/a/b/blob/colab/mnist.ipynb",
    }


def test_another_host_has_binder_only():
    (menu,) = buttons({"repository_url": "https://git.example.org/a/b"})
    (binder,) = menu["buttons"]
    assert binder["url"].startswith("https://mybinder.org/v2/git/https%3A%2F%2Fgit.example.org%2Fa%2Fb/main?")


def test_binder_makes_the_notebooks_where_the_button_looks():
    script = (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8")
    assert "../_build/notebooks//ipynb" in script and (ROOT / ".binder" / "postBuild").stat().st_mode & 0o100


def test_binder_installs_the_package_at_the_pinned_versions():
    lines = (ROOT / ".binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "--constraint ../constraints.txt" in lines and "--editable .[book]" in lines
    python = (ROOT / ".binder" / "runtime.txt").read_text(encoding="utf-8").strip().removeprefix("python-")
    assert python in re.findall(r"3\.\d+", (ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8"))


def test_colab_notebook_fetches_the_book_below_its_title():
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("import ir_helpers")]
    notebook = colab.with_first_cell(nbformat.v4.new_notebook(cells=cells), "https://github.com/a/b", "main")
    nbformat.validate(notebook)
    title, fetch, code = notebook.cells
    assert title.source == "# Title" and code.source == "import ir_helpers"
    assert "--branch main https://github.com/a/b /content/book" in fetch.source
    plain = re.sub(r"^(\s*)[!%].*$", r"\1pass", fetch.source, flags=re.MULTILINE)
    compile(plain, "cell", "exec")


@pytest.mark.parametrize("config", [{}, {"repository": None}, {"repository": {"branch": "main"}}])
def test_no_address_no_repository(config):
    assert colab.repository(config) is None


def test_the_example_in_the_config_is_what_the_tools_read():
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    example = re.search(r"^(# )?repository:\n(?:(?:# )?  \w+: .*\n)+", text, flags=re.MULTILINE).group()
    read = yaml.safe_load(re.sub(r"^# ", "", example, flags=re.MULTILINE))
    url, branch = colab.repository(read)
    assert url.startswith("https://") and branch
