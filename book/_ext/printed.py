"""The book on paper: parts, chapters numbered as on the pages, boxes for theorems and exercises, references in place.

Sphinx makes one LaTeX document of all pages. Its numbers come from counters, those of the pages from the table of contents;
so every chapter sets the counters to what its page begins with. book.sty says how everything looks.
"""

import re

from docutils import nodes
from printed_outputs import enclosing_page
from sphinx import addnodes
from sphinx.builders.latex.nodes import thebibliography
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.texescape import escape
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, solution_node
from sphinx_proof.nodes import proof_node

# Counters of LaTeX, and what Sphinx calls the same sequence.
COUNTERS = {"figure": "figure", "table": "table", "literalblock": "code-block", "equation": "displaymath"}
BOOKMARKS = {
    r"^\top": "ᵀ",
    r"\delta": "δ",
    r"\varepsilon": "ε",
    r"\lambda": "λ",
    r"\rho": "ρ",
    r"\sigma": "σ",
}
EXERCISES = (exercise_node, exercise_enumerable_node)


class printed_box(nodes.General, nodes.Element):
    """A titled block: theorem, proof, exercise or solution; the first child is its head."""


class printed_head(nodes.General, nodes.TextElement):
    """The line with which a block begins."""


def tex(source):
    return nodes.raw("", source + "\n", format="latex")


def tex_inline(source):
    return nodes.raw("", source, format="latex")


def spoken(formula):
    r"""Write a formula for the reader's list of bookmarks, which knows letters only.

    >>> spoken(r"A^\top y"), spoken(r"\lambda_2")
    ('Aᵀy', 'λ2')
    """
    for command, letter in BOOKMARKS.items():
        formula = formula.replace(command, letter)
    return re.sub(r"\\[a-zA-Z]+ ?|[\\{}^_$ ]", "", formula)


def parts(env):
    """Return (caption, numbered, pages) for each group of the table of contents."""
    toctrees = env.get_doctree(env.config.root_doc).findall(addnodes.toctree)
    return [
        (toctree.get("caption"), bool(toctree.get("numbered")), [page for _, page in toctree["entries"]])
        for toctree in toctrees
    ]


def start_counters(fignumbers, secnumbers, page):
    """Return the value of every counter before the page begins, so that its first figure, for instance, gets its number."""
    chapter = secnumbers.get(page, {}).get("", (0,))
    starts = {"chapter": chapter[0] - 1 if chapter[0] else 0}
    for counter, kind in COUNTERS.items():
        numbers = [number[-1] for number in fignumbers.get(page, {}).get(kind, {}).values() if number]
        starts[counter] = min(numbers, default=1) - 1
    return starts


def open_chapter(env, page, numbered):
    starts = start_counters(env.toc_fignumbers, env.toc_secnumbers, page)
    lines = [
        f"\\setcounter{{{counter}}}{{{value}}}" for counter, value in starts.items() if counter != "chapter"
    ]
    # \chapter itself sets the other counters to zero where it is numbered.
    kind = "numbered" if numbered else "plain"
    return tex(f"\\bookchapter{kind}{{{starts['chapter']}}}"), tex("".join(lines))


class PrintedChapters(SphinxPostTransform):
    """Give the first page a chapter of its own, and open every part and chapter with its numbers."""

    default_priority = 800  # when everything else stands in its place
    formats = ("latex",)

    def run(self, **_):
        if self.document.get("docname") != self.config.root_doc:
            return
        place = {
            page: (caption, numbered, pages[0])
            for caption, numbered, pages in parts(self.env)
            for page in pages
        }
        book = next(self.document.findall(nodes.section))
        self.own_chapter(book)
        for start in list(self.document.findall(addnodes.start_of_file)):
            caption, numbered, first = place[start["docname"]]
            before, after = open_chapter(self.env, start["docname"], numbered)
            if caption and start["docname"] == first:
                before = tex(f"\\bookpart{{{escape(caption, 'xelatex')}}}\n" + before.astext())
            start.parent.insert(start.parent.index(start), before)
            title = next(start.findall(nodes.title))
            title.parent.insert(title.parent.index(title) + 1, after)
        for title in self.document.findall(nodes.title):
            for formula in list(title.findall(nodes.math)) if isinstance(title.parent, nodes.section) else []:
                source = formula.astext()
                formula.replace_self(tex_inline(f"\\texorpdfstring{{\\({source}\\)}}{{{spoken(source)}}}"))

    def own_chapter(self, book):
        """Move the text of the first page, which Sphinx would print without a heading, into a section below the title."""
        trees = [child for child in book if "toctree-wrapper" in child.get("classes", [])]
        text = [child for child in book[1:] if child not in trees]
        chapter = nodes.section("", book[0].deepcopy(), *text, ids=book["ids"])
        book["ids"], book.children = [], [book[0]]
        before, after = open_chapter(self.env, self.config.root_doc, numbered=False)
        chapter.insert(1, after)
        book += [before, chapter, *trees]


