"""The table ``benchmarks-projection.csv``: A x and Aᵀ y of every package, its time, memory, adjoint and gradient."""

import time

import torch

from ir_helpers import datasets, operators
from peers.installed import Unavailable, foreign
from peers.memory import Peak
from peers.projectors import PROJECTORS
from peers.tables import device_name

__all__ = ["ANGLES", "BATCHES", "SIZES", "measure"]

ANGLES = 143
SIZES = (128, 256)
BATCHES = (1, 8, 32)
FEWEST, ROUNDS = 3, 7  # interleaved between the peers, so that a slow moment meets all of them
ENOUGH = 3.0  # seconds for a peer and direction, after which only the fewest rounds are due
SHORTEST = 0.02  # seconds of a round: short calls are repeated


def measure(device="cpu", *, sizes=SIZES, batches=BATCHES, angles=ANGLES, projectors=PROJECTORS, say=print):
    """Return the rows: one for each size, batch, peer and direction, and one with a ``reason`` where a peer failed."""
    rows = []
    for size in sizes:
        for batch in batches:
            rows += _setting(device, size, batch, angles, projectors)
            say(f"projection, {size}², batch {batch}: {len(rows)} rows")
    return rows


def _setting(device, size, batch, angles, projectors):
    common = {"device": device_name(device), "size": size, "batch": batch, "angles": angles}
    u, v = _white_noise(device, size, batch, angles)
    phantom = datasets.ellipses(1, size).to(device)
    reference = operators.parallel_beam(size, angles, backend="astra")(phantom.cpu())
    peers, facts, rows = {}, {}, []
    for name, make in projectors.items():
        try:
            with foreign():
                with Peak(device) as peak:
                    peer = make(size, angles, batch, device)
                    Au = peer.forward(u).detach()
                    w = (Au / Au.norm() + v / v.norm()).contiguous()
                    adjoint = peer.adjoint(w)
                found = {"mebibytes": peak.mebibytes, "gap": gap(Au, w, u, adjoint), "model": peer.model}
                facts[name] = found | _likeness(peer, phantom, reference, batch) | _gradient(peer, u, w, Au)
            peers[name] = peer
        except Unavailable as reason:
            rows.append(common | {"peer": name, "reason": str(reason)})
    calls = {
        (name, direction): (getattr(peer, direction), given)
        for name, peer in peers.items()
        for direction, given in (("forward", u), ("adjoint", v))
    }
    for (name, direction), seconds in timed(calls, device).items():
        rows.append(
            common | {"peer": name, "direction": direction, "milliseconds": 1e3 * seconds} | facts[name]
        )
    return rows


def timed(calls, device):
    """Return the best time of each call in seconds, over interleaved rounds: other programs only ever slow a call down."""
    times = {key: [] for key in calls}
    for done in range(ROUNDS):
        for key, (call, given) in calls.items():
            if done < FEWEST or sum(times[key]) < ENOUGH:
                times[key].append(_seconds(call, given, device))
    return {key: min(found) for key, found in times.items()}


def _seconds(call, given, device):
    """Return the mean time of as many calls in a row as fill ``SHORTEST``."""
    count, begin = 0, time.perf_counter()
    while True:
        call(given)
        count += 1
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        spent = time.perf_counter() - begin
        if spent > SHORTEST:
            return spent / count


def _white_noise(device, size, batch, angles):
    generator = torch.Generator().manual_seed(0)
    detectors = operators.parallel_beam(size, 1, backend="astra").data_shape[-1]
    shapes = (batch, 1, size, size), (batch, 1, angles, detectors)
    return (torch.randn(shape, generator=generator).to(device) for shape in shapes)


def gap(Au, v, u, adjoint):
    """Return |⟨Au, v⟩ − ⟨u, Aᵀv⟩| / (‖Au‖ ‖v‖), summed in double precision.

    For u and v of white noise ⟨Au, v⟩ is itself small, and an adjoint that is 1 % wrong shows a gap of 10⁻⁵ at 256². So v is half
    Au and half noise.
    """
    Au, v, u, adjoint = (t.detach().double() for t in (Au, v, u, adjoint))
    return ((Au * v).sum() - (u * adjoint).sum()).abs().item() / (Au.norm() * v.norm()).item()


def _likeness(peer, phantom, reference, batch):
    """Return the factor c that brings the peer's data closest to ours, and what remains, relative, of a phantom's data."""
    given = phantom.expand(batch, -1, -1, -1) if peer.batched else phantom
    data = peer.forward(given.contiguous())[:1].detach().cpu().double()
    reference = reference.double()
    scale = (data * reference).sum() / reference.square().sum()
    return {
        "scale": scale.item(),
        "difference": ((data / scale - reference).norm() / reference.norm()).item(),
    }


def _gradient(peer, u, v, Au):
    """Compare the gradient g of ½‖Au − v‖² that PyTorch finds, first with the peer's own Aᵀ(Au − v), then with the truth.

    ``gradient_error`` is ‖g − Aᵀ(Au − v)‖ / ‖Aᵀ(Au − v)‖. The slope of the loss along d is ⟨Au − v, Ad⟩, whatever Aᵀ is:
    ``slope_error`` is |⟨g, d⟩ − ⟨Au − v, Ad⟩| / (‖Au − v‖ ‖Ad‖) for d = u.
    """
    if not peer.autograd:
        return {"autograd": "none"}
    point = u.clone().requires_grad_()
    forward = getattr(peer, "differentiable", peer.forward)
    try:
        with foreign():
            (g,) = torch.autograd.grad(0.5 * (forward(point) - v).square().sum(), point)
    except Unavailable as reason:  # the times are worth having all the same
        return {"autograd": str(reason)}
    own = peer.adjoint((Au - v).detach().contiguous())
    return {
        "autograd": "yes",
        "gradient_error": ((g - own).double().norm() / own.double().norm()).item(),
        "slope_error": gap(Au, Au - v, u, g),
    }
