"""Bad input of any kind, one row each, and the law that no public function is left out.

The modules' own tests have further rows. What is drawn by chance, and numbers of any kind, is in ``test_properties.py``.
"""

import importlib
import inspect
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from test_properties import CASES, NUMBERS
from toys import normal

from ir_helpers import (
    adversaries,
    attacks,
    chest,
    claims,
    classical,
    datasets,
    directions,
    figures,
    ledger,
    networks,
    operators,
    robustness,
    store,
    theory,
    training,
    widgets,
)

A = operators.gaussian(20, (1, 8, 8))
SCAN = operators.parallel_beam(8, 6)
FLAT = operators.gaussian(20, (64,))
ZERO = operators.from_matrix(torch.zeros(20, 64), (1, 8, 8))
MATRIX = A.matrix()
Y, X = normal(2, 20, dtype=torch.float32), normal(2, 1, 8, 8, dtype=torch.float32)
META = Y.to("meta")
BASIS = directions.Basis.of(A)
NET, G = networks.UNet(width=2, levels=2), networks.Perturber(A, networks.UNet(3, 1, width=2, levels=1))
LINEAR = networks.LinearReconstructor(A)
EYE = np.eye(2)
FRAME = figures.images([[np.zeros((2, 2))]])


def f(y):
    return A.T(y)


def exploding(y):
    return A.T(y.abs().sqrt() - y.abs().sqrt().detach())  # its gradient is infinite where y is 0


def zeros():
    return torch.zeros(2, 20), torch.ones(2, 1, 8, 8)


