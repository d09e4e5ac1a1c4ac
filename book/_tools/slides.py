"""Make slides of the chapters from the built pages: python slides.py HTML NODE_MODULES TARGET [CHAPTER ...].

What becomes a slide, in the order of the page:

- the title with the question, and the goals;
- each heading, with the numbered equations of its section, or else its first paragraph;
- each figure with its caption, each theorem, and the list of "What we saw";
- the code and the output of each cell with the tag `slide`. What a cell with the tag `no-slide` shows is left out.

Exercises, reading lists and explorers stay on the page. The pages hold the outputs of the build, so nothing runs here, and
TARGET holds all that the slides load. Called by `make slides`.
"""

import html
import shutil
import sys
from pathlib import Path

from bs4 import BeautifulSoup

LEFT_OUT = {"Exercises", "Further reading", "Explore"}
STATEMENTS = {
    "theorem",
    "lemma",
    "proposition",
    "corollary",
    "assumption",
    "definition",
}  # proofs stay on the page
EQUATIONS_ON_A_SLIDE = 2
HERE = Path(__file__).parent
VENDOR = {
    "reveal.js/dist/reveal.css": "reveal.css",
    "reveal.js/dist/reveal.js": "reveal.js",
    "reveal.js/LICENSE": "LICENSE",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="icon" href="favicon.svg">
<link rel="stylesheet" href="vendor/reveal.css">
<link rel="stylesheet" href="slides.css">
<script defer src="vendor/mathjax/tex-mml-chtml.js"></script>
<script defer src="vendor/reveal.js"></script>
<script defer src="slides.js"></script>
</head>
<body>
<main class="reveal"><div class="slides">
{slides}
</div></main>
</body>
</html>
"""
INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slides</title>
<link rel="icon" href="favicon.svg">
<link rel="stylesheet" href="slides.css">
</head>
<body class="contents">
<h1>Slides</h1>
<p>Arrow keys or the space bar turn the slides, Escape shows all of them, <code>?print-pdf</code> behind the address prints them.</p>
<ul>
{decks}
</ul>
</body>
</html>
"""


def text_of(heading) -> str:
    """Return the words of a heading without the sign that links to it."""
    return heading.get_text().removesuffix("#").strip()


def cleaned(element) -> str:
    """Return an element as HTML without what leads elsewhere: links, identifiers, buttons."""
    copy = BeautifulSoup(str(element), "html.parser")
    for unwanted in copy.select("a.headerlink, button, script, style, .cell_input.hidden"):
        unwanted.decompose()
    for link in copy.select("a"):
        link.unwrap()
    for part in copy.select("[id]"):
        del part["id"]
    for part in copy.select("section"):  # to reveal.js a section is a slide
        part.name = "div"
    for image in copy.select("img"):
        image["src"] = "_images/" + image["src"].rsplit("/", 1)[-1]
        for name in ("width", "height", "style"):
            del image[name]
    return str(copy)


def slide(content: str, kind: str) -> str:
    return f'<section class="{kind}">\n{content}\n</section>'


def tagged(element, tag: str) -> bool:
    return element.find_parent(class_=f"tag_{tag}") is not None or f"tag_{tag}" in element.get("class", [])


def own(section, selector: str) -> list:
    """Return what a selector finds in a section, outside of its subsections."""
    own_level = [e for e in section.select(selector) if enclosing(e) is section]
    return [element for element in own_level if not tagged(element, "no-slide")]


def enclosing(element):
    """Return the section of the text around an element (a theorem has a section inside that is none)."""
    return element.find_parent(
        lambda e: e.name == "section" and e.find(["h1", "h2", "h3", "h4"], recursive=False)
    )


def heading_slides(section, heading) -> list[str]:
    """Return the slide of a heading with the numbered equations of its section, on more slides if there are many."""
    equations = [e for e in own(section, "div.math[id]") if not e.find_parent(class_=["proof", "admonition"])]
    title = f"<h2>{title_of(heading)}</h2>"
    if not equations:
        paragraph = section.find("p", recursive=False)
        more = cleaned(paragraph) if paragraph else ""
        return [slide(title + more, "heading")]
    groups = [equations[i : i + EQUATIONS_ON_A_SLIDE] for i in range(0, len(equations), EQUATIONS_ON_A_SLIDE)]
    return [slide(title + "".join(map(cleaned, group)), "equations") for group in groups]


def title_of(heading) -> str:
    """Return what stands in a heading, formulas included."""
    return BeautifulSoup(cleaned(heading), "html.parser").find(heading.name).decode_contents()


def shown(section) -> list[str]:
    """Return the slides of a section's figures, theorems and tagged cells, in the order of the page."""
    slides = []
    for element in own(section, "figure, div.proof, div.cell.tag_slide"):
        if element.name == "figure":
            if not tagged(element, "slide"):
                slides.append(slide(cleaned(element), "figure"))
        elif "proof" in element["class"]:
            if STATEMENTS & set(element["class"]):
                slides.append(slide(cleaned(element), "theorem"))
        else:
            slides.append(slide(cleaned(element), "code"))
    return slides


def section_slides(section) -> list[str]:
    heading = section.find(["h2", "h3"], recursive=False)
    if text_of(heading) in LEFT_OUT:
        return []
    children = [s for s in section.find_all("section", recursive=False) if s.find(["h3"], recursive=False)]
    below = [one for child in children for one in section_slides(child)]
    if text_of(heading) == "What we saw":
        lists = "".join(map(cleaned, section.find_all("ul", recursive=False)))
        return [slide(f"<h2>{title_of(heading)}</h2>{lists}", "saw"), *shown(section)]
    return heading_slides(section, heading) + shown(section) + below


def deck(page: str) -> tuple[str, str]:
    """Return the title of a page and its slides."""
    article = BeautifulSoup(page, "html.parser").select_one("article.bd-article")
    top = article.find("section")
    heading = top.find("h1", recursive=False)
    question = top.find("p", recursive=False)
    title = slide(f"<h1>{title_of(heading)}</h1>{cleaned(question)}", "title")
    stacks = [title]
    goals = top.select_one(".admonition-what-you-will-do-and-what-you-need ul")
    if goals:
        stacks.append(slide(f"<h2>What you will do</h2>{cleaned(goals)}", "goals"))
    for section in top.find_all("section", recursive=False):
        slides = section_slides(section)
        if slides:
            stacks.append("\n".join(["<section>", *slides, "</section>"]))
    return text_of(heading), "\n".join(stacks)


def chapters() -> list[str]:
    """Return the numbered pages of the table of contents."""
    import yaml

    toc = yaml.safe_load((HERE.parents[1] / "_toc.yml").read_text(encoding="utf-8"))
    numbered = [part for part in toc["parts"] if part.get("numbered")]
    return [Path(page["file"]).name for part in numbered for page in part["chapters"]]


def write(pages: Path, modules: Path, target: Path) -> None:
    """Write a deck for each chapter, a page that lists them, and all that they load."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "vendor").mkdir(parents=True)
    for source, name in VENDOR.items():
        shutil.copyfile(modules / source, target / "vendor" / name)
    shutil.copytree(pages / "_static" / "vendor" / "mathjax", target / "vendor" / "mathjax")
    for name in ("slides.css", "slides.js"):
        shutil.copyfile(HERE / name, target / name)
    shutil.copyfile(HERE.parent / "_static" / "favicon.svg", target / "favicon.svg")
    entries = []
    for chapter in chapters():
        title, slides = deck((pages / "book" / f"{chapter}.html").read_text(encoding="utf-8"))
        (target / f"{chapter}.html").write_text(
            PAGE.format(title=html.escape(title), slides=slides), encoding="utf-8"
        )
        entries.append(f'<li><a href="{chapter}.html">{html.escape(title)}</a></li>')
        for image in BeautifulSoup(slides, "html.parser").select("img"):
            (target / "_images").mkdir(exist_ok=True)
            shutil.copyfile(pages / image["src"], target / image["src"])
    (target / "index.html").write_text(INDEX.format(decks="\n".join(entries)), encoding="utf-8")
    print(f"{len(entries)} decks. Open {target / 'index.html'}")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
