"""Write a table of measurements, and keep the rows that other devices measured."""

from pathlib import Path

import pandas as pd
import torch

from ir_helpers import recipes, store

__all__ = ["device_name", "merge", "write"]


def device_name(device):
    """Return what the column ``device`` says: the GPU's name, or CPU."""
    return torch.cuda.get_device_name(device) if str(device).startswith("cuda") else "CPU"


def merge(path, rows, replaces=("device",)):
    """Write ``rows`` to the CSV file ``path``; of its old rows, those stay that differ from all new ones in ``replaces``.

    A run on a CPU then keeps what a GPU measured, and the other way round. Columns that only the old or only the new rows
    have stay empty in the others.
    """
    path, new = Path(path), pd.DataFrame(rows)
    if len(new) == 0:
        raise ValueError(f"no rows to write to {path.name}: the old table stays")
    if path.is_file():
        old = pd.read_csv(path)
        missing = [name for name in replaces if name not in old]
        if missing:
            raise ValueError(
                f"{path.name} has no column {missing[0]!r}: remove the file, it is from another program"
            )
        fresh = set(map(tuple, new[list(replaces)].astype(str).to_numpy()))
        kept = [key not in fresh for key in map(tuple, old[list(replaces)].astype(str).to_numpy())]
        new = pd.concat([old[kept], new], ignore_index=True)
    write(path, new)
    return new


def write(path, table):
    """Write a table; one of ``data/results`` gets its new hash in the manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.5g", lineterminator="\n")
    if path.resolve().parent == store.DATA / "results":
        recipes.record_hashes(store.DATA, [f"results/{path.name}"])
