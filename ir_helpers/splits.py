"""Which images of a set belong to a split, and which of them are taken."""

import numpy as np

from ir_helpers.checks import positive_int

__all__ = ["check_split", "few_each", "members", "spread"]


def members(ids, split, count=None):
    """Return the positions of a split: in the order of their names, ids 0, 5, 10, ... are for the test."""
    in_test = np.isin(ids, np.unique(ids)[::5])
    chosen = np.flatnonzero(in_test if split == "test" else ~in_test)
    return chosen[spread(len(chosen), count)]


def spread(available, count):
    """Return `count` positions out of `available`, each in the middle of its share; None takes all."""
    if count is None:
        return np.arange(available)
    count = positive_int("count", count)
    if count > available:
        raise ValueError(f"count is {count}, but this split has {available} images: pass at most {available}")
    return (2 * np.arange(count) + 1) * available // (2 * count)


def few_each(ids, most):
    """Return positions of at most `most` items of each id, spread evenly: many slices of one patient are much alike."""
    groups = [np.flatnonzero(ids == each) for each in np.unique(ids)]
    return np.sort(np.concatenate([group[spread(len(group), min(most, len(group)))] for group in groups]))


def check_split(split, known=("train", "test")):
    """Raise unless `split` is one of the known ones."""
    if split not in known:
        *others, last = (f'"{name}"' for name in known)
        raise ValueError(f"split must be {', '.join(others)} or {last}, got {split!r}")
