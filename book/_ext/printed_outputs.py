"""Outputs of cells on paper: tables, verdicts and explorers from HTML that only a browser shows, curves from SVG.

The folded code of plots stays out of the PDF; an explorer is printed with the frame it begins with.
"""

import base64
import json
import subprocess
from hashlib import sha256
from pathlib import Path

from bs4 import BeautifulSoup, NavigableString
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.transforms.post_transforms.images import ImageConverter

WIDGET = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
INLINE = {
    "strong": nodes.strong,
    "b": nodes.strong,
    "em": nodes.emphasis,
    "i": nodes.emphasis,
    "code": nodes.literal,
}
FOLDED = {"input", "input+output", "all"}
PIXELS_PER_WIDTH = 600  # of a line of the page, in the frames of explorers


def read_inline(element):
    """Return the text of an HTML element as inline nodes."""
    found = []
    for child in element.children:
        if isinstance(child, NavigableString):
            found.append(nodes.Text(" ".join(str(child).split()) if not str(child).strip() else str(child)))
        elif child.name in INLINE:
            found.append(INLINE[child.name](child.get_text(), child.get_text()))
        else:
            found += read_inline(child)
    return found


def read_table(table):
    """Return an HTML table, with cells that span several rows or columns, as a docutils table."""
    lift_names(table)
    rows = table.find_all("tr")
    head = [row for row in rows if row.find_parent("thead") is not None]
    columns = max(sum(int(cell.get("colspan", 1)) for cell in row.find_all(["td", "th"])) for row in rows)
    group = nodes.tgroup(cols=columns)
    group += [nodes.colspec(colwidth=1) for _ in range(columns)]
    for kind, part in ((nodes.thead, head), (nodes.tbody, [row for row in rows if row not in head])):
        if part:
            group += kind("", *map(read_row, part))
    return nodes.table("", group, classes=["printed-output"])


def lift_names(table):
    """Move the names of an index, to which pandas gives a row of their own, into empty cells of the row above."""
    rows = [row.find_all(["td", "th"]) for row in table.select("thead tr")]
    if len(rows) < 2 or len(rows[-1]) != len(rows[-2]):
        return
    named = [k for k, cell in enumerate(rows[-1]) if cell.get_text(strip=True)]
    if all(not rows[-2][k].get_text(strip=True) for k in named):
        for k in named:
            rows[-2][k].string = rows[-1][k].get_text(strip=True)
        rows[-1][0].find_parent("tr").decompose()


def read_row(row):
    entries = []
    for cell in row.find_all(["td", "th"]):
        text = read_inline(cell)
        if cell.name == "th" and cell.find_parent("thead") is None:
            text = [nodes.strong("", "", *text)] if cell.get_text(strip=True) else text
        entry = nodes.entry("", nodes.paragraph("", "", *text))
        for name, attribute in (("rowspan", "morerows"), ("colspan", "morecols")):
            if int(cell.get(name, 1)) > 1:
                entry[attribute] = int(cell[name]) - 1
        entries.append(entry)
    return nodes.row("", *entries)


def read_html(source):
    """Return paragraphs and tables of an output, in order; other HTML as its text, in one paragraph."""
    soup = BeautifulSoup(source, "html.parser")
    for style in soup(["style", "script"]):
        style.decompose()
    blocks = [
        read_table(block) if block.name == "table" else nodes.paragraph("", "", *read_inline(block))
        for block in soup.find_all(["p", "table"])
        if block.find_parent("table") is None
    ]
    if len(blocks) > 1 and isinstance(blocks[1], nodes.table):  # a claim stays with its numbers
        blocks.insert(0, nodes.raw("", "\\Needspace{9\\baselineskip}\n", format="latex"))
    return blocks or [nodes.paragraph("", soup.get_text(" ", strip=True))]