class PrintedReferences(SphinxPostTransform):
    """Put the references where their page is; Sphinx collects them at the end of the book, in front of the index."""

    default_priority = 790
    formats = ("latex",)

    def run(self, **_):
        page = next(
            (s for s in self.document.findall(addnodes.start_of_file) if s["docname"].endswith("references")),
            None,
        )
        for listed in list(self.document.findall(thebibliography)):
            if page is not None:
                listed.parent.remove(listed)
                next(page.findall(nodes.section)).append(listed)


class PrintedBoxes(SphinxPostTransform):
    """Turn theorems, proofs, exercises and solutions into blocks whose titles, numbers and targets are those of the pages."""

    default_priority = 300  # after the extensions have written the titles
    formats = ("latex",)

    def run(self, **_):
        # From the inside out: a theorem may stand in a solution.
        for node in reversed(
            list(self.document.findall(lambda n: isinstance(n, (*EXERCISES, solution_node, proof_node))))
        ):
            self.replace(node, self.describe(node))
        for node in reversed(
            list(self.document.findall(lambda n: n.get("realtype") if isinstance(n, nodes.Element) else 0))
        ):
            self.replace(node, self.theorem(node))

    def number(self, node, kind):
        page = enclosing_page(node, self.env)
        number = self.env.toc_fignumbers.get(page, {}).get(kind, {}).get(node["ids"][0], ())
        return ".".join(map(str, number))

    def describe(self, node):
        """Return the LaTeX environment, the title, the number and the content."""
        if isinstance(node, proof_node):
            return "bookproof", [], "", node[0].children
        if isinstance(node, solution_node):
            return "booksolution", node[0].children, "", node[1].children
        return "bookexercise", node[0].children, self.number(node, "exercise"), node[1].children

    def theorem(self, node):
        number = self.number(node, node["countertype"])
        name = f"{node['realtype'].title()} {number}".strip()
        return "booktheorem", [nodes.Text(name), *node[0].children], number, node[1].children

    def replace(self, node, described):
        environment, title, number, content = described
        box = printed_box(
            environment=environment, number=number, ids=node["ids"], label=node.get("label", "")
        )
        box["exercise"] = isinstance(node, EXERCISES)
        box += printed_head("", "", *title)
        box += content
        node.replace_self(box)


def visit_box(self, node):
    self.body.append(f"\n\n\\begin{{{node['environment']}}}{{{node['number']}}}")


def depart_box(self, node):
    self.body.append(f"\n\\end{{{node['environment']}}}\n\n")


def visit_head(self, node):
    self.body.append("{")


def depart_head(self, node):
    box = node.parent
    self.body.append("}" + self.hypertarget_to(box, anchor=True))
    if box["exercise"]:  # sphinx-exercise refers to labels of this form
        self.body.append(f"\\label{{exercise:{box['label']}}}")
    self.body.append("\n")


def unused(self, node):
    raise nodes.SkipNode


def setup(app):
    for transform in (PrintedBoxes, PrintedReferences, PrintedChapters):
        app.add_post_transform(transform)
    app.add_node(printed_box, latex=(visit_box, depart_box), html=(unused, None))
    app.add_node(printed_head, latex=(visit_head, depart_head), html=(unused, None))
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