VALUE, TYPE = ValueError, TypeError
# What is called, with what: the call, the error, words of its text. The argument's name is among them.
BAD = {
    "operators.gaussian: shape a string": (lambda: operators.gaussian(4, "8x8"), VALUE, "image_shape .*'8x8'"),
    "operators.gaussian: seed true": (lambda: operators.gaussian(4, (1, 2, 2), seed=True), VALUE, "seed .*True"),
    "operators.dct_block: half": (lambda: operators.dct_block(2.5, (1, 8, 8)), VALUE, "num_measurements .*2.5"),
    "operators.parallel_beam: size true": (lambda: operators.parallel_beam(True, 3), VALUE, "image_size .*True"),
    "operators.parallel_beam: offset in degrees": (lambda: operators.parallel_beam(8, 3, angle_offset=45), VALUE, "angle_offset .*45"),
    "operators.parallel_beam: shift off the detector": (lambda: operators.parallel_beam(8, 3, axis_shift=-13), VALUE, "axis_shift .*-13"),
    "operators.from_matrix: a list": (lambda: operators.from_matrix([[1.0, 2.0]], (1, 1, 2)), TYPE, "matrix .*list"),
    "operators.from_matrix: words": (lambda: operators.from_matrix(np.array([["a"]]), (1, 1, 1)), TYPE, "matrix .*<U1"),
    "operators.from_matrix: complex": (lambda: operators.from_matrix(np.ones((1, 4), complex), (1, 2, 2)), TYPE, "matrix .*complex"),
    "operators.from_matrix: no rows": (lambda: operators.from_matrix(np.ones((0, 4)), (1, 2, 2)), VALUE, r"matrix .*\(0, 4\)"),
    "operators.from_matrix: no numbers": (lambda: operators.from_matrix(MATRIX.to("meta"), (1, 8, 8)), TYPE, "matrix .*meta"),
    "operators.with_spectrum: ragged": (lambda: operators.with_spectrum([1, [2]], (1, 2, 2)), TYPE, "singular_values .*list"),
    "operators.with_spectrum: infinite": (lambda: operators.with_spectrum([1, math.inf], (1, 2, 2)), VALUE, "singular_values .*infinite"),
    "operators.LinearOperator: a matrix": (lambda: operators.LinearOperator(MATRIX, (1, 8, 8), (20,)), TYPE, "backend .*Tensor.*from_matrix"),
    "operators.LinearOperator: to a number": (lambda: A.to(3), TYPE, "device_or_dtype .*3"),
    "operators.LinearOperator: on another device": (lambda: A.T(META), TYPE, "y is on the device meta"),
    "operators.adjoint_gap: a matrix": (lambda: operators.adjoint_gap(MATRIX), TYPE, "A must be .*Tensor"),
    "operators.operator_norm: a function": (lambda: operators.operator_norm(f), TYPE, "A must be .*function"),
    "classical.pseudo_inverse: a matrix": (lambda: classical.pseudo_inverse(MATRIX, Y), TYPE, "A must be .*Tensor"),
    "classical.pseudo_inverse: rtol a word": (lambda: classical.pseudo_inverse(A, Y, rtol="1e-6"), VALUE, "rtol .*'1e-6'"),
    "classical.tikhonov: turned round": (lambda: classical.tikhonov(Y, A, 0.1), TYPE, "A must be .*Tensor"),
    "classical.tikhonov: weight true": (lambda: classical.tikhonov(A, Y, True), VALUE, "weight .*True"),
    "classical.fbp: one view short": (lambda: classical.fbp(SCAN, torch.ones(1, 1, 5, 12)), VALUE, r"y .*\(1, 1, 5, 12\)"),
    "classical.smooth_inverse: doubles": (lambda: classical.smooth_inverse(A, Y.double()), TYPE, "y is torch.float64"),
    "classical.smooth_inverse: a matrix": (lambda: classical.smooth_inverse(MATRIX, Y), TYPE, "A must be .*Tensor"),
    "classical.smooth_inverse: flat images": (lambda: classical.smooth_inverse(FLAT, Y), VALUE, r"A must .*\(C, H, W\).*\(64,\)"),
    "classical.total_variation: nothing measured": (lambda: classical.total_variation(ZERO, Y, 0.1), VALUE, "A maps every image to 0"),
    "classical.total_variation: complex": (lambda: classical.total_variation(A, Y + 0j, 0.1), TYPE, "y must be .*complex"),
    "datasets.with_noise: no seed": (lambda: datasets.with_noise(Y, 0.1, seed=None), VALUE, "seed .*None"),
    "datasets.with_noise: no data": (lambda: datasets.with_noise(torch.ones(2, 0), 0.1), VALUE, r"y .*\(2, 0\)"),
    "datasets.ellipses: no seed": (lambda: datasets.ellipses(1, 8, seed=None), VALUE, "seed .*None"),
    "datasets.ellipses: seed negative": (lambda: datasets.ellipses(1, 8, seed=-1), VALUE, "seed .*-1"),
    "datasets.low_dose: no operator": (lambda: datasets.low_dose(MATRIX, X, 1e4, torch.Generator()), TYPE, "A must be .*Tensor"),
    "datasets.low_dose: far below black": (lambda: datasets.low_dose(SCAN, X - 1e3, 1e4, torch.Generator()), VALUE, "photons and x .*counts"),
    "chest.slices: part": (lambda: chest.slices("tests"), VALUE, "part must be .*'tests'"),
    "chest.circle: size": (lambda: chest.circle(0), VALUE, "size .* 0"),
    "chest.low_dose: no images": (lambda: chest.low_dose(SCAN, [X], torch.Generator()), TYPE, "images must be .*list"),
    "chest.low_dose: a seed": (lambda: chest.low_dose(SCAN, X, 3), TYPE, "generator must be .*int"),
    "datasets.to_hounsfield: a list": (lambda: datasets.to_hounsfield([0.5]), TYPE, "x must be .*list"),
    "datasets.flip_and_shift: flat": (lambda: datasets.flip_and_shift(Y, torch.Generator()), VALUE, r"images .*\(2, 20\)"),
    "datasets.digits: count true": (lambda: datasets.digits("test", count=True), VALUE, "count .*True"),
    "datasets.faces: split none": (lambda: datasets.faces(None), VALUE, "split .*None"),
    "datasets.ct_slices: count": (lambda: datasets.ct_slices("test", count=0), VALUE, "count .* 0"),
    "datasets.ct_patients: split": (lambda: datasets.ct_patients("all"), VALUE, "split .*'all'"),
    "datasets.on_disk: an array": (lambda: datasets.on_disk(np.ones(3)), TYPE, "path must be .*ndarray"),
    "networks.UNet: a list": (lambda: NET([1.0]), TYPE, "image must be .*list"),
    "networks.UNet: bytes": (lambda: NET((255 * X).to(torch.uint8)), TYPE, "image must be .*uint8"),
    "networks.UNet: doubles": (lambda: NET(X.double()), TYPE, "image is torch.float64"),
    "networks.UNet: no pixels": (lambda: NET(X[..., :0]), VALUE, r"image .*\(2, 1, 8, 0\)"),
    "networks.Reconstructor: a function": (lambda: networks.Reconstructor(A, f), TYPE, "network must be .*function"),
    "networks.Reconstructor: a list": (lambda: networks.Reconstructor(A, NET)([1.0]), TYPE, "y must be .*list"),
    "networks.Reconstructor: on another device": (lambda: networks.Reconstructor(A, NET)(META), TYPE, "y is on the device meta"),
    "networks.LinearReconstructor: doubles": (lambda: LINEAR(Y.double()), TYPE, "y is torch.float64"),
    "networks.Perturber: a word": (lambda: networks.Perturber(A, "unet"), TYPE, "network must be .*str"),
    "networks.Perturber: an array": (lambda: G(Y.numpy(), X), TYPE, "y must be .*ndarray"),
    "networks.conv_norm: a matrix": (lambda: networks.conv_norm(MATRIX), TYPE, "layer must be .*Tensor"),
    "networks.make_operator: unknown": (lambda: networks.make_operator({"factory": "radon"}), VALUE, "operator must name .*radon"),
    "networks.pretrained: unknown": (lambda: networks.pretrained("mnist/best"), store.DataError, "mnist/best"),
    "networks.save: a function": (lambda: networks.save("mine", f, {}), TYPE, "f must be .*function"),
    "attacks.project: radius complex": (lambda: attacks.project(Y, torch.tensor(1j)), TYPE, "radius .*complex64"),
    "attacks.project: radius of booleans": (lambda: attacks.project(Y, torch.tensor([True, False])), TYPE, "radius .*bool"),
    "attacks.project: radius without numbers": (lambda: attacks.project(Y, torch.ones(2, device="meta")), TYPE, "radius .*meta"),
    "attacks.random_perturbation: no seed": (lambda: attacks.random_perturbation(Y, 1.0, seed=None), VALUE, "seed .*None"),
    "attacks.worst_case: f a matrix": (lambda: attacks.worst_case(MATRIX, Y, X, 1.0), TYPE, "reconstruct must be .*Tensor"),
    "attacks.worst_case: f gives an array": (lambda: attacks.worst_case(lambda y: f(y).detach().numpy(), Y, X, 1.0), TYPE, "reconstruct must return .*ndarray"),
    "attacks.worst_case: seed a word": (lambda: attacks.worst_case(f, Y, X, 1.0, seed="0"), VALUE, "seed .*'0'"),
    "attacks.worst_case: radius true": (lambda: attacks.worst_case(f, Y, X, True), TYPE, "radius .*bool"),
    "attacks.worst_case: gradient infinite": (lambda: attacks.worst_case(exploding, *zeros(), 0.0), VALUE, "reconstruct has a gradient .*infinite"),
    "attacks.worst_case_image: a matrix": (lambda: attacks.worst_case_image(f, MATRIX, X, 1.0), TYPE, "A must be .*Tensor"),
    "attacks.worst_case_image: f a word": (lambda: attacks.worst_case_image("f", A, X, 1.0), TYPE, "reconstruct must be .*str"),
    "attacks.exact_worst_case: a function": (lambda: attacks.exact_worst_case(f, Y, X, 1.0), VALUE, "matrix must be .*function"),
    "attacks.check_attack: f a word": (lambda: attacks.check_attack("f", Y, X, Y), TYPE, "reconstruct must be .*str"),
    "attacks.check_attack: seed": (lambda: attacks.check_attack(f, Y, X, Y, seed=-1), VALUE, "seed .*-1"),
    "robustness.squared_error: two types": (lambda: robustness.squared_error(X.double(), X), TYPE, "estimate is torch.float64"),
    "robustness.squared_error: beyond float32": (lambda: robustness.squared_error(1e30 * X, X), VALUE, "estimate and x leaves the range"),
    "robustness.psnr: range complex": (lambda: robustness.psnr(X, X, data_range=1j), VALUE, "data_range .*1j"),
    "robustness.ssim: flat": (lambda: robustness.ssim(Y, Y), VALUE, r"x must have shape \(B, C, H, W\).*\(2, 20\)"),
    "robustness.ssim: range far too small": (
        lambda: robustness.ssim(*2 * [normal(1, 1, 11, 11, dtype=torch.float32)], data_range=1e-30), VALUE, "data_range is 1e-30"),
    "robustness.worst_region: flat": (lambda: robustness.worst_region(Y, Y, size=2), VALUE, r"size .*\(B, C, H, W\).*\(2, 20\)"),
    "robustness.curve: a matrix": (lambda: robustness.curve(f, MATRIX, X, [1.0]), TYPE, "A must be .*Tensor"),
    "robustness.curve: f a matrix": (lambda: robustness.curve(MATRIX, A, X, [1.0]), TYPE, "reconstruct must be .*Tensor"),
    "robustness.curve: seed": (lambda: robustness.curve(f, A, X, [1.0], seed=1.5), VALUE, "seed .*1.5"),
    "robustness.curve: scale of doubles": (lambda: robustness.curve(f, A, X, [1.0], relative_to=torch.ones(2).double()), TYPE, "relative_to is torch.float64"),
    "robustness.curve: a complex radius": (lambda: robustness.curve(f, A, X, [np.complex64(1)]), VALUE, "radii .*complex64"),
    "directions.Basis: a matrix": (lambda: directions.Basis.of(MATRIX), TYPE, "A must be .*Tensor"),
    "directions.energy: an operator": (lambda: directions.energy(A, Y), TYPE, "basis must be .*LinearOperator"),
    "directions.energy: doubles": (lambda: directions.energy(BASIS, Y.double()), TYPE, "delta is torch.float64"),
    "directions.energy: beyond float32": (lambda: directions.energy(BASIS, 1e30 * Y), VALUE, "delta leaves the range"),
    "directions.response: f a matrix": (lambda: directions.response(MATRIX, BASIS, Y), TYPE, "reconstruct must be .*Tensor"),
    "adversaries.Adversary: radius true": (lambda: adversaries.Adversary(True), VALUE, "radius .*True"),
    "adversaries.Adversary: seed": (lambda: adversaries.Adversary(1.0).begin_epoch("1"), VALUE, "seed .*'1'"),
    "adversaries.relative: true": (lambda: adversaries.relative(True), VALUE, "share .*True"),
    "adversaries.PerSample: a list": (lambda: adversaries.PerSample(1.0, 1).perturb(f, [1.0], X), TYPE, "y must be .*list"),
    "adversaries.Noise: on another device": (lambda: adversaries.Noise(1.0).perturb(f, META, X), TYPE, "y is on the device meta"),
    "adversaries.Common: on another device": (lambda: adversaries.Common(1.0).perturb(f, META, X), TYPE, "y is on the device meta"),
    "adversaries.Generator: a function": (lambda: adversaries.Generator(f, 1.0), TYPE, "network must be .*function"),
    "training.Parseval: beta true": (lambda: training.Parseval(True), VALUE, "beta .*True"),
    "training.fit: lam true": (lambda: training.fit(LINEAR, A, X, epochs=1, lam=True), VALUE, "lam .*True"),
    "training.fit: checkpoint a number": (lambda: training.fit(LINEAR, A, X, epochs=1, checkpoint=3), TYPE, "checkpoint must be .*int"),
    "training.resume: checkpoint a number": (lambda: training.resume(3, LINEAR, A, X), TYPE, "checkpoint must be .*int"),
    "theory.common_gains: ragged": (lambda: theory.common_gains([1, [2]], 1.0, 1.0), TYPE, "singular_values .*list"),
    "theory.common_gains: a gradient": (lambda: theory.common_gains(torch.ones(2, requires_grad=True), 1.0, 1.0), TYPE, "singular_values .*Tensor"),
    "theory.tikhonov_gains: nearly zero": (lambda: theory.tikhonov_gains([1.0, 1e-310], 0.0), VALUE, "singular_values .*round them to 0"),
    "theory.per_sample_gains: booleans": (lambda: theory.per_sample_gains(np.array([True]), 1.0), TYPE, "singular_values .*bool"),
    "theory.robust_inverse: no numbers": (lambda: theory.robust_inverse(MATRIX.to("meta"), [1.0]), TYPE, "matrix .*Tensor"),
    "theory.common_cost: a function": (lambda: theory.common_cost(f, EYE, 1.0, 1.0), TYPE, "B must be .*function"),
    "theory.per_sample_bound: ragged": (lambda: theory.per_sample_bound(EYE, [[1], [1, 2]], 1.0), TYPE, "matrix .*list"),
    "figures.panels: no rows": (lambda: figures.panels(0), VALUE, "rows .* 0"),
    "figures.panels: height NaN": (lambda: figures.panels(height=math.nan), VALUE, "height .*nan"),
    "figures.images: none": (lambda: figures.images([]), VALUE, r"rows .*\[\]"),
    "figures.images: a row of none": (lambda: figures.images([[]]), VALUE, r"rows .*\[\[\]\]"),
    "figures.images: window": (lambda: figures.images([[X[0]]], window=(0.0, math.nan)), VALUE, "window .*nan"),
    "figures.curves: none": (lambda: figures.curves({}), VALUE, r"tables .*\{\}"),
    "figures.curves: no such column": (lambda: figures.curves({"plain": pd.DataFrame({"radius": [1.0]})}), VALUE, "tables.*'plain'.*relative_radius"),
    "figures.hounsfield_window: width 0": (lambda: figures.hounsfield_window(0, 0), VALUE, "width .* 0"),
    "figures.hounsfield_window: centre a word": (lambda: figures.hounsfield_window("lung", 1500), VALUE, "centre .*'lung'"),
    "figures.png: an array": (lambda: figures.png(np.zeros((2, 2))), TYPE, "figure must be .*ndarray"),
    "widgets.explorer: arrays": (lambda: widgets.explorer([np.zeros((2, 2))], ["0"], "ε"), TYPE, "frames must be .*ndarray"),
    "widgets.explorer: start a fraction": (lambda: widgets.explorer([FRAME], ["0"], "ε", start=0.5), VALUE, "start .*0.5"),
    "widgets.live: no function": (lambda: widgets.live(FRAME, [["0"]], ["ε"]), TYPE, "frame must .*Figure"),
    "widgets.live: labels": (lambda: widgets.live(lambda v: FRAME, [["0"]], ["ε", "m"]), VALUE, "labels .* 1, 2 and 1"),
    "widgets.explorer_grid: start": (lambda: widgets.explorer_grid([[FRAME]], ["0"], ["1"], "a", "b", start=(0, 1)), VALUE, "start .* 1"),
    "claims.headline: no row": (lambda: claims.headline({"claim": "theorem"}), VALUE, "row .*'id'"),
    "ledger.number: NaN": (lambda: ledger.number(math.nan), VALUE, "value .*nan"),
    "ledger.number: a word": (lambda: ledger.number("1"), VALUE, "value .*'1'"),
    "ledger.verdict: figures a list": (lambda: ledger.verdict("theorem", "holds", "p", [1.0]), VALUE, r"figures .*\[1.0\]"),
    "ledger.verdict: a figure of two": (lambda: ledger.verdict("theorem", "holds", "p", {"n": Y}), VALUE, "figures .*tensor"),
    "ledger.note: two numbers": (lambda: ledger.note(error=np.ones(2)), TYPE, "numbers .*error .*(2,).*ndarray"),
    "store.checked: unknown": (lambda: store.checked("images/none.npz"), store.DataError, "images/none.npz is not listed"),
    "store.load_table: a number": (lambda: store.load_table(3), store.DataError, "results/3.csv is not listed"),
    "store.load_arrays: up": (lambda: store.load_arrays("../README.md"), store.DataError, r"\.\./README.md is not listed"),
    "store.load_weights: a list": (lambda: store.load_weights(["a"]), TYPE, "name must be .*list"),
    "store.save_weights: infinite": (lambda: store.save_weights("a", {"w": Y / 0}, {}), VALUE, r"tensors\['w'\]"),
    "store.sha256: no file": (lambda: store.sha256("none.npz"), FileNotFoundError, "none.npz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refuses(name):
    call, kind, text = BAD[name]
    with pytest.raises(kind, match=text):
        call()


# ---- nothing is left out

EXEMPT = {
    "attacks.AttackCheck": "made by check_attack",
    "attacks.AttackWarning": "a warning",
    "directions.Response": "made by response",
    "figures.use_style": "takes nothing",
    "ledger.Verdict": "made by verdict",
    "ledger.collect": "reads the notebooks of the build",
    "ledger.count": "takes the rows that collect gives",
    "chest.patients": "takes nothing",
    "ledger.full_form": "takes the rows that collect gives",
    "ledger.short_form": "takes the rows that collect gives",
    "networks.list_pretrained": "takes nothing",
    "store.DataError": "an error",
    "store.budget": "gives back what it takes",
    "store.manifest": "takes nothing",
    "training.Diverged": "an error",
}


def public(root):
    """The functions and classes of the modules that the page on the package lists, as module.name."""
    names = set()
    for module in re.findall(
        r"automodule:: ir_helpers\.(\w+)", (root / "book/api.md").read_text(encoding="utf-8")
    ):
        loaded = importlib.import_module(f"ir_helpers.{module}")
        own = [
            n
            for n, v in vars(loaded).items()
            if getattr(v, "__module__", "") == loaded.__name__ and n[0] != "_"
        ]
        for name in getattr(loaded, "__all__", own):
            value = getattr(loaded, name)
            names |= {f"{module}.{name}"} if inspect.isfunction(value) or inspect.isclass(value) else set()
    return names


def test_every_public_function_meets_bad_input(root):
    rows = {name.split(":")[0] for name in BAD} | {name.split(",")[0] for name in [*CASES, *NUMBERS]}
    assert rows | EXEMPT.keys() == public(root)
    assert not rows & EXEMPT.keys()


def arguments(value):
    """The names of the arguments of a function, or of the methods of a class."""
    methods = (
        [value] if inspect.isfunction(value) else [m for _, m in inspect.getmembers(value, inspect.isroutine)]
    )
    found = set()
    for method in methods:
        try:
            found |= inspect.signature(method).parameters.keys()
        except ValueError:  # of a built-in type
            continue
    return found


@pytest.mark.parametrize("name", [name for name, row in BAD.items() if row[1] in (VALUE, TYPE)])
def test_the_words_begin_with_an_argument(name):
    module, function = name.split(":")[0].split(".")
    known = arguments(getattr(importlib.import_module(f"ir_helpers.{module}"), function))
    assert re.match(r"\w+", BAD[name][2])[0] in known
