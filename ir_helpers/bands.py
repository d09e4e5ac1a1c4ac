"""Do tables that a recipe made again agree with those of `data/`? Within the bands stated here.

The same seed gives the same bits on the same machine with the same number of threads. Another processor or GPU adds numbers in
another order, and a training carries that on until its result is like that of another seed. So a number made again has to lie
within the range of the shipped seeds of its setting, widened by the band of its column.
"""

from pathlib import Path

import pandas as pd

__all__ = ["BANDS", "NOT_COMPARED", "compare", "report"]

# What a stopwatch or another machine gives.
NOT_COMPARED = {
    "seconds",
    "seconds_per_epoch",
    "images_per_second",
    "speed_up",
    "milliseconds",
    "mebibytes",
    "device",
}
# Relative, by column; ε and ‖δ‖ follow from the data. Numbers of a single seed or image scatter more than means over seeds.
BANDS = {
    "radius": 1e-3,
    "relative_radius": 1e-3,
    "rho": 0.1,
    "rho_sem": 0.25,
    "psnr": 0.03,
    "ssim": 0.03,
}
OTHER = 0.15  # of any other column that holds fractions
BY_IMAGE = 0.5  # of every measured column in tables of single images
_OF_IMAGES = {"image", "slice"}


def compare(made, shipped):
    """Return what of the tables made again lies outside the bands, one line for each number.

    Text, whole numbers and empty cells must be equal, fractions lie within the bands. Rows are compared in the order of the files.

    Parameters
    ----------
    made, shipped : dict of str to pandas.DataFrame
        By file name.

    Returns
    -------
    list of str
        Each names the file, the row, the column and both values; empty if all agree.
    """
    faults = []
    for name, old in shipped.items():
        if name not in made:
            faults.append(f"{name}: was not made")
        elif list(made[name]) != list(old) or len(made[name]) != len(old):
            faults.append(
                f"{name}: {len(made[name])} rows of {list(made[name])}, shipped {len(old)} of {list(old)}"
            )
        else:
            faults += [f"{name}, {fault}" for fault in _outside(made[name], old)]
    return faults


def report(outputs, made, shipped):
    """Compare the tables among a recipe's ``outputs`` below two folders and print what differs; return the exit status."""
    tables = [name for name in outputs if name.endswith(".csv")]
    found, known = (_read(folder, tables) for folder in (made, shipped))
    faults = compare(found, known) + [
        f"{shipped} has no {name} to compare with" for name in tables if name not in known
    ]
    print("\n".join(faults) or f"{len(tables)} tables agree within their bands.")
    return 1 if faults else 0


def _read(folder, names):
    return {name: pd.read_csv(Path(folder, name)) for name in names if Path(folder, name).is_file()}


def _outside(new, old):
    """Return a line for each cell of a table that differs by more than its band."""
    measured = [column for column in old if _is_fraction(old[column]) or _is_fraction(new[column])]
    names = [c for c in old if c not in measured and c not in NOT_COMPARED]
    setting = [c for c in (*names, "radius", "relative_radius") if c in old and c != "seed"]
    faults = [_line(new, old, names, row, c, "") for c in names for row in _where(_unequal(new[c], old[c]))]
    by_image = bool(_OF_IMAGES & set(old))
    for column in (c for c in measured if c not in NOT_COMPARED):
        seeds = old.groupby(setting, dropna=False)[column] if "seed" in old else None
        low, high = (old[column],) * 2 if seeds is None else (seeds.transform("min"), seeds.transform("max"))
        width = BANDS.get(column, OTHER)
        width = BY_IMAGE if by_image and width > BANDS["radius"] else width
        low, high = low - width * low.abs(), high + width * high.abs()
        inside = new[column].between(low, high).where(old[column].notna(), new[column].isna())
        for row in _where(~inside):
            faults.append(_line(new, old, names, row, column, f", allowed {low[row]:.6g} to {high[row]:.6g}"))
    return faults


def _unequal(new, old):
    """Return where two columns differ; empty cells are equal."""
    return (new != old) & ~(new.isna() & old.isna())


def _is_fraction(column):
    return pd.api.types.is_float_dtype(column)


def _where(wrong):
    return list(wrong.index[wrong])


def _line(new, old, names, row, column, allowed):
    labels = ", ".join(f"{name} {old[name][row]}" for name in names if name != "settings")
    return f"row {row + 1} ({labels}): {column} is {new[column][row]}, shipped {old[column][row]}{allowed}"
