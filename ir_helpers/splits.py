"""Which images of a set belong to a split, and which of them are taken."""

import numpy as np

from ir_helpers.checks import positive_int

__all__ = ["check_split", "members", "spread"]


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


def check_split(split):
    """Raise unless `split` is "train" or "test"."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", got {split!r}')
