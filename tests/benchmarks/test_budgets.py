"""What a page may weigh, and an import may load; ``test_build_time.py`` bounds what takes time."""

import subprocess
import sys

import pytest
from peers import book_table

PAGE_BYTES = 3_000_000


@pytest.fixture(scope="module")
def built():
    if not (book_table.HTML / "book" / "status.html").is_file():
        pytest.skip("the book is not built: run `make book` first")
    return book_table.HTML


def test_no_page_with_its_pictures_is_over_three_megabytes(built):
    weights = book_table.page_weights(built)
    assert len(weights) > 5
    assert {
        name: with_pictures for name, (_, with_pictures, _) in weights.items() if with_pictures > PAGE_BYTES
    } == {}


def test_a_page_weighs_what_it_loads(tmp_path):
    for folder in ("book", "_images", "_static"):
        (tmp_path / folder).mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(b"x" * 100)
    (tmp_path / "_static" / "all.js").write_bytes(b"x" * 1000)
    page = '<link rel="next" href="other.html"><img src="../_images/a.png"><img src="../_images/a.png">'
    page += '<script src="../_static/all.js?v=1"></script><img src="data:image/png;base64,AA"><a href="../_static/all.js">'
    (tmp_path / "book" / "p.html").write_text(page)
    assert book_table.page_weights(tmp_path) == {"p": (len(page), len(page) + 100, len(page) + 1100)}


def test_run_times_are_read_from_the_table(tmp_path):
    row = '<tr><td><span class="doc">book/{}</span></a></p></td>\n<td><p>2026</p></td>\n<td><p>cache</p></td>\n<td><p>{}</p>'
    (tmp_path / "status.html").write_text(row.format("mnist", "41.5") + row.format("x_or_y", 7))
    assert book_table.table_seconds(tmp_path / "status.html") == {"mnist": 41.5, "x_or_y": 7.0}


@pytest.mark.parametrize(
    ("first", "loaded"), [("gaussian(4, (1, 4, 4))", "False"), ("parallel_beam(8, 3)", "True")]
)
def test_operators_load_astra_only_for_a_scan(first, loaded):
    """With it comes a large part of SciPy, which takes longer to load than all of ``ir_helpers``."""
    code = f"import sys; from ir_helpers import operators; operators.{first}; print('astra' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == loaded
