"""The built pages in a browser, served by a local server and opened from the disk."""

import pytest
from built import DESKTOP, PHONE

OVERFLOWING = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const wide = [...document.querySelectorAll("article *")].filter(
    e => e.getBoundingClientRect().right > width + 1 && !e.closest(".book-scroll, .math, pre"));
  return [document.documentElement.scrollWidth + " px", ...wide.slice(0, 5).map(e => e.tagName + "." + e.className)];
}"""
NOT_TYPESET = """() => [...document.querySelectorAll("article .math, article .widget-htmlmath-content")]
  .filter(e => /\\\\[(\\[]/.test(e.textContent) || e.querySelector("mjx-merror, [data-mjx-error]"))
  .map(e => e.textContent.slice(0, 80))"""


def test_asks_no_other_host(visit):
    assert visit.foreign == []


def test_finds_every_file(visit):
    assert visit.failed == []


def test_math_is_typeset(visit):
    formulas = visit.page.locator("article .math").count()
    assert visit.page.evaluate(NOT_TYPESET) == []
    assert visit.page.locator("article .math mjx-container").count() >= formulas


def test_explorer_shows_another_picture_when_its_slider_moves(visit):
    if not visit.has_explorer:
        pytest.skip(f"{visit.name} has no explorer")
    explorers = visit.page.locator(".cell_output", has=visit.page.locator(".noUi-handle"))
    for explorer in explorers.all():
        for handle in explorer.locator(".noUi-handle").all():
            before = explorer.locator("img:visible").first.screenshot()
            at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
            handle.press("Home" if at_end else "End")
            assert explorer.locator("img:visible").first.screenshot() != before


def test_nothing_sticks_out_on_a_phone(visit):
    visit.page.set_viewport_size(PHONE)
    assert visit.page.evaluate(OVERFLOWING) == []
    visit.page.set_viewport_size(DESKTOP)


def test_dark_mode_keeps_pictures_on_white(visit):
    visit.page.evaluate("() => { document.documentElement.dataset.theme = 'dark' }")
    colours = visit.page.evaluate(
        "() => [...document.querySelectorAll('article figure img, article .cell_output img')]"
        ".map(e => getComputedStyle(e).backgroundColor)"
    )
    assert set(colours) <= {"rgb(255, 255, 255)"}
    visit.page.evaluate("() => { document.documentElement.dataset.theme = 'light' }")


def test_no_error_was_reported(visit):
    """Last, so that what the tests above set off is seen as well."""
    assert visit.errors == []
    assert visit.violations == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_a_page_offline(scheme, context, addresses):
    page = context.new_page()
    page.goto(addresses[scheme] + "search.html?q=perturbation")
    page.wait_for_selector("#search-results li a")
    page.close()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_start_page_leads_to_the_book(scheme, context, addresses):
    page = context.new_page()
    page.goto(addresses[scheme] + "index.html")
    page.wait_for_url("**/book/index.html")
    page.close()


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_menu_downloads_the_executed_notebook(scheme, context, addresses, tmp_path):
    """By keyboard; from the disk a browser may open the file instead, so there the link's target is compared."""
    page = context.new_page()
    page.goto(addresses[scheme] + "book/worst_case.html", wait_until="load")
    menu = page.locator(".dropdown-download-buttons > button")
    menu.focus()
    menu.press("Enter")
    link = page.locator(".dropdown-download-buttons a[href='worst_case.ipynb']")
    link.wait_for(state="visible")
    assert link.evaluate("link => link.href") == addresses[scheme] + "book/worst_case.ipynb"
    if scheme == "http":
        answer = page.request.get(addresses[scheme] + "book/worst_case.ipynb")
        assert answer.ok and answer.json()["cells"]
    page.close()
