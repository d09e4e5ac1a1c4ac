"""Serve the terms of the glossary: their definitions to the pages that use them, their places to the index.

A page opened from the disk may not read another page, so the definitions travel with it, in a `<template>` that the
browser keeps out of the text; book.js shows them beside a term. The first use of a term on a page is listed in the index.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

GLOSSARY = "book/glossary"


def spellings(source):
    """Return the terms as the glossary spells them, by their lower case."""
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```$", source, flags=re.DOTALL | re.MULTILINE)
    return {
        term.lower(): term for block in blocks for term in re.findall(r"^\S.*$", block, flags=re.MULTILINE)
    }


class IndexTerms(SphinxTransform):
    """List in the index where a page first uses a term."""

    default_priority = 800  # before Sphinx collects the entries of the index

    def apply(self, **_):
        path = Path(self.env.doc2path(GLOSSARY))
        if self.env.docname == GLOSSARY or not path.is_file():
            return
        known, seen = spellings(path.read_text(encoding="utf-8")), set()
        for use in list(self.document.findall(addnodes.pending_xref)):
            term = known.get(use["reftarget"].lower()) if use.get("reftype") == "term" else None
            if term is None or term in seen:
                continue
            seen.add(term)
            anchor = f"use-{nodes.make_id(term)}"
            index = addnodes.index(entries=[("single", term, anchor, "", None)])
            target = nodes.target("", "", ids=[anchor])
            use.parent[use.parent.index(use) : use.parent.index(use)] = [index, target]


def read_definitions(app):
    """Return the HTML of the first paragraph of every definition, by the anchors of its terms."""
    if not hasattr(app.env, "hover_definitions"):
        glossary = app.env.get_and_resolve_doctree(GLOSSARY, app.builder)
        app.env.hover_definitions = {
            anchor: write_first_paragraph(app, item)
            for item in glossary.findall(nodes.definition_list_item)
            for term in item.findall(nodes.term)
            for anchor in term["ids"]
        }
    return app.env.hover_definitions


def write_first_paragraph(app, item):
    """Return the explanation without the links to chapters that follow it."""
    paragraph = next(item.findall(nodes.definition)).next_node(nodes.paragraph)
    return app.builder.render_partial(paragraph)["fragment"]


def add_definitions(app, pagename, templatename, context, doctree):
    """Append the definitions that the page points to, each once."""
    if doctree is None or GLOSSARY not in app.env.found_docs or app.builder.format != "html":
        return
    addresses = {reference.get("refuri", "") for reference in doctree.findall(nodes.reference)}
    anchors = sorted(a.split("#")[1] for a in addresses if "glossary.html#term-" in a)
    if not anchors:
        return
    known = read_definitions(app)
    blocks = "".join(f'<div data-term="{anchor}">{known[anchor]}</div>' for anchor in anchors)
    context["body"] += f'<template id="definitions">{blocks}</template>\n'


def setup(app):
    app.add_transform(IndexTerms)
    app.connect("html-page-context", add_definitions)
    # The definitions are read from the finished doctree of this build, never from a stored environment.
    app.connect("builder-inited", lambda app: app.env.__dict__.pop("hover_definitions", None))
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
