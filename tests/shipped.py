"""Numbers of trained networks, computed anew on images that come with the book, beside those of their tables."""

from dataclasses import dataclass

import torch

from ir_helpers import attacks, chest, datasets, robustness
from ir_helpers.catalogue import EXPERIMENTS
from ir_helpers.files import DataError

# Weights are stored as they were measured, so what remains is rounding, on another processor. (Seen: 1e-5.)
CLEAN = (0.999, 1.001)
# A GPU rounded the deeper networks of CT more coarsely, and few photons are drawn. (Seen: 1.7 %.)
SLICE = (0.97, 1.03)
# A short search finds a little less than the long one of the tables, or, by luck, a little more.
ATTACKED = (0.90, 1.03)
# Of the attacked sample; the tables list 50 images or more, attacked for 100 steps, three times.
IMAGES = 12
# A search gives a lower bound, so where a short one finds too little, a longer one may be asked. (Needed by mnist-dct/plain.)
SEARCHES = ({"steps": 40}, {"steps": 60, "restarts": 2})
SLICES = 2  # of the CT slices that come with the book
SCENE = "other patients and scanners"  # where the tables of CT list them


@dataclass(frozen=True)
class Recheck:
    """A number of a table, and the same computed anew."""

    table: str
    what: str
    found: float
    listed: float
    band: tuple

    @property
    def holds(self):
        """Whether the number was found again."""
        low, high = self.band
        return low * self.listed <= self.found <= high * self.listed


def rechecks(name, f, tables):
    """Return what can be computed anew of the network ``name``, such as "mnist-gaussian/plain".

    ``tables(stem)`` gives a table such as "mnist-gaussian-images", or None where the book has none. An experiment with the
    same files as those of the book needs no line here.
    """
    folder, method = name.split("/")
    experiment = EXPERIMENTS[folder]
    sets = {"": lambda: experiment.images("test")}
    sets |= {f"-{other}": images for other, images in experiment.further.items()}
    found = []
    for ending, images in sets.items():
        try:
            x = images()
        except DataError:  # of a larger set, which does not come with the book
            continue
        found += _clean(f, experiment, x, method, f"{folder}{ending}", tables)
        found += _attacked(f, experiment, x, method, f"{folder}{ending}-images", tables)
    return found + _slices(f, experiment, method, f"{folder}-slices", tables)


def _clean(f, experiment, x, method, stem, tables):
    """The mean squared error without an attack, over all images of the table."""
    table = tables(stem)
    if table is None:
        return []
    rows = table.query("method == @method and radius == 0 and seed == 0")
    row = rows[rows["measurements"] == f.operator.data_shape[-1]].iloc[0]
    assert len(x) == row["images"], f"{stem} was measured on {row['images']} images, the book has {len(x)}"
    with torch.no_grad():
        estimate = torch.cat([f(part) for part in experiment.data(f.operator, x).split(250)])
    error = robustness.squared_error(estimate, x).mean().item()
    return [Recheck(stem, "clean error", error, row["rho"], CLEAN)]


def _attacked(f, experiment, x, method, stem, tables):
    """The mean worst-case error of the first images."""
    table = tables(stem)
    if table is None:
        return []
    rows = table[(table["method"] == method) & (table["image"] < IMAGES)].sort_values("image")
    x = x[rows["image"].tolist()]
    y = experiment.data(f.operator, x)
    radius = experiment.radius * (y.flatten(1).norm(dim=1) if experiment.relative else 1.0)
    for search in SEARCHES:
        delta = attacks.worst_case(f, y, x, radius, seed=1, **search)
        with torch.no_grad():
            error = robustness.squared_error(f(y + delta), x).mean().item()
        recheck = Recheck(stem, "worst-case error", error, rows["error"].mean(), ATTACKED)
        if error >= ATTACKED[0] * recheck.listed:
            break
    return [recheck]


def _slices(f, experiment, method, stem, tables):
    """The squared error of single CT slices. Noise is drawn for all slices together, as it was for the table."""
    table = tables(stem)
    if table is None:
        return []
    rows = table.query("method == @method and scene == @SCENE and relative_radius == 0")
    x = datasets.ct_slices("test", count=16)
    y = chest.low_dose(f.operator, x, torch.Generator().manual_seed(0))
    rows = rows[rows["slice"] < SLICES].sort_values("slice")
    positions = rows["slice"].tolist()
    with torch.no_grad():
        errors = robustness.squared_error(f(y[positions]), x[positions]).tolist()
    return [
        Recheck(stem, f"error of slice {position}", error, listed, SLICE)
        for position, error, listed in zip(positions, errors, rows["rho"], strict=True)
    ]
