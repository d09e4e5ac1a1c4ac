"""Give each page the definitions of the glossary's terms that it uses; book.js shows them beside a term.

A page opened from the disk may not read another page, so the definitions travel with it, in a `<template>` that the
browser keeps out of the text.
"""

from docutils import nodes

GLOSSARY = "book/glossary"


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
    app.connect("html-page-context", add_definitions)
    # The definitions are read from the finished doctree of this build, never from a stored environment.
    app.connect("builder-inited", lambda app: app.env.__dict__.pop("hover_definitions", None))
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
