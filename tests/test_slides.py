"""What of a page becomes a slide."""

import sys

from bs4 import BeautifulSoup
from test_chapters import ROOT, numbered_chapters

sys.path.insert(0, str(ROOT / "book" / "_tools"))
import slides

PAGE = """<article class="bd-article"><section id="a"><h1>1. A <em>title</em><a class="headerlink" href="#a">#</a></h1>
<p>Why?</p><p>Second paragraph.</p>
<div class="admonition-what-you-will-do-and-what-you-need admonition"><ul><li>A goal.</li></ul><p>Time.</p></div>
<section id="b"><h2>Sums<a class="headerlink" href="#b">#</a></h2><p>First. <a href="x.html#y">Elsewhere</a></p><p>More.</p>
<div class="cell tag_hide-input"><div class="cell_output"><figure id="f"><img alt="A line rises." src="../_images/f.svg"/>
<figcaption><p>Caption.</p></figcaption></figure></div></div>
<div class="cell tag_no-slide"><div class="cell_output"><figure><img alt="Too much." src="../_images/g.svg"/></figure></div></div>
<div class="cell tag_slide"><div class="cell_input"><pre>1 + 1</pre></div><div class="cell_output"><pre>2</pre></div></div>
<div class="cell"><div class="cell_input"><pre>not shown</pre></div></div>
<section id="c"><h3>Deeper</h3><div class="math" id="equation-1"><span class="eqno">(1)</span>\\[a\\]</div>
<div class="math">\\[b\\]</div><div class="math" id="equation-2">\\[c\\]</div><div class="math" id="equation-3">\\[d\\]</div>
<div class="proof theorem admonition"><p class="admonition-title">Theorem 1</p><section id="proof-content"><p>So it is.</p>
<div class="math" id="equation-4">\\[e\\]</div></section></div>
<div class="proof admonition"><p>Proof. Because.</p></div></section></section>
<section id="d"><h2>What we saw</h2><ul><li>A finding.</li></ul><p>By the way.</p></section>
<section id="e"><h2>Exercises</h2><figure><img alt="Solution." src="../_images/h.svg"/></figure></section>
</section></article>"""


def made():
    title, markup = slides.deck(PAGE)
    soup = BeautifulSoup(markup, "html.parser")
    return title, [one for one in soup.select("section") if one.get("class")], soup


def test_slides_come_in_the_order_of_the_page():
    title, found, _ = made()
    kinds = [one["class"][0] for one in found]
    assert title == "1. A title"
    assert kinds == [
        "title",
        "goals",
        "heading",
        "figure",
        "code",
        "equations",
        "equations",
        "theorem",
        "saw",
    ]


def test_sections_are_stacks_of_slides_and_nothing_else_is_a_section():
    _, found, soup = made()
    assert all(len(list(one.parents)) in (1, 2) for one in found)
    assert len(soup.select("section")) == len(found) + 2


def test_numbered_equations_stand_with_their_heading_except_those_of_a_theorem():
    _, found, _ = made()
    shown = [one.get_text() for one in found if one["class"] == ["equations"]]
    assert ["\\[" + letter + "\\]" in "".join(shown) for letter in "abcde"] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert all("Deeper" in text for text in shown)


def test_tags_choose_cells():
    _, found, soup = made()
    assert "1 + 1" in found[4].get_text() and "2" in found[4].get_text()
    assert "not shown" not in soup.get_text()
    assert [image["alt"] for image in soup.select("img")] == ["A line rises."]


def test_slides_lead_nowhere_and_load_only_what_lies_beside_them():
    _, _, soup = made()
    assert soup.select("a, script, [id]") == []
    assert [image["src"] for image in soup.select("img")] == ["_images/f.svg"]
    assert "Elsewhere" in soup.get_text() and "#" not in soup.get_text()


def test_every_numbered_chapter_has_a_deck():
    assert slides.chapters() == [chapter.stem for chapter in numbered_chapters()]
