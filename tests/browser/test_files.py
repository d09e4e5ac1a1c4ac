"""The built files, read without a browser: links, sizes, notebooks and claims."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from built import HTML, PAGES, ROOT

CLAIMS = {
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
}
VERDICTS = {"holds", "holds in part", "does not hold here"}
MAX_PAGE_BYTES = 3_000_000
MAX_EXPLORER_BYTES = 400_000


class Links(HTMLParser):
    """Collect the targets and the anchors of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.targets, self.anchors, self.loaded, self.descriptions = set(), set(), set(), {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors.update(filter(None, [values.get("id"), values.get("name")]))
        if tag == "a" and values.get("href"):
            self.targets.add(values["href"])
        if tag == "img":
            self.descriptions[values["src"]] = values.get("alt") or ""
        for key in ("src", "href"):
            if values.get(key) and (tag in ("img", "script", "source") or (tag, key) == ("link", "href")):
                self.loaded.add(values[key])


def read_links() -> dict[Path, Links]:
    pages = (
        path for path in HTML.rglob("*.html") if "_static" not in path.parts
    )  # there: templates of the theme
    return {path: Links(path.read_text(encoding="utf-8")) for path in pages}


@pytest.fixture(scope="module")
def links(html):
    return read_links()


def test_the_book_has_pages(html):
    assert len(PAGES) > 5


def test_internal_links_lead_somewhere(links):
    broken = []
    for path, page in links.items():
        for target in page.targets | page.loaded:
            url = urlsplit(target)
            if url.scheme or url.netloc:
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not file.is_file():
                broken.append(f"{path.relative_to(HTML)} -> {target}")
            elif (
                url.fragment and file in links and unquote(url.fragment) not in links[file].anchors | {"top"}
            ):
                broken.append(f"{path.relative_to(HTML)} -> {target} (no such anchor)")
    assert broken == []


def test_pages_load_nothing_from_other_hosts(links):
    foreign = {u for page in links.values() for u in page.loaded if urlsplit(u).netloc}
    assert foreign == set()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_small(name):
    assert (HTML / name).stat().st_size < MAX_PAGE_BYTES


def test_every_picture_has_a_description(links):
    """Without a description the address of the picture stands in its place."""
    for path, page in links.items():
        for source, alt in page.descriptions.items():
            if "_static/" not in source:
                assert len(alt) > 15, (path.stem, source)
                assert "_images/" not in alt, (path.stem, source)


def test_executed_notebooks_lie_beside_their_pages():
    sources = [p for p in (ROOT / "book").glob("*.md") if "{code-cell}" in p.read_text(encoding="utf-8")]
    pages = [HTML / "book" / f"{p.stem}.html" for p in sources if f"book/{p.stem}.html" in PAGES]
    assert pages
    for page in pages:
        notebook = json.loads(page.with_suffix(".ipynb").read_text(encoding="utf-8"))
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        assert cells and all(c["execution_count"] for c in cells), f"{page.stem}: cells that did not run"
        assert f'href="{page.stem}.ipynb"' in page.read_text(encoding="utf-8"), (
            f"{page.stem}: no download button"
        )


def test_ten_chapters_have_an_explorer_and_each_is_small():
    """All frames of a page travel with it, as base64."""
    state = "application/vnd.jupyter.widget-state+json"
    sizes = {}
    for path in (ROOT / "_build" / "executed").glob("*.ipynb"):
        widgets = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("widgets", {})
        if state in widgets:
            sizes[path.stem] = len(json.dumps(widgets[state]))
    assert len(sizes) >= 10
    assert {name: size for name, size in sizes.items() if size >= MAX_EXPLORER_BYTES} == {}


def test_every_entry_of_the_references_says_where_it_is_cited():
    text = (HTML / "book" / "references.html").read_text(encoding="utf-8")
    entries = re.findall(r'<div class="citation" id="(\w+)".*?</div>', text, flags=re.DOTALL)
    lines = re.findall(r'<p class="cited-in">(.*?)</p>', text, flags=re.DOTALL)
    assert len(entries) == len(lines) > 30
    for line in lines:
        pages = re.findall(r'href="(\w+)\.html#', line) or re.findall(r'href="\.\./(index|\w+)', line)
        assert pages, line
    cites = {  # the sources say the same
        page.stem: "{cite" in page.read_text(encoding="utf-8") for page in (ROOT / "book").glob("*.md")
    }
    cited_from = set(re.findall(r'href="(\w+)\.html#', " ".join(lines)))
    assert {page for page, cited in cites.items() if cited and f"book/{page}.html" in PAGES} == cited_from


def test_the_references_name_each_work_as_the_text_does():
    entries = (HTML / "book" / "references.html").read_text(encoding="utf-8")
    named = re.findall(r'<span class="label">.*?</span>(.*?)<span class="fn-bracket">', entries)
    named = {re.sub("<.*?>", "", name) for name in named}
    cited = set()
    for page in (HTML / "book").glob("*.html"):
        links = re.findall(r'href="references\.html#id\d+"[^>]*>(.*?)</a>', page.read_text(encoding="utf-8"))
        cited |= {re.sub("<.*?>", "", link).replace("\xa0", " ") for link in links}
    assert len(cited) > 20 and cited <= named, sorted(cited - named)


def test_claims_are_known_and_rest_on_numbers():
    claims = json.loads((ROOT / "_build" / "claims.json").read_text(encoding="utf-8"))
    ids = [claim["id"] for claim in claims]
    assert claims and len(ids) == len(set(ids)) and set(ids) <= CLAIMS
    for claim in claims:
        assert set(claim) == {"id", "claim", "verdict", "page", "figures"}, claim["id"]
        assert claim["verdict"] in VERDICTS, claim["id"]
        assert f"book/{Path(claim['page']).stem}.html" in PAGES, claim["id"]
        assert claim["figures"], f"{claim['id']} rests on no measured number"
        assert all(isinstance(v, (int, float)) for v in claim["figures"].values()), claim["id"]
