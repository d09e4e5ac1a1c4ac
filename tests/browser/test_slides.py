"""The slides in a browser, from the disk: nothing is cut, small or fetched from elsewhere."""

from pathlib import Path

import pytest
from built import ROOT

SLIDES = ROOT / "_build" / "slides"
DECKS = sorted(path.name for path in SLIDES.glob("*.html") if path.name != "index.html")
SCREEN = {"width": 1280, "height": 720}
SMALLEST_LETTER = 14  # pixels on a screen of 1280, for text; letters in pictures are as the page has them

# Each slide is laid out alone; what sticks out of it, or is set too small, is reported.
FAULTS = """([width, height, smallest]) => {
  const faults = [];
  const leaves = Reveal.getSlides().filter(e => !e.classList.contains("stack"));
  for (const [place, slide] of leaves.entries()) {
    const display = slide.style.display;
    slide.style.display = "block";
    const name = `slide ${place + 1} (${slide.className}): `;
    if (slide.scrollHeight > height + 2 || slide.scrollWidth > width + 2) {
      faults.push(`${name}${slide.scrollWidth} x ${slide.scrollHeight}`);
    }
    for (const e of slide.querySelectorAll("p, li, figcaption, pre")) {
      const size = parseFloat(getComputedStyle(e).fontSize);
      if (size < smallest) faults.push(`${name}letters of ${size} px: ${e.textContent.slice(0, 40)}`);
    }
    for (const image of slide.querySelectorAll("img")) {
      if (!image.complete || image.naturalWidth === 0) faults.push(`${name}no picture`);
      if (image.clientHeight < 250) faults.push(`${name}a picture ${image.clientHeight} px high`);
      if ((image.alt ?? "").length < 16) faults.push(`${name}a picture without a description`);
    }
    slide.style.display = display;
  }
  return faults;
}"""


def test_there_are_slides():
    assert DECKS, "the slides are not made: run `make slides` first"


@pytest.fixture(scope="module", params=DECKS, ids=lambda name: Path(name).stem)
def deck(request, browser):
    page = browser.new_page(viewport=SCREEN, reduced_motion="reduce")
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("requestfailed", lambda r: page.complaints.append(r.url))
    page.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else page.complaints.append(r.url)
    )
    page.goto((SLIDES / request.param).as_uri())
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()


def test_nothing_is_cut_or_too_small(deck):
    assert deck.evaluate(FAULTS, [SCREEN["width"], SCREEN["height"], SMALLEST_LETTER]) == []


def test_formulas_are_set(deck):
    assert deck.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert deck.locator(".slides .math").count() <= deck.locator(".slides mjx-container").count()


def test_the_space_bar_leads_to_the_last_slide_and_nothing_complains(deck):
    total = deck.evaluate("() => Reveal.getTotalSlides()")
    assert total > 8
    for _ in range(total - 1):
        deck.keyboard.press("Space")
    assert deck.evaluate("() => Reveal.isLastSlide()")
    assert deck.complaints == []
