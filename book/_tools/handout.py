"""Write the chapters as notebooks for a class: python handout.py EXECUTED TARGET [CHAPTER.md ...].

TARGET/with holds them whole; TARGET/without lacks the solutions of the exercises and the hidden checks. A hidden cell that
a later cell needs stays, without its assertions and notes. The numbers in the text come from the executed notebooks of the build.
Called by `make handout`.
"""

import ast
import json
import re
import sys
from pathlib import Path

SOLUTION = re.compile(r"^(?P<fence>[`:]{3,})\{solution\}.*?^(?P=fence)[ \t]*\n?", re.DOTALL | re.MULTILINE)
GATE = re.compile(
    r"^(?P<fence>[`:]{3,})\{solution-(?P<kind>start|end)\}.*?^(?P=fence)[ \t]*\n?", re.DOTALL | re.MULTILINE
)
GLUED = re.compile(r"\{glue:text\}`([^`]+)`")
HIDDEN = {"remove-cell"}


class Names(ast.NodeVisitor):
    """Find the names that a piece of code takes from outside, and those that it binds or changes."""

    def __init__(self):
        self.taken, self.bound, self.changed = set(), set(), set()

    @classmethod
    def of(cls, source: str) -> "Names":
        names = cls()
        names.visit(ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.MULTILINE)))
        return names

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            self.taken.update({node.id} - self.bound)
        else:
            self.bound.add(node.id)

    def in_order(self, *parts):
        for part in parts:
            for node in part if isinstance(part, list) else [part]:
                if node is not None:
                    self.visit(node)

    def visit_Assign(self, node):
        self.in_order(node.value, node.targets)

    def visit_AnnAssign(self, node):
        self.in_order(node.value, node.target)

    def visit_AugAssign(self, node):
        self.in_order(node.value)
        target = node.target
        if isinstance(target, ast.Name):
            self.taken.update({target.id} - self.bound)
            self.bound.add(target.id)
        else:
            self.visit(target)

    def visit_For(self, node):
        self.in_order(node.iter, node.target, node.body, node.orelse)

    def changes(self, node):
        base = node
        while isinstance(base, (ast.Attribute, ast.Subscript)):
            base = base.value
        if isinstance(node.ctx, ast.Store) and isinstance(base, ast.Name):
            self.changed.add(base.id)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript = changes

    def visit_alias(self, node):
        self.bound.add((node.asname or node.name).split(".")[0])

    def inside(self, arguments, *parts):
        """Look into a function or a comprehension, whose own names stay its own."""
        inner = Names()
        inner.bound |= arguments
        inner.in_order(*parts)
        self.taken.update(inner.taken - self.bound)
        self.changed |= inner.changed - inner.bound

    def visit_FunctionDef(self, node):
        self.in_order(node.decorator_list, node.args.defaults, node.args.kw_defaults)
        self.bound.add(node.name)
        self.inside(parameters(node.args), node.body)

    def visit_Lambda(self, node):
        self.in_order(node.args.defaults, node.args.kw_defaults)
        self.inside(parameters(node.args), node.body)

    def visit_ClassDef(self, node):
        self.in_order(node.decorator_list, node.bases)
        self.bound.add(node.name)
        self.inside(set(), node.body)

    def visit_comprehension(self, node):
        self.in_order(node.iter, node.target, node.ifs)

    def visit_ListComp(self, node):
        self.inside(set(), node.generators, node.elt)

    visit_SetComp = visit_GeneratorExp = visit_ListComp

    def visit_DictComp(self, node):
        self.inside(set(), node.generators, node.key, node.value)


def parameters(arguments: ast.arguments) -> set[str]:
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    return {argument.arg for argument in every if argument is not None}


def only_computes(source: str) -> str:
    """Remove assertions and the noting of numbers, outside of loops and functions, and the comments above them."""

    def notes(node):
        called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        return called is not None and ast.unparse(called) in {"glue", "ledger.note"}

    lines = source.splitlines()
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.Assert) or notes(node):
            first = node.lineno - 1
            while first and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            del lines[first : node.end_lineno]
    return "\n".join(lines).strip("\n")


def without_solutions(cells: list) -> list:
    """Drop solutions: fenced ones from the text, and all cells between a start gate and its end gate."""
    kept, inside = [], False
    for cell in cells:
        if cell.cell_type != "markdown":
            if not inside:
                kept.append(cell)
            continue
        text, place, pieces = SOLUTION.sub("", cell.source), 0, []
        for gate in GATE.finditer(text):
            if not inside:
                pieces.append(text[place : gate.start()])
            if inside == (gate["kind"] == "start"):
                raise ValueError(f"{{solution-{gate['kind']}}} without its partner: {text[:80]!r}")
            inside, place = not inside, gate.end()
        if not inside:
            pieces.append(text[place:])
        cell.source = re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip("\n")
        if cell.source:
            kept.append(cell)
    if inside:
        raise ValueError("a {solution-start} has no {solution-end}")
    return kept


def without_checks(cells: list) -> list:
    """Drop the hidden cells, except those that bind or change a name that a later cell takes."""
    kept, needed = [], set()
    for cell in reversed(cells):
        if cell.cell_type == "code":
            hidden = HIDDEN & set(cell.metadata.get("tags", []))
            if hidden:
                cell.source = only_computes(cell.source)
            names = Names.of(cell.source)
            if hidden and not needed & (names.bound | names.changed):
                continue
            needed = needed - names.bound | names.taken
        kept.append(cell)
    return kept[::-1]


def glued_values(executed: Path) -> dict[str, str]:
    """Return what the cells of an executed notebook have glued, as Python prints it."""
    if not executed.is_file():
        return {}
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    named = [(o.get("metadata", {}).get("scrapbook", {}).get("name"), o.get("data", {})) for o in outputs]
    plain = "application/papermill.record/text/plain"
    return {name: "".join(data[plain]) for name, data in named if name and plain in data}


def filled(text: str, values: dict[str, str]) -> str:
    """Put the numbers of the build where the text refers to them; a name that is not known stays as it is."""

    def number(match):
        name, form = match[1], ""
        if name not in values:  # a name may hold a colon, too
            name, _, form = name.rpartition(":")
        return format(ast.literal_eval(values[name]), form) if name in values else match[0]

    return GLUED.sub(number, text)


def write(chapter: Path, target: Path, executed: Path) -> None:
    """Write both notebooks of a chapter."""
    import jupytext

    values = glued_values(executed / f"{chapter.stem}.ipynb")
    for kind in ("with", "without"):
        notebook = jupytext.read(chapter, fmt="md:myst")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = filled(cell.source, values)
        if kind == "without":
            notebook.cells = without_checks(without_solutions(notebook.cells))
        path = target / kind / f"{chapter.stem}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(notebook, path, fmt="ipynb")


if __name__ == "__main__":
    executed, target, *chapters = map(Path, sys.argv[1:])
    for chapter in chapters:
        write(chapter, target, executed)
    print(f"{len(chapters)} chapters, with and without solutions, in {target}")
