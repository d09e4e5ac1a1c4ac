"""Every function of batches, on arrays of any kind: a right result, or an error that names the argument.

The oracles: the same numbers in plain memory, the same in float64, and the same scaled by a power of two, which rounds
nothing. Images have 8 × 8 pixels, two in a batch.
"""

import functools
import math
import re
import warnings
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from ir_helpers import (
    adversaries,
    attacks,
    classical,
    datasets,
    directions,
    figures,
    ledger,
    networks,
    operators,
    robustness,
    theory,
    training,
)
from ir_helpers.store import DataError

set_hypothesis_home_dir(Path(__file__).resolve().parents[1] / "_build" / ".hypothesis")
few, more = (settings(deadline=None, derandomize=True, database=None, max_examples=n) for n in (8, 25))
IMAGE, DATA, SCAN = (1, 8, 8), (20,), (1, 6, 12)
DOCUMENTED = (ValueError, TypeError, DataError)


def known(dtype):
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


@functools.cache
def operator(dtype, kind="gaussian"):
    dtype = known(dtype)
    A = operators.parallel_beam(8, 6) if kind == "scan" else operators.gaussian(20, IMAGE)
    return A.to(dtype)


def like(y, shape, seed=1):
    """Numbers of the size of y, in another shape."""
    rng = np.random.default_rng(seed)
    fixed = torch.from_numpy(rng.standard_normal((len(y), *shape))).to(y.dtype)
    return (fixed * size_of(y)).to(y.device)


def size_of(y):
    """The power of two that ``scaled`` multiplied with: the largest entry of a plain batch is between 1 and 2."""
    if y.is_meta or not y.is_floating_point() or not y.numel():
        return 1.0
    peak = y.detach().abs().max().item()
    return 2.0 ** (math.frexp(peak)[1] - 1) if peak > 0 and math.isfinite(peak) else 1.0


@functools.cache
def network(dtype, kind):
    torch.manual_seed(0)
    dtype, A = known(dtype), operator(dtype)
    if kind == "linear":
        f = networks.LinearReconstructor(A)
        f.requires_grad_(False).matrix.copy_(like(torch.ones(64, 1), DATA)[:, :20])
        return f
    if kind == "unet":
        return networks.UNet(width=2, levels=2).to(dtype).requires_grad_(False)
    convolution = torch.nn.Conv2d(3 if kind == "perturber" else 1, 1, 3, padding=1, bias=False).to(dtype)
    make = networks.Perturber if kind == "perturber" else networks.Reconstructor
    return make(A, convolution).requires_grad_(kind == "perturber")


def inverse(y):
    """A linear reconstruction that checks nothing, so that errors come from what is tested."""
    if y.shape[1:] != DATA:
        raise ValueError(f"y must have {DATA} data a sample, got {tuple(y.shape)}")
    return (y.flatten(1) @ operator(y.dtype).matrix().to(y.dtype)).reshape(-1, *IMAGE)


def relative(y):
    return 0.1 * size_of(y)


def attacked(adversary):
    def perturb(y):
        adversary.index = torch.arange(len(y))
        adversary.begin_epoch(0)
        return adversary.perturb(inverse, y, like(y, IMAGE))

    return perturb


def stored(y):
    return attacked(adversaries.Stored(relative, 2))(y)


def generator(y):
    G = network(y.dtype, "perturber")
    return adversaries.Generator(G, relative).propose(inverse, y).detach()


