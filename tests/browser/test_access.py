"""Can everyone read and work the pages? axe-core looks at each, in light and in dark mode."""

from itertools import pairwise

import pytest
from built import ROOT

AXE = ROOT / "_build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
# What the theme gets wrong and cannot be mended from outside: rule -> reason. A fault that is listed here is not looked at.
FAULTS_OF_THE_THEME = {}

RUN_AXE = """async (ignored) => {
  const rules = Object.fromEntries(ignored.map(rule => [rule, { enabled: false }]));
  const found = await axe.run(document, { rules, resultTypes: ["violations"], selectors: false });
  return found.violations.filter(v => ["serious", "critical"].includes(v.impact)).map(v =>
    `${v.impact} ${v.id}: ${v.help}, ${v.nodes.length} times, first: ${v.nodes[0].html.slice(0, 200)}`);
}"""
SET_THEME = "(theme) => { document.documentElement.dataset.theme = theme }"
LEVELS = """() => [...document.querySelectorAll("article h1, article h2, article h3, article h4, article h5, \
article h6, article [role=heading]")].map(e => Number(e.ariaLevel ?? e.tagName[1]))"""
MOVING = """() => [...document.querySelectorAll("*")].filter(e => {
  const style = getComputedStyle(e);
  return style.animationName !== "none" || /[1-9]/.test(style.transitionDuration) || style.scrollBehavior === "smooth";
}).slice(0, 5).map(e => e.outerHTML.slice(0, 100))"""


@pytest.fixture
def opened(visit):
    """A page as a reader finds it who asked for less motion, with all that was folded away unfolded for the time of a test."""
    folded = visit.page.locator("details:not([open])").element_handles()
    visit.page.evaluate("(all) => all.forEach(e => { e.open = true })", folded)
    yield visit.page
    visit.page.evaluate("(all) => all.forEach(e => { e.open = false })", folded)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(opened, theme):
    assert AXE.is_file(), "axe-core is missing: `make book` fetches it"
    opened.evaluate(AXE.read_text(encoding="utf-8"))  # not as a script in the page, which the policy forbids
    opened.evaluate(SET_THEME, theme)
    found = opened.evaluate(RUN_AXE, list(FAULTS_OF_THE_THEME))
    opened.evaluate(SET_THEME, "light")
    assert found == []


def test_headings_skip_no_level(opened):
    levels = opened.evaluate(LEVELS)
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_nothing_moves_for_those_who_asked_for_it(opened):
    assert opened.evaluate(MOVING) == []


def test_pictures_of_an_explorer_say_what_they_were_computed_for(opened):
    pictures = opened.locator("img.widget-image:visible, .widget-image img:visible")
    if pictures.count() == 0:
        pytest.skip("no explorer on this page")
    picture, handle = pictures.first, opened.locator(".noUi-handle").first
    before = picture.get_attribute("alt")
    assert handle.get_attribute("aria-label") in before
    handle.press("Home" if handle.get_attribute("aria-valuenow") != "0.0" else "End")
    opened.wait_for_function(
        "(before) => [...document.querySelectorAll('.widget-image')].some(e => e.checkVisibility() && e.alt && e.alt !== before)",
        arg=before,
    )
