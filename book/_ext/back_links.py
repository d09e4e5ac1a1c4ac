"""Each entry of the references says which pages cite it, with links back to the first place on each."""

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode


def reading_order(includes, root):
    """Return the pages in the order of the table of contents, which ``includes`` gives page by page."""
    return [root, *(page for child in includes.get(root, []) for page in reading_order(includes, child))]


def citing_places(references, order):
    """Return {key: {page: anchor of its first citation}}, pages in reading order, from (page, anchor, keys)."""
    found = {}
    for page, anchor, keys in sorted(references, key=lambda place: order.index(place[0])):
        for key in keys:
            found.setdefault(key, {}).setdefault(page, anchor)
    return found


class BackLinks(SphinxPostTransform):
    """Append "Cited in" to the entries that are cited."""

    default_priority = 6  # after the bibliography has become a list of entries

    def run(self, **_):
        domain = self.env.get_domain("cite")
        keys = {citation.citation_id: citation.key for citation in domain.citations}
        order = reading_order(self.env.toctree_includes, self.config.root_doc)
        places = citing_places(
            [
                (ref.docname, ref.citation_ref_id, [target.key for target in ref.targets])
                for ref in domain.citation_refs
                if ref.docname in order
            ],
            order,
        )
        for entry in self.document.findall(nodes.citation):
            found = places.get(keys.get(entry["ids"][0]), {}) if entry["ids"] else {}
            if found:
                entry += self.line(found, entry)

    def line(self, found, entry):
        here = getattr(self.env, "docname", None) or self.config.root_doc
        line = nodes.paragraph("", "Cited in ", classes=["cited-in"])
        for number, (page, anchor) in enumerate(found.items()):
            title = nodes.inline("", self.env.titles[page].astext())
            # On paper a citation has no anchor of its own: the link leads to its chapter.
            place = anchor if self.app.builder.format == "html" else ""
            line += [nodes.Text(", ")] if number else []
            line += make_refnode(self.app.builder, here, page, place, title)
        return line


def setup(app):
    app.add_post_transform(BackLinks)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