def checked(y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", attacks.AttackWarning)
        delta = attacks.random_perturbation(y, relative(y))
        found = attacks.check_attack(inverse, y, like(y, IMAGE), delta, steps=2, directions=2)
    return torch.tensor(found[:4], dtype=torch.float64)


def curve(x):
    A, radii = operator(x.dtype), [0.1 * size_of(x)]
    return torch.tensor(robustness.curve(inverse, A, x, radii, steps=2)[["rho"]].to_numpy())


def basis(dtype):
    return directions.Basis.of(operator(dtype))


def rng():
    return torch.Generator().manual_seed(0)


class Case(NamedTuple):
    """A function of one batch: the argument's name, its shape, and the power of c in f(c·v) = cᵖ f(v); None: none."""

    name: str
    call: object
    shape: tuple
    power: int | None = 1


CASES = {
    "operators.LinearOperator": Case("x", lambda x: operator(x.dtype)(x), IMAGE),
    "operators.gaussian": Case("y", lambda y: operator(y.dtype).T(y), DATA),
    "operators.parallel_beam": Case("x", lambda x: operator(x.dtype, "scan")(x), IMAGE),
    "operators.parallel_beam, adjoint": Case("y", lambda y: operator(y.dtype, "scan").T(y), SCAN),
    "operators.parallel_beam, ASTRA": Case("x", lambda x: operators.parallel_beam(8, 6, backend="astra")(x), IMAGE),
    "operators.from_matrix": Case("x", lambda x: operators.from_matrix(torch.eye(64, dtype=known(x.dtype)), IMAGE)(x), IMAGE),
    "operators.with_spectrum": Case("y", lambda y: operators.with_spectrum([1, 2, 4], IMAGE).to(known(y.dtype)).T(y), (3,)),
    "operators.dct_block": Case("y", lambda y: operators.dct_block(20, IMAGE).to(known(y.dtype)).T(y), DATA),
    "classical.pseudo_inverse": Case("y", lambda y: classical.pseudo_inverse(operator(y.dtype), y), DATA),
    "classical.fbp": Case("y", lambda y: classical.fbp(operator(y.dtype, "scan"), y), SCAN),
    "classical.tikhonov": Case("y", lambda y: classical.tikhonov(operator(y.dtype), y, 0.1), DATA),
    "classical.smooth_inverse": Case("y", lambda y: classical.smooth_inverse(operator(y.dtype), y), DATA),
    "classical.total_variation": Case(
        "y", lambda y: classical.total_variation(operator(y.dtype), y, 0.1 * size_of(y), iterations=20), DATA),
    "datasets.with_noise": Case("y", lambda y: datasets.with_noise(y, 0.1), DATA),
    "datasets.flip_and_shift": Case("images", lambda x: datasets.flip_and_shift(x, rng()), IMAGE),
    "datasets.low_dose": Case("x", lambda x: datasets.low_dose(operator(x.dtype, "scan"), x, 1e4, rng()), IMAGE, None),
    "networks.UNet": Case("image", lambda x: network(x.dtype, "unet")(x), IMAGE, None),
    "networks.LinearReconstructor": Case("y", lambda y: network(y.dtype, "linear")(y), DATA),
    "networks.Reconstructor": Case("y", lambda y: network(y.dtype, "reconstructor")(y), DATA),
    "networks.Perturber": Case("y", lambda y: network(y.dtype, "perturber")(y, like(y, IMAGE)).detach(), DATA),
    "attacks.project": Case("delta", lambda y: attacks.project(y, relative(y)), DATA),
    "attacks.random_perturbation": Case("y", lambda y: attacks.random_perturbation(y, relative(y)), DATA),
    "attacks.worst_case": Case(
        "y", lambda y: attacks.worst_case(inverse, y, like(y, IMAGE), relative(y), steps=3, restarts=2), DATA),
    "attacks.worst_case, target": Case(
        "target|y", lambda x: attacks.worst_case(inverse, like(x, DATA), x, relative(x), steps=3), IMAGE),
    "attacks.worst_case_image": Case(
        "x", lambda x: attacks.worst_case_image(inverse, operator(x.dtype), x, relative(x), steps=3), IMAGE),
    "attacks.exact_worst_case": Case(
        "y|matrix", lambda y: attacks.exact_worst_case(operator(y.dtype).matrix().T.to(y), y, like(y, IMAGE), relative(y)), DATA),
    "attacks.check_attack": Case("y", checked, DATA, 2),
    "robustness.squared_error": Case("x|estimate", lambda x: robustness.squared_error(like(x, IMAGE), x), IMAGE, 2),
    "robustness.squared_error, estimate": Case("x|estimate", lambda x: robustness.squared_error(x, like(x, IMAGE)), IMAGE, 2),
    "robustness.psnr": Case("x|estimate", lambda x: robustness.psnr(like(x, IMAGE), x, data_range=size_of(x)), IMAGE, 0),
    "robustness.ssim": Case("x|estimate", lambda x: robustness.ssim(like(x, (1, 12, 12)), x, data_range=size_of(x)), (1, 12, 12), 0),
    "robustness.worst_region": Case("x|estimate|size", lambda x: robustness.worst_region(like(x, IMAGE), x, size=3), IMAGE),
    "robustness.curve": Case("x", curve, IMAGE, 2),
    "directions.energy": Case("delta", lambda y: directions.energy(basis(y.dtype), y), DATA, 2),
    "directions.response": Case("y", lambda y: directions.response(inverse, basis(y.dtype), y).gains, DATA, 0),
    "adversaries.relative": Case("y", lambda y: adversaries.relative(0.1)(y), DATA),
    "adversaries.Noise": Case("y", lambda y: attacked(adversaries.Noise(relative))(y), DATA),
    "adversaries.PerSample": Case("y", lambda y: attacked(adversaries.PerSample(relative, 2))(y), DATA),
    "adversaries.Stored": Case("y", stored, DATA),
    "adversaries.Common": Case("y", lambda y: attacked(adversaries.Common(relative))(y), DATA),
    "adversaries.Generator": Case("y", generator, DATA),
}  # fmt: skip
# Their batches may have any shape but an empty one.
ANY_SHAPE = [
    "attacks.project",
    "attacks.random_perturbation",
    "datasets.with_noise",
    "datasets.flip_and_shift",
]
ANY_SHAPE += ["adversaries.relative", "adversaries.Noise", "attacks.exact_worst_case"]
HOMOGENEOUS = {name: case for name, case in CASES.items() if case.power is not None}
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def batch(shape, seed, dtype):
    """Numbers of at most 12 bits, so that half precision and denormal numbers hold them; the largest of each sample is 1."""
    values = np.random.default_rng(seed).integers(-2047, 2048, (2, *shape)) / 2048
    values.reshape(2, -1)[:, 0] = 1.0
    return torch.from_numpy(values).to(dtype)


def outcome(case, values):
    """The result, or None if the function refused ``values`` with an error that names the argument."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            return case.call(values)
    except DOCUMENTED as error:
        # What the case derives from its data is named where it leaves the range.
        if re.search(rf"\b({case.name}|radius|data_range|photons|reconstruct)\b", str(error)):
            return None
        raise AssertionError(f"the error does not name {case.name}: {error}") from error


def distance(found, expected):
    """The largest distance of a sample, relative to the expected one's largest entry."""
    found, expected = (
        t.double().flatten(1) if t.ndim > 1 else t.double()[:, None] for t in (found, expected)
    )
    return ((found - expected).abs().amax(1) / expected.abs().amax(1).clamp_min(1e-300)).max().item()


LAYOUTS = {
    "transposed": lambda v: v.movedim(0, -1).contiguous().movedim(-1, 0),
    "every second": lambda v: torch.stack([v, -v], -1)[..., 0],
    "part of a larger one": lambda v: torch.cat([v, v, v])[len(v) : 2 * len(v)],
    "reversed": lambda v: torch.from_numpy(v.numpy()[::-1].copy()).flip(0),
    "with a gradient": lambda v: v.clone().requires_grad_(),
}


def read_only(v):
    array = v.numpy().copy()
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it would not notice writing, which must not happen
        return torch.from_numpy(array)


@each
def test_memory_layout_does_not_matter_and_arguments_are_left_alone(case):
    plain = batch(case.shape, 3, torch.float32)
    expected = case.call(plain.clone())
    for name, layout in (LAYOUTS | {"read-only": read_only}).items():
        values = layout(plain)
        assert torch.equal(values.detach(), plain), name
        found = outcome(case, values)
        assert found is not None, name
        assert torch.equal(values.detach(), plain), f"{name}: the argument was changed"
        # Products may add up in another order.
        assert torch.allclose(found.detach(), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()), (
            name
        )


@pytest.mark.parametrize("case", HOMOGENEOUS.values(), ids=HOMOGENEOUS)
@few
@given(data=st.data())
def test_any_scale(case, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    exponent = data.draw(st.sampled_from([-100, -75, -30, 30, 75, 100]))  # 1e-30 to 1e30
    plain = batch(case.shape, data.draw(st.integers(0, 99)), dtype)
    expected = outcome(case, plain)
    if expected is None:
        assert "ASTRA" in str(case.call) or dtype == torch.float64
        return
    found = outcome(case, plain * 2.0**exponent)
    if found is None:  # a square that the type does not hold
        assert case.power == 2 and dtype == torch.float32 and abs(exponent) > 60
        return
    assert torch.isfinite(found).all()
    assert distance(found.double() * 2.0 ** (-case.power * exponent), expected) < 1e-4


@each
def test_float64_agrees(case):
    plain = batch(case.shape, 5, torch.float64)
    exact = outcome(case, plain)
    if exact is not None:  # ASTRA computes in float32 only, and says so
        assert distance(case.call(plain.float()), exact) < 1e-3


SHAPES = st.sampled_from(
    ["right", "right", "flat", "no batch", "empty", "one more", "one less", "no pixels", "one"]
)
DTYPES = st.sampled_from(
    [torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
    + [torch.bool, torch.complex64]
)
FILLS = st.sampled_from(["random", "zero", "nan", "inf", "one nan", "ones", "denormal", "huge"])


def odd(shape, kind, dtype, fill, device):
    """A batch that may be wrong in its shape, type, device and values, at once."""
    shape = {
        "right": (2, *shape),
        "flat": (2, math.prod(shape) + (len(shape) == 1)),
        "no batch": shape,
        "empty": (0, *shape),
        "one more": (2, *shape[:-1], shape[-1] + 1),
        "one less": (2, *shape[:-1], shape[-1] - 1),
        "no pixels": (2, *shape[:-1], 0),
        "one": (1, *shape),
    }[kind]
    values = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, shape))
    if fill not in ("random", "one nan"):
        values = torch.full(shape, {"nan": math.nan, "inf": math.inf, "zero": 0.0}.get(fill, 1.0)).double()
    if fill == "one nan" and values.numel():
        values.view(-1)[-1] = math.nan
    if dtype.is_floating_point:
        huge = 100 if dtype == torch.float16 else 1e30
        values = values * {"denormal": torch.finfo(dtype).tiny / 16, "huge": huge}.get(fill, 1)
    return (
        values.nan_to_num().to(dtype).to(device)
        if not dtype.is_floating_point
        else values.to(dtype).to(device)
    )


@pytest.mark.parametrize("name", CASES)
@more
@given(kind=SHAPES, dtype=DTYPES, fill=FILLS, device=st.sampled_from(["cpu", "cpu", "cpu", "meta"]))
def test_a_finite_result_or_a_documented_error(name, kind, dtype, fill, device):
    case = CASES[name]
    values = odd(case.shape, kind, dtype, fill, device)
    found = outcome(case, values)
    right = kind in ("right", "one") or (name in ANY_SHAPE and values.ndim > 1 and values.numel() > 0)
    if found is None:
        fine = kind in ("right", "one") and device == "cpu" and fill in ("random", "zero", "ones")
        assert not fine or dtype != torch.float32
        return
    assert right and device == "cpu" and dtype.is_floating_point
    assert (
        fill not in ("nan", "inf", "one nan") or name == "networks.UNet"
    )  # a layer looks at shapes and types
    assert torch.isfinite(found).all() or fill in ("nan", "one nan", "inf")


# ---- numbers

A, Y, X = operator(torch.float32), batch(DATA, 0, torch.float32), batch(IMAGE, 1, torch.float32)
BIG = batch((1, 12, 12), 2, torch.float32)
NUMBERS = {
    "operators.gaussian": ("num_measurements", lambda n: operators.gaussian(n, IMAGE).matrix()),
    "operators.gaussian, seed": ("seed", lambda n: operators.gaussian(4, IMAGE, seed=n).matrix()),
    "operators.dct_block": ("num_measurements|image_shape", lambda n: operators.dct_block(n, IMAGE).matrix()),
    "operators.parallel_beam": ("image_size", lambda n: operators.parallel_beam(n, 2)),
    "operators.parallel_beam, views": ("num_angles", lambda n: operators.parallel_beam(4, n)),
    "operators.parallel_beam, offset": ("angle_offset", lambda v: operators.parallel_beam(4, 2, angle_offset=v)(X[..., :4, :4])),
    "operators.parallel_beam, shift": ("axis_shift", lambda v: operators.parallel_beam(4, 2, axis_shift=v)(X[..., :4, :4])),
    "operators.with_spectrum": ("singular_values", lambda v: operators.with_spectrum([1.0, v], IMAGE).matrix()),
    "operators.adjoint_gap": ("seed", lambda n: operators.adjoint_gap(A, seed=n)),
    "operators.operator_norm": ("steps", lambda n: operators.operator_norm(A, steps=n)),
    "operators.operator_norm, seed": ("seed", lambda n: operators.operator_norm(A, steps=2, seed=n)),
    "datasets.ellipses": ("count", lambda n: datasets.ellipses(n, 4)),
    "datasets.ellipses, size": ("image_size", lambda n: datasets.ellipses(1, n)),
    "datasets.ellipses, seed": ("seed", lambda n: datasets.ellipses(1, 4, seed=n)),
    "datasets.digits": ("count", lambda n: datasets.digits("test", count=n)),
    "datasets.faces": ("count", lambda n: datasets.faces("test", count=n)),
    "datasets.with_noise": ("relative_level", lambda v: datasets.with_noise(Y, v)),
    "datasets.with_noise, seed": ("seed", lambda n: datasets.with_noise(Y, 0.1, seed=n)),
    "datasets.flip_and_shift": ("shift", lambda n: datasets.flip_and_shift(X, rng(), shift=n)),
    "datasets.low_dose": ("photons", lambda v: datasets.low_dose(operator(torch.float32, "scan"), X, v, rng())),
    "datasets.low_dose, field": (
        "field_of_view_mm|photons",
        lambda v: datasets.low_dose(operator(torch.float32, "scan"), X.abs(), 1e4, rng(), field_of_view_mm=v),
    ),
    "classical.pseudo_inverse": ("rtol", lambda v: classical.pseudo_inverse(A, Y, rtol=v)),
    "classical.tikhonov": ("weight", lambda v: classical.tikhonov(A, Y, v)),
    "classical.tikhonov, iterations": ("iterations", lambda n: classical.tikhonov(A, Y, 0.1, iterations=n)),
    "classical.tikhonov, tolerance": ("tolerance", lambda v: classical.tikhonov(A, Y, 0.1, tolerance=v)),
    "classical.total_variation": ("weight", lambda v: classical.total_variation(A, Y, v, iterations=5)),
    "classical.total_variation, iterations": ("iterations", lambda n: classical.total_variation(A, Y, 0.1, iterations=n)),
    "attacks.project": ("radius", lambda v: attacks.project(Y, v)),
    "attacks.random_perturbation": ("radius", lambda v: attacks.random_perturbation(Y, v)),
    "attacks.random_perturbation, seed": ("seed", lambda n: attacks.random_perturbation(Y, 1.0, seed=n)),
    "attacks.worst_case": ("radius|reconstruct", lambda v: attacks.worst_case(inverse, Y, X, v, steps=2)),
    "attacks.worst_case, steps": ("steps", lambda n: attacks.worst_case(inverse, Y, X, 1.0, steps=n)),
    "attacks.worst_case, restarts": ("restarts", lambda n: attacks.worst_case(inverse, Y, X, 1.0, steps=1, restarts=n)),
    "attacks.worst_case, seed": ("seed", lambda n: attacks.worst_case(inverse, Y, X, 1.0, steps=1, seed=n)),
    "attacks.worst_case_image": ("radius|reconstruct", lambda v: attacks.worst_case_image(inverse, A, X, v, steps=2)),
    "attacks.exact_worst_case": ("radius", lambda v: attacks.exact_worst_case(A.matrix().T, Y, X, v)),
    "robustness.psnr": ("data_range", lambda v: robustness.psnr(BIG, -BIG, data_range=v)),
    "robustness.ssim": ("data_range", lambda v: robustness.ssim(BIG, -BIG, data_range=v)),
    "robustness.worst_region": ("size", lambda n: robustness.worst_region(X, -X, size=n)),
    "robustness.curve": ("radii|reconstruct", lambda v: robustness.curve(inverse, A, X, [v], steps=1)["radius"]),
    "robustness.curve, batch": ("batch_size", lambda n: robustness.curve(inverse, A, X, [1.0], steps=1, batch_size=n)["rho"]),
    "adversaries.relative": ("share", lambda v: adversaries.relative(v)(Y)),
    "adversaries.Adversary": ("radius", lambda v: adversaries.Adversary(v).radii(Y)),
    "adversaries.Adversary, seed": ("seed", lambda n: adversaries.Adversary(1.0).begin_epoch(n)),
    "adversaries.Noise": ("radius", lambda v: attacked(adversaries.Noise(v))(Y)),
    "adversaries.PerSample": ("steps", lambda n: attacked(adversaries.PerSample(1.0, n))(Y)),
    "adversaries.Stored": ("steps", lambda n: attacked(adversaries.Stored(1.0, n))(Y)),
    "adversaries.Common": ("step", lambda v: attacked(adversaries.Common(1.0, step=v))(Y)),
    "adversaries.Generator": ("learning_rate", lambda v: adversaries.Generator(network(A.dtype, "perturber"), 1.0, learning_rate=v)),
    "networks.UNet": ("width", lambda n: networks.UNet(width=n, levels=1)(X).detach()),
    "training.Parseval": ("beta", lambda v: training.Parseval(v)),
    "training.fit": ("epochs", lambda n: fitted(epochs=n)),
    "training.fit, lam": ("lam", lambda v: fitted(lam=v)),
    "training.fit, learning_rate": ("learning_rate|diverged", lambda v: fitted(learning_rate=v)),
    "theory.common_gains": ("radius", lambda v: theory.common_gains([1.0, 2.0], v, 1.0)[0]),
    "theory.common_gains, lam": ("lam", lambda v: theory.common_gains([1.0, 2.0], 1.0, v)[0]),
    "theory.common_gains, S": ("singular_values", lambda v: theory.common_gains([v, 2.0], 1.0, 1.0)[0]),
    "theory.per_sample_gains": ("radius", lambda v: theory.per_sample_gains([1.0, 2.0], v)),
    "theory.per_sample_gains, S": ("singular_values", lambda v: theory.per_sample_gains([v, 2.0], 1.0)),
    "theory.tikhonov_gains": ("weight", lambda v: theory.tikhonov_gains([1.0, 2.0], v)),
    "theory.tikhonov_gains, S": ("singular_values", lambda v: theory.tikhonov_gains([v, 2.0], 1.0)),
    "theory.robust_inverse": ("gains", lambda v: theory.robust_inverse(np.eye(2), [v, 1.0])),
    "theory.common_cost": ("radius", lambda v: theory.common_cost(np.eye(2), np.eye(2), v, 1.0)),
    "theory.per_sample_bound": ("radius", lambda v: theory.per_sample_bound(np.eye(2), np.eye(2), v)),
    "figures.hounsfield_window": ("width", lambda v: figures.hounsfield_window(0, v)),
    "figures.panels": ("height", lambda v: figures.panels(height=v)),
    "ledger.number": ("value", lambda v: ledger.number(v)),
    "ledger.verdict": ("figures", lambda v: ledger.verdict("theorem", "holds", "page", {"n": v}).row["figures"]["n"]),
}  # fmt: skip
ODD_NUMBERS = [
    0,
    1,
    2,
    -1,
    0.5,
    -0.0,
    1e-30,
    1e30,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    True,
    None,
    "1",
    b"1",
]
ODD_NUMBERS += [
    2j,
    [1.0],
    (),
    {},
    np.float32(0.5),
    np.float16(1),
    np.int64(2),
    np.bool_(True),
    np.complex64(1),
    np.ones(3),
]
ODD_NUMBERS += [
    Fraction(1, 2),
    torch.tensor(math.nan),
    torch.ones(1, 2, 3),
    torch.tensor(1j),
    10**400,
    ...,
]


def fitted(**settings):
    f = networks.LinearReconstructor(A)
    history = training.fit(f, A, X, **{"epochs": 1, "adversary": adversaries.Noise(0.1)} | settings)
    return history.drop(columns="seconds").to_numpy()


def finite_numbers(result):
    """Whether what a function returned holds finite numbers only; objects that hold none count."""
    if isinstance(result, torch.Tensor):
        result = result.to_dense().double().numpy()
    if isinstance(result, (tuple, list, int, float, np.ndarray, pd.Series)):
        try:
            return bool(np.isfinite(np.asarray(result, dtype=float)).all())
        except (TypeError, ValueError):
            return True
    return True


@pytest.mark.parametrize("value", ODD_NUMBERS, ids=lambda value: repr(value)[:24])
def test_odd_numbers_are_refused_by_name_or_work(value):
    wrong = []
    for key, (name, call) in NUMBERS.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                warnings.simplefilter("error", RuntimeWarning)
                if not finite_numbers(call(value)):
                    wrong.append(f"{key}: not finite")
        except (*DOCUMENTED, training.Diverged) as error:
            if not re.search(rf"\b({name})\b", str(error)):
                wrong.append(f"{key}: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - any other kind is not documented
            wrong.append(f"{key}: {type(error).__name__}: {error}")
    assert wrong == []