def first_view(state, model_id):
    """Return what an explorer shows at first: hint, [(label, value), ...] and the picture's bytes (None: no picture)."""
    hint, settings, pictures = "", [], []
    queue = [model_id]
    while queue:
        model = state[queue.pop(0)]
        values, kind = model["state"], model["model_name"]
        children = [name.removeprefix("IPY_MODEL_") for name in values.get("children", [])]
        if kind == "StackModel":
            children = [children[values["selected_index"]]]
        if kind == "HTMLModel":
            hint = BeautifulSoup(values["value"], "html.parser").get_text(" ", strip=True)
        if kind == "SelectionSliderModel":
            settings.append((values["description"], values["_options_labels"][values["index"]]))
        if kind == "ImageModel":
            pictures += [base64.b64decode(b["data"]) for b in model["buffers"] if b["path"] == ["value"]]
        queue += children
    return hint, settings, pictures[0] if pictures else None


def print_explorer(env, docname, model_id, state, folder):
    """Return the first frame of an explorer, the words that introduce it, and where the slider is."""
    hint, settings, picture = first_view(state, model_id)
    if picture is None:
        return []
    path = folder / f"explorer-{sha256(picture).hexdigest()[:16]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture)
    env.images.add_file(docname, str(path))
    width = min(100, round(100 * int.from_bytes(picture[16:20], "big") / PIXELS_PER_WIDTH))
    image = nodes.image(uri=str(path), candidates={"*": str(path)}, width=f"{width}%", align="center")
    shown = ", ".join(f"{label}: {value}" for label, value in settings)
    below = nodes.paragraph("", "", nodes.strong("", "Explorer."), nodes.Text(f" {hint} "))
    below += nodes.emphasis("", f"Printed here: {shown}. The page of this chapter has the slider.")
    return [nodes.container("", image, below, classes=["printed-explorer"])]


class PrintedOutputs(SphinxPostTransform):
    """Leave out the code that pages fold away, and turn outputs for browsers into text, tables and pictures."""

    default_priority = 3  # before myst-nb chooses among the types of an output
    formats = ("latex",)

    def run(self, **_):
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code" and cell.get("hide_mode") in FOLDED and len(cell) > 1:
                cell.remove(cell[0])
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") == "mime_bundle":
                self.choose({kind["mime_type"]: kind for kind in bundle}, bundle)

        for opening in list(
            self.document.findall(nodes.raw)
        ):  # a verdict is coloured on a page, bold on paper
            if "verdict-word" in opening.astext():
                word = opening.next_node(nodes.Text, descend=False, siblings=True)
                word.parent.replace(word, nodes.strong("", word.astext()))

    def choose(self, kinds, bundle):
        if WIDGET in kinds:
            script = BeautifulSoup(kinds[WIDGET].astext(), "html.parser").script.string
            docname = enclosing_page(bundle, self.env)
            notebook = Path(self.app.outdir).parent / "executed" / f"{Path(docname).name}.ipynb"
            state = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["widgets"][STATE]["state"]
            folder = Path(self.app.doctreedir) / "images"
            model = json.loads(script)["model_id"]
            bundle.replace_self(print_explorer(self.env, docname, model, state, folder))
        elif "text/html" in kinds and not any(kind.startswith("image/") for kind in kinds):
            bundle.replace_self(read_html(kinds["text/html"].astext()))


def enclosing_page(node, env):
    """Return the name of the page that a node of the assembled book comes from."""
    # Sphinx writes the name on the sections; the chain of parents ends at the page, not at the book.
    while node is not None:
        if isinstance(node, nodes.section) and "docname" in node:
            return node["docname"]
        node = node.parent
    return env.config.root_doc


class SvgToPdf(ImageConverter):
    """Curves stay lines: rsvg-convert, of librsvg, turns SVG into PDF."""

    conversion_rules = [("image/svg+xml", "application/pdf")]  # noqa: RUF012 (Sphinx reads a list)

    def is_available(self):
        return True  # book/_tools/pdf.py asks for rsvg-convert before it starts

    def convert(self, source, target):
        subprocess.run(
            ["rsvg-convert", "--format=pdf", "--keep-aspect-ratio", f"--output={target}", str(source)],
            check=True,
        )
        return True


def setup(app):
    app.add_post_transform(PrintedOutputs)
    app.add_post_transform(SvgToPdf)
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
