"""The promise of speed: a batch of slices against a loop over ASTRA's CPU projector, in the same run."""

import os
import time

import astra
import numpy as np
import pytest
import torch

from ir_helpers import operators

BATCH, SIZE, ANGLES = 32, 256, 143
PROMISED = 20
# Interleaved rounds of both. Other programs only ever slow a call down, so the best of each call comes closest to an
# idle machine's: of a whole batch here, of each slice of ASTRA's loop, which last about as long. After the first rounds
# the measurement ends as soon as the promise is kept.
FEWEST_ROUNDS, MOST_ROUNDS, CALLS = 3, 20, 5


@pytest.fixture
def all_threads():
    """All cores, as torch uses by default: `make test` sets one thread for each of its parallel workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("all_threads")
def test_projection_of_a_batch(capsys):
    A = operators.parallel_beam(SIZE, ANGLES)
    x = torch.rand(BATCH, *A.image_shape, generator=torch.Generator().manual_seed(0))
    y = A(x)
    slices, sinograms = x[:, 0].numpy(), y[:, 0].contiguous().numpy()
    volume = astra.create_vol_geom(SIZE, SIZE)
    scan = astra.create_proj_geom(
        "parallel", 1.0, A.data_shape[2], np.linspace(0, np.pi, ANGLES, endpoint=False)
    )
    loop = astra.OpTomo(astra.create_projector("linear", scan, volume))

    # The same numbers first: float32 sums of some hundred terms.
    assert np.allclose(loop.FP(slices[0]) / SIZE, y[0, 0], rtol=1e-4, atol=1e-5)
    assert np.allclose(loop.BP(sinograms[0]) / SIZE, A.T(y)[0, 0], rtol=1e-4, atol=1e-5)

    best = {}

    def measure(name, call, *arguments):
        begin = time.perf_counter()
        call(*arguments)
        best[name] = min(best.get(name, np.inf), time.perf_counter() - begin)

    def best_of_loop(direction):
        return sum(best[direction, k] for k in range(BATCH))

    for done in range(MOST_ROUNDS):
        for _ in range(CALLS):
            measure("A", A, x)
            measure("A.T", A.T, y)
        for k in range(BATCH):
            measure(("FP", k), loop.FP, slices[k])
            measure(("BP", k), loop.BP, sinograms[k])
        forward, backward = best_of_loop("FP"), best_of_loop("BP")
        projection = forward / best["A"]
        both = (forward + backward) / (best["A"] + best["A.T"])
        if done + 1 >= FEWEST_ROUNDS and min(projection, both) >= PROMISED:
            break

    with capsys.disabled():
        measured = {"A": best["A"], "loop FP": forward, "A.T": best["A.T"], "loop BP": backward}
        times = ", ".join(f"{name} {1e3 * value:.0f} ms" for name, value in measured.items())
        print(f"\n{BATCH} images of {SIZE}², {ANGLES} angles, {torch.get_num_threads()} threads: {times}")
        print(
            f"projection {projection:.0f} times, projection and back-projection {both:.0f} times faster than the loop"
        )
    assert projection >= PROMISED
    assert both >= PROMISED
