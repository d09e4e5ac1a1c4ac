"""A strict Content-Security-Policy: what it forbids is refused, and everything on the pages works under it.

The server of these tests sends it with every file, so the tests of test_pages.py over http:// run under it as well.
"""

import pytest
from built import HTML, OTHERS, ROOT, headers
from conftest import Visit

# What is refused: a directive, and code that tries it.
TRIES = {
    "script-src-elem inline": "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)",
    "script-src-attr inline": "document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()",
    "script-src eval": "try { (0, eval)('window.ran = 1') } catch {}",
    "script-src-elem foreign": "const s = document.createElement('script'); s.src = 'https://example.org/a.js'; document.body.append(s)",
    "img-src foreign": "new Image().src = 'https://example.org/a.png'",
    "connect-src foreign": "fetch('https://example.org/').catch(() => 0)",
    "object-src local": "const o = document.createElement('object'); o.data = '/index.html'; document.body.append(o)",
    "frame-src foreign": "const f = document.createElement('iframe'); f.src = 'https://example.org/'; document.body.append(f)",
    "base-uri local": "const b = document.createElement('base'); b.href = '/book/'; document.head.append(b)",
}


@pytest.fixture(scope="module")
def tab(context):
    return context.new_page()


@pytest.fixture
def visited(tab, addresses):
    """Open a page under the policy; at the end it may not have complained."""
    opened = []

    def visit(name):
        opened.append(Visit(tab, addresses["http"], name))
        return opened[-1]

    yield visit
    (one,) = opened  # they share the tab
    assert one.violations + one.errors + one.failed + one.foreign == []
    one.leave()


def test_the_policy_is_strict():
    line = headers()["Content-Security-Policy"]
    directives = {name: sources for name, *sources in (part.split() for part in line.split("; "))}
    assert directives["default-src"] == ["'self'"]
    allowed = {source for sources in directives.values() for source in sources}
    named = {source for source in allowed if not source.startswith("'sha256-")}
    assert named == {"'self'", "'none'", "'unsafe-inline'", "data:", "blob:"}
    assert [name for name, sources in directives.items() if "'unsafe-inline'" in sources] == ["style-src"]


@pytest.mark.parametrize(("directive", "attempt"), TRIES.items(), ids=TRIES)
def test_the_policy_bites(directive, attempt, context, addresses):
    page = context.new_page()
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => window.seen = e.effectiveDirective, true)"
    )
    page.goto(addresses["http"] + "genindex.html")  # quick to load, and under the same policy
    assert page.evaluate("() => window.seen") is None
    page.add_script_tag(url="/_static/doctools.js")  # one of our own is allowed
    page.evaluate(f"() => {{ setTimeout(() => {{ {attempt} }}) }}")
    page.wait_for_function("() => window.seen")
    assert page.evaluate("() => window.seen") == directive.split()[0]
    assert page.evaluate("() => window.ran") is None
    page.close()


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "index.html"])
def test_pages_beside_the_chapters_work(name, visited):
    assert visited(name).page.locator("h1").count() > 0


def test_the_search_finds(visited):
    page = visited("search.html?q=perturbation").page
    page.wait_for_selector("#search-results li a")
    page.wait_for_load_state("networkidle")  # each result fetches the text around the word
    assert page.locator("#search-results p.context").count() > 10


def test_a_search_can_be_asked(visited):
    page = visited("book/conventions.html").page
    page.locator(".search-button__button:visible, .search-button:visible").first.click()
    field = page.locator("dialog input[type=search], .search-button__search-container input").first
    field.fill("generator")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=generator")
    page.wait_for_selector("#search-results li a")


def test_dark_mode_switches(visited):
    page = visited("book/worst_case.html").page
    themes = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        themes.add(page.evaluate("() => document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}


def test_an_answer_of_a_quiz_opens_and_counts(visited):
    page = visited("book/quiz_problem.html").page
    page.locator(".quiz-right > summary").first.click()
    page.locator(".quiz-right").first.locator("p").last.wait_for(state="visible")
    page.locator(".quiz-score").filter(has_text="1 right at the first choice").wait_for()


def test_a_term_of_the_glossary_explains_itself(visited):
    page = visited("book/worst_case.html").page
    page.locator(".defined-term").first.focus()
    page.locator("#definition-box").wait_for(state="visible")


def test_the_button_to_print_prints(visited):
    page = visited("book/worst_case.html").page
    page.evaluate("() => { window.print = () => { window.printed = true } }")
    page.locator(".dropdown-download-buttons > button").click()
    page.locator(".btn-download-pdf-button").click()
    assert page.evaluate("() => window.printed")


def test_folded_code_and_copied_code(visited):
    page = visited("book/worst_case.html").page
    folded = page.locator("details.hide > summary, .toggle-button").first
    folded.click()
    page.locator("button.copybtn").first.wait_for(state="attached")


def test_our_own_sources_have_no_code_in_attributes():
    sources = [
        *(ROOT / "book").rglob("*.md"),
        *(ROOT / "book/_ext").glob("*.py"),
        *(ROOT / "ir_helpers").glob("*.py"),
    ]
    assert sources and HTML.is_dir()
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for handler in (" onclick=", " onload=", " onerror=", " oninput=", " onchange=", "javascript:"):
            assert handler not in text, (path.name, handler)
