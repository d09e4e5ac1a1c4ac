"""Laws of the pages that help to find and to teach: glossary, index, plans and the conclusions."""

import importlib
import itertools
import json
import re

import pytest
from test_chapters import BOOK, ROOT, each_numbered, numbered_chapters

from ir_helpers import claims


def read(page):
    return (BOOK / f"{page}.md").read_text(encoding="utf-8")


def label(source):
    return source.stem.replace("_", "-")


def glossary_entries():
    """Return for each term its definition and the links below it."""
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```$", read("glossary"), re.DOTALL | re.MULTILINE)
    entries = {}
    for block in blocks:
        for term, body in re.findall(r"^(\S[^\n]*)\n((?:  [^\n]*\n|\n)+)", block, re.MULTILINE):
            definition, _, links = body.strip().partition("\n\n")
            entries[term] = (definition, links.strip())
    return entries


ENTRIES = glossary_entries()


def box(source):
    """Return what a reader of the chapter needs."""
    found = re.search(
        r"^:::\{admonition\} What you will do.*?^:::$", source.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return found.group() if found else ""


def minutes(source):
    """Return the reading time that the chapter itself states."""
    return int(re.search(r"(?:Reading time:|About) (\d+) minutes", box(source)).group(1))


def table_rows(text):
    """Return the cells of all Markdown tables."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@each_numbered
def test_the_box_of_a_chapter_leads_to_symbols_and_words(source):
    assert "{ref}`conventions`" in box(source)
    assert "{ref}`glossary`" in box(source)


@each_numbered
def test_a_chapter_uses_words_of_the_glossary(source):
    used = {
        re.sub(r".*<(.*)>", r"\1", role, flags=re.DOTALL).lower()
        for role in re.findall(r"\{term\}`([^`]+)`", source.read_text(encoding="utf-8"))
    }
    assert len(used) >= 3
    assert used <= {term.lower() for term in ENTRIES}


@pytest.mark.parametrize("term", ENTRIES)
def test_a_definition_is_short_and_names_a_page(term):
    definition, links = ENTRIES[term]
    assert 30 < len(definition) < 420
    assert definition.endswith(".")
    # The box beside a word shows text and formulas only: links belong below.
    assert not re.search(r"\{[a-z:]+\}`|\]\(", definition)
    assert re.fullmatch(r"(?:\{ref\}`[\w-]+`(?:,\s+)?)+", links), "name the pages that use it"


def test_terms_are_unique():
    found = re.findall(r"^(\S[^\n]*)\n  \S", read("glossary"), re.MULTILINE)
    assert len(found) == len({term.lower() for term in found}) == len(ENTRIES)


def test_times_are_those_of_the_chapters():
    times = {label(source): minutes(source) for source in numbered_chapters()}
    rows = table_rows(read("teach"))
    stated = {
        found.group(1): int(row[1])
        for row in rows
        if (found := re.fullmatch(r"\{ref\}`([\w-]+)`", row[0])) and row[1].isdigit()
    }
    assert stated == times, "the table of chapters in teach.md"
    weeks = [row for row in rows if row[0].isdigit()]
    assert [row[0] for row in weeks] == [str(n + 1) for n in range(6)]
    for _, chapters, total, *_ in weeks:
        assert int(total) == sum(times[name] for name in re.findall(r"`([\w-]+)`", chapters))


def test_every_lecture_fills_its_ninety_minutes():
    spans = [re.fullmatch(r"(\d+)–(\d+)", row[0]) for row in table_rows(read("teach"))]
    spans = [tuple(map(int, span.groups())) for span in spans if span]
    lectures = [k for k, (start, _) in enumerate(spans) if start == 0]
    assert len(lectures) == 1 + 3
    for first, following in zip(lectures, [*lectures[1:], len(spans)], strict=True):
        plan = spans[first:following]
        assert all(a[1] == b[0] for a, b in itertools.pairwise(plan))
        assert plan[-1][1] == 90


def test_questions_are_open():
    text = read("teach").split("## Questions for discussion")[1].split("\n## ")[0]
    questions = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\Z)", text, re.DOTALL | re.MULTILINE)
    assert len(questions) >= 10
    closed = r"^(Is|Are|Do|Does|Did|Can|Could|Has|Have|Should|Will|Would|Was|Were)\b"
    assert [q for q in questions if re.match(closed, q)] == []


def test_projects_have_a_start_and_a_goal():
    text = read("teach").split("## Projects")[1]
    projects = re.findall(r"^- \*\*(.+?)\*\* (.*?)(?=^- |^#|^Good)", text, re.DOTALL | re.MULTILINE)
    assert 10 <= len(projects) <= 12
    for title, body in projects:
        body = " ".join(body.split())
        assert "*Begin with*" in body and "*Reached if*" in body, title
        start = body.split("*Begin with*")[1].split("*Reached if*")[0]
        for module, name in re.findall(r"`(\w+)\.(\w+)`", start):
            if name != "py":  # `operators.py` is a file
                assert hasattr(importlib.import_module(f"ir_helpers.{module}"), name), f"{module}.{name}"


# A comment before a paragraph of the conclusions: `% rests on CLAIM: VERDICT, VERDICT`.
RESTS_ON = re.findall(r"^% rests on ([\w-]+): (.+)$", read("take_home"), re.MULTILINE)


def test_conclusions_name_known_claims_and_verdicts():
    assert len(RESTS_ON) >= 8
    for claim, verdicts in RESTS_ON:
        assert claim in claims.CLAIMS
        assert set(verdicts.split(", ")) <= set(claims.VERDICTS)


@pytest.mark.parametrize(("claim", "verdicts"), RESTS_ON)
def test_conclusions_agree_with_the_built_ledger(claim, verdicts):
    rows = built_rows()
    assert claim in rows, "a conclusion may not rest on what nobody has measured"
    assert rows[claim]["verdict"] in verdicts.split(", ")


def test_headlines_are_numbers_of_the_pages():
    rows = built_rows()
    for claim, names in claims.HEADLINES.items():
        if claim in rows:
            assert set(names) <= set(rows[claim]["figures"]), f"{claim}: the page renamed a number"


def built_rows():
    path = ROOT / "_build" / "claims.json"
    if not path.is_file():
        pytest.skip("the book is not built")
    return {row["id"]: row for row in json.loads(path.read_text(encoding="utf-8"))}


@each_numbered
def test_built_page_carries_the_definitions_of_its_words(source):
    page = ROOT / "_build" / "html" / "book" / f"{source.stem}.html"
    if not page.is_file():
        pytest.skip("the book is not built")
    text, _, definitions = page.read_text(encoding="utf-8").partition('<template id="definitions">')
    used = set(re.findall(r'href="glossary\.html#(term-[^"]+)"', text))
    carried = set(re.findall(r'<div data-term="(term-[^"]+)"><p>', definitions.partition("</template>")[0]))
    assert used and used == carried


def test_built_index_leads_from_a_word_to_its_chapters():
    page = ROOT / "_build" / "html" / "genindex.html"
    if not page.is_file():
        pytest.skip("the book is not built")
    links = re.findall(
        r'href="(book/[^"#]+)\.html#(?:use-|term-)trust-region-problem"', page.read_text(encoding="utf-8")
    )
    assert {"book/glossary", "book/worst_case", "book/per_sample_filter"} <= set(links)
