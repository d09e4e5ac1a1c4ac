"""The shape of the package: imports point one way, modules stay short, the public parts are documented."""

import ast
import importlib
import sys
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ir_helpers"

# A module imports only from modules above it. A new one takes its place here: as far up as what it needs allows.
ORDER = [
    "checks",  # arguments
    "per_sample",
    "processes",
    "files",
    "store",  # data/
    "arrays",
    "backends",  # operators
    "linear_operator",
    "joseph",
    "tomography",
    "operators",
    "downloads",  # images and measurements
    "larger",
    "noise",
    "phantoms",
    "augmentation",
    "splits",
    "dicom",
    "scans",
    "celeba",
    "datasets",
    "smooth",  # y to x
    "classical",
    "unet",  # learned maps
    "reconstructors",
    "networks",
    "trust_region",  # the worst δ
    "doubts",
    "ascent",
    "race",
    "attacks",
    "robustness",
    "directions",
    "adversary",  # training against it
    "generator",
    "adversaries",
    "checkpoints",
    "parseval",
    "replay",
    "training_run",
    "training",
    "experiments",  # many trainings
    "chest",
    "catalogue",
    "jobs",
    "network_recipes",
    "theory",
    "spectrum_recipes",
    "chest_recipes",
    "projector_recipes",
    "scaling_recipes",
    "figures",  # what pages show
    "widgets",
    "claims",
    "ledger",
    "bands",
    "packages",  # how data/ is made
    "image_recipes",
    "recipes",
]
# Libraries that one module hides from the rest of the package.
SOLE_IMPORTERS = {"ipywidgets": "widgets", "astra": "tomography", "pooch": "downloads"}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def tree_of(module):
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


def imports(tree):
    """Return the dotted names that a module imports, also inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            start = (
                "ir_helpers" * bool(node.level) + "." * bool(node.level and node.module) + (node.module or "")
            )
            found |= {f"{start}.{alias.name}" for alias in node.names}
    return found


def siblings(tree):
    return {name.split(".")[1] for name in imports(tree) if name.startswith("ir_helpers.")} & set(MODULES)


def wrong_way(module, tree):
    return {other for other in siblings(tree) if ORDER.index(other) >= ORDER.index(module)}


def public_definitions(tree):
    """Return what a reader meets: public functions and classes of the module, and public methods of public classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    methods = [node for owner in top if isinstance(owner, ast.ClassDef) for node in owner.body]
    return top, [node for node in methods if isinstance(node, kinds) and not node.name.startswith("_")]


def test_every_module_has_its_place():
    assert len(ORDER) == len(set(ORDER))
    assert set(MODULES) <= set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_the_list(module):
    assert wrong_way(module, tree_of(module)) == set()


@pytest.mark.parametrize(
    "line",
    [
        "from ir_helpers import figures",
        "from ir_helpers.figures import png",
        "import ir_helpers.figures",
        "from . import figures",
        "from .figures import png",
        "def late():\n    from ir_helpers import figures",
    ],
)
def test_an_import_the_wrong_way_is_seen(line):
    assert wrong_way("attacks", ast.parse(line)) == {"figures"}


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_below_250_lines(module):
    assert len((PACKAGE / f"{module}.py").read_text(encoding="utf-8").splitlines()) < 250


@pytest.mark.parametrize("module", MODULES)
def test_public_things_are_documented(module):
    tree = tree_of(module)
    assert ast.get_docstring(tree), "the module has no docstring"
    top, methods = public_definitions(tree)
    # Methods of back ends share one description; those of anything a reader calls have their own.
    nodes = top + ([] if module in ("backends", "tomography") else methods)
    assert [node.name for node in nodes if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("module", MODULES)
def test_names_in_all_exist(module):
    loaded = importlib.import_module(f"ir_helpers.{module}")
    assert [name for name in getattr(loaded, "__all__", []) if not hasattr(loaded, name)] == []


@pytest.mark.parametrize(("library", "owner"), SOLE_IMPORTERS.items())
def test_libraries_with_one_importer(library, owner):
    importers = {m for m in MODULES if any(name.split(".")[0] == library for name in imports(tree_of(m)))}
    assert importers == {owner}


def test_no_pickles_and_no_pyplot():
    for module in MODULES:
        names = imports(tree_of(module))
        # Weights are safetensors; figures are objects, without pyplot's hidden state.
        assert not any(name.split(".")[0] in ("pickle", "joblib", "dill") for name in names), module
        assert not any("pyplot" in name for name in names), module


def test_theory_needs_numpy_only():
    # So a reader can copy it beside any framework.
    seen, todo = set(), ["theory"]
    while todo:
        tree = tree_of(todo.pop())
        seen |= {name.split(".")[0] for name in imports(tree)}
        todo += siblings(tree)
    assert seen - set(sys.stdlib_module_names) == {"numpy", "ir_helpers"}


def test_nothing_but_declared_libraries(root):
    declared = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {line.split(">")[0].split("=")[0] for line in declared}
    as_imported = {"astra-toolbox": "astra", "scikit-image": "skimage"}
    known = {as_imported.get(name, name) for name in names} | set(sys.stdlib_module_names) | {"ir_helpers"}
    # Matplotlib requires Pillow; IPython comes with ipywidgets. Both are used where they are there anyway.
    known |= {"PIL", "IPython"}
    # The extras [data] and [book], imported where they are used.
    optional = {
        "image_recipes": {"nibabel", "nrrd"},
        "dicom": {"pydicom"},
        "scans": {"h5py"},
        "ledger": {"myst_nb"},
    }
    for module in MODULES:
        used = {name.split(".")[0] for name in imports(tree_of(module))} - optional.get(module, set())
        assert used <= known, module
