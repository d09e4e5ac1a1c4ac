"""The recipe of the CT experiment: the networks, then other doses and scanners, and the methods that learn nothing."""

import functools
from pathlib import Path

import pandas as pd
import torch

from ir_helpers import attacks, chest, classical, datasets, network_recipes, networks, robustness
from ir_helpers.files import write_table
from ir_helpers.jobs import run_all

__all__ = ["OUTPUTS", "SCENES", "make"]

_TABLES = ("ct-scenes", "ct-slices", "ct-formulas")
OUTPUTS = (*network_recipes.outputs("ct"), *(f"results/{name}.csv" for name in _TABLES))
# What differs from the setting of the training: the dose, the scanner (known to the reconstruction), or an error of it.
SCENES = {
    "as trained": {},
    "a third of the dose": {"photons": 3e4},
    "a tenth of the dose": {"photons": 1e4},
    "90 views": {"known": {"num_angles": 90}},
    "60 views": {"known": {"num_angles": 60}},
    "axis off by 0.5 pixels": {"unknown": {"axis_shift": 0.5}},
    "axis off by 1 pixel": {"unknown": {"axis_shift": 1.0}},
    "other patients and scanners": {"images": "embedded"},
    "errors counted in the circle": {"circle": True},
}
_KEPT = ("as trained", "other patients and scanners")  # scenes whose slices are listed one by one
_SEARCH = {"steps": 75, "restarts": 3, "rule": "measured"}
# Total variation is attacked by unrolling all its iterations: each step costs as much as a thousand of a network's.
_SHORT_SEARCH = {"steps": 15, "restarts": 2, "rule": "measured"}
_ITERATIONS = 100


def _in_circle(measure):
    """Return the measure of the inscribed circle alone: the corners of the square hold no patient."""

    def of_pixels(estimate, x):
        inside = chest.circle(x.shape[-1], x.device)
        return measure(*(images[..., inside][:, :, None] for images in (estimate, x)))

    return of_pixels


_MEASURES = {
    "rho": robustness.squared_error,
    "psnr": robustness.psnr,
    "ssim": robustness.ssim,
    "worst_region": robustness.worst_region,
    "rho_circle": _in_circle(robustness.squared_error),
    "psnr_circle": _in_circle(robustness.psnr),
}
_FORMULAS = {
    "fbp": {
        window: functools.partial(classical.fbp, window=window) for window in ("ramp", "shepp-logan", "hann")
    },
    "total-variation": {
        f"{weight:g}": functools.partial(classical.total_variation, weight=weight, iterations=_ITERATIONS)
        for weight in (1e-5, 2e-5, 5e-5, 1e-4, 2e-4)
    },
}


def make(out, machine):
    """Make the files of the recipe ``ct`` below the folder ``out``.

    Besides those of ``network_recipes.make``: ``ct-formulas.csv``, the settings tried for filtered back-projection and total
    variation and the one chosen by the PSNR of the validation slices; ``ct-scenes.csv``, each method in each of ``SCENES``
    at ε = 0 and at the experiment's ε, as trained at all its ε; and ``ct-slices.csv``, the same slice by slice in two scenes.
    """
    network_recipes.make("ct", out, machine)
    tried = run_all(_try, [{"name": f"ct-try-{kind}", "kind": kind} for kind in _FORMULAS], machine)
    formulas = pd.DataFrame([row for rows in tried for row in rows])
    chosen = formulas[formulas["chosen"]].set_index("method")["setting"]
    jobs = [{"method": method, "setting": chosen[method]} for method in reversed(_FORMULAS)]
    jobs += [{"method": method, "setting": ""} for method in chest.EXPERIMENT.methods]
    jobs = [{"name": f"ct-scene-{job['method']}", "scene": scene} | job for job in jobs for scene in SCENES]
    measured = run_all(_measure, jobs, machine)
    scenes, slices = (
        pd.DataFrame([row for one in measured for row in one[kind]]) for kind in ("scenes", "slices")
    )
    for name, table in zip(_TABLES, (scenes, slices, formulas), strict=True):
        path = Path(out, "results", f"{name}.csv")
        write_table(path, table, "%.5g")


def _try(job, folder, device):
    """Return one row for each setting of a formula: its PSNR on the validation slices, and whether it is the best."""
    A = networks.make_operator(chest.EXPERIMENT.operator).to(device)
    x = chest.slices("validation").to(device)
    y = chest.EXPERIMENT.data(A, x)
    quality = {
        setting: robustness.psnr(formula(A, y), x).mean().item()
        for setting, formula in _FORMULAS[job["kind"]].items()
    }
    best = max(quality, key=quality.get)
    return [
        {"method": job["kind"], "setting": setting, "psnr": value, "chosen": setting == best}
        for setting, value in quality.items()
    ]


def _measure(job, folder, device):
    """Return the mean errors of one method in one scene at each ε, and those of each slice in the scenes that keep them."""
    f, x, y, positions = _stage(job, folder, device)
    search = _SHORT_SEARCH if job["method"] == "total-variation" else _SEARCH
    known = {"method": job["method"], "scene": job["scene"]}
    delta, scenes, slices = torch.zeros_like(y), [], []
    shares = chest.EXPERIMENT.radii if job["scene"] == "as trained" else (0.0, chest.EXPERIMENT.radius)
    for share in shares:
        if share:
            delta = attacks.worst_case(f, y, x, share * y.flatten(1).norm(dim=1), start=delta, **search)
        with torch.no_grad():
            estimate = f(y + delta)
        values = pd.DataFrame({name: measure(estimate, x).tolist() for name, measure in _MEASURES.items()})
        at = known | {"relative_radius": share}
        scenes.append(at | {"images": len(x)} | values.mean().to_dict() | search)
        if job["scene"] in _KEPT:
            owners = chest.patients()[positions] if job["scene"] == "as trained" else 0
            slices += values.assign(**at, slice=positions, patient=owners).to_dict("records")
    return {"scenes": scenes, "slices": slices}


def _stage(job, folder, device):
    """Return the reconstruction, the slices, their data in the job's scene and their positions in the set."""
    scene = SCENES[job["scene"]]
    operator = chest.EXPERIMENT.operator | scene.get("known", {})
    A = networks.make_operator(operator).to(device)
    scanner = networks.make_operator(operator | scene["unknown"]).to(device) if "unknown" in scene else A
    x = datasets.ct_slices("test", count=16) if "images" in scene else chest.slices("test")
    measure = functools.partial(chest.low_dose, photons=scene.get("photons", chest.PHOTONS))
    y = measure(scanner.to("cpu"), x, torch.Generator().manual_seed(0))
    # Measured all together, so that a slice has the same noise for every method.
    positions = list(range(0, len(x), 3 if job["method"] == "total-variation" else 1))
    x, y = x[positions].to(device), y[positions].to(device)
    f = _reconstruction(job, folder, A)
    if "circle" in scene:
        inside = chest.circle(x.shape[-1], x.device)
        return (lambda data: f(data) * inside), x * inside, y, positions
    return f, x, y, positions


def _reconstruction(job, folder, A):
    if job["method"] in _FORMULAS:
        return functools.partial(_FORMULAS[job["method"]][job["setting"]], A)
    trained = networks.pretrained(network_recipes.weights_path(folder, "ct", job["method"]))
    return networks.Reconstructor(A.to("cpu"), trained.network, start=trained.start).to(A.device).eval()
