"""Figures: one look for each method, told apart by everyone; images on one window; what a notebook shows."""

import io
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import same_color, to_rgb
from matplotlib.figure import Figure
from PIL import Image
from skimage.color import rgb2lab

from ir_helpers import figures

TABLE = pd.DataFrame(
    {"relative_radius": [0.01, 0.1, 1.0], "rho": [1.0, 2.0, 40.0], "rho_sem": [0.1, 0.2, 4.0]}
)
PICTURE = np.linspace(0, 1, 30).reshape(5, 6)


@pytest.fixture(autouse=True)
def _own_settings():
    with matplotlib.rc_context():
        yield


# ---- one colour and line for each method

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    # Grey print keeps the luminance (Rec. 709) only.
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}  # fmt: skip


def seen_as(color, vision):
    """CIELAB coordinates of a colour as an eye with this vision sees it."""
    srgb = np.array(to_rgb(color))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(srgb.reshape(1, 1, 3)).ravel()


def differ_in_line(a, b):
    return a["linestyle"] != b["linestyle"] or a["marker"] != b["marker"]


@pytest.mark.parametrize("pair", list(combinations(figures.METHODS, 2)), ids=" and ".join)
def test_no_two_methods_look_alike(pair):
    a, b = (figures.METHODS[name] for name in pair)
    assert (to_rgb(a["color"]), str(a["linestyle"]), a["marker"]) != (
        to_rgb(b["color"]),
        str(b["linestyle"]),
        b["marker"],
    )
    for vision in VISION:
        distance = np.linalg.norm(seen_as(a["color"], vision) - seen_as(b["color"], vision))
        # In CIELAB 2.3 is just noticeable side by side; lines apart from each other need several times that.
        assert distance > 12 or differ_in_line(a, b), f"{vision}: {distance:.1f}"


def test_the_simulation_confuses_red_and_green():
    # The oracle itself: this pair is a textbook case for deuteranopia and easy for others.
    red, green = "#A84040", "#6E6E1E"
    far, near = (np.linalg.norm(seen_as(red, v) - seen_as(green, v)) for v in ("normal", "deuteranopia"))
    assert near < 0.4 * far


def test_methods_of_the_design_are_there():
    trained = {"plain", "weight-decay", "parseval", "noise", "common", "min-max", "per-sample"}
    classical = {"pseudo-inverse", "fbp", "tikhonov", "total-variation"}
    assert trained | classical <= set(figures.METHODS)


def test_sequence_grows_lighter():
    # Told apart in grey: steps of lightness several times what is just noticeable, 1.
    lightness = [seen_as(color, "grey")[0] for color in figures.SEQUENCE]
    assert (np.diff(lightness) > 8).all()


# ---- figures


def test_curves_draw_each_method_in_its_look():
    figure = figures.curves(
        {"plain": TABLE, "noise": TABLE.assign(rho=3.0)}, xlabel="ε", ylabel="ρ", band="rho_sem"
    )
    assert isinstance(figure, Figure)
    (axis,) = figure.axes
    for line, name in zip(axis.lines, ("plain", "noise"), strict=True):
        assert line.get_label() == name
        assert same_color(line.get_color(), figures.METHODS[name]["color"])
        assert line.get_marker() == figures.METHODS[name]["marker"]
        assert np.array_equal(line.get_xdata(), TABLE.relative_radius)
    assert np.array_equal(axis.lines[0].get_ydata(), TABLE.rho)
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(0.9)
    assert band.max() == pytest.approx(44)
    assert [axis.get_xlabel(), axis.get_ylabel()] == ["ε", "ρ"]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["plain", "noise"]


def test_curves_on_other_columns_and_scales():
    table = TABLE.rename(columns={"relative_radius": "a", "rho": "b"})
    (axis,) = figures.curves({"truth": table}, x="a", y="b", logx=True, logy=True).axes
    assert np.array_equal(axis.lines[0].get_ydata(), TABLE.rho)
    assert not axis.collections
    assert [axis.get_xscale(), axis.get_yscale()] == ["log", "log"]
    for logx, logy in ((True, False), (False, True), (False, False)):
        (axis,) = figures.curves({"truth": TABLE}, logx=logx, logy=logy).axes
        assert [axis.get_xscale() == "log", axis.get_yscale() == "log"] == [logx, logy]


def test_curves_refuse_an_unknown_method():
    with pytest.raises(ValueError, match="'resnet'.*known are"):
        figures.curves({"resnet": TABLE})


def test_images_share_one_window(caplog):
    grey, column = torch.rand(1, 4, 5), np.linspace(-1, 3, 20).reshape(4, 5)
    colour = torch.linspace(-0.5, 1.5, 60).reshape(3, 4, 5)
    figure = figures.images(
        [[grey, column], [None, colour]],
        row_labels=["a", "b"],
        column_labels=["left", "right"],
        window=(0.2, 0.6),
        captions=[["one", "two"], ["", "four"]],
        colorbar="scale",
    )
    assert isinstance(figure, Figure)
    grid = figure.axes[:4]
    assert [len(axis.images) for axis in grid] == [1, 1, 0, 1]
    shown = [axis.images[0] for axis in grid if axis.images]
    assert all(image.get_clim() == (0.2, 0.6) for image in shown)
    assert np.array_equal(shown[0].get_array(), grey[0])
    assert np.array_equal(
        shown[1].get_array(), column
    )  # values outside the window stay: the window cuts them
    assert np.allclose(shown[2].get_array(), colour.permute(1, 2, 0).clamp(0, 1))
    assert not caplog.records  # Matplotlib warns of colours that it has to cut
    assert [axis.get_title() for axis in grid] == ["left", "right", "", ""]
    assert [axis.get_ylabel() for axis in grid] == ["a", "", "b", ""]
    assert [axis.get_xlabel() for axis in grid] == ["one", "two", "", "four"]
    assert figure.axes[4].get_ylabel() == "scale"


def test_images_fit_the_page():
    width = figures.panels()[0].get_size_inches()[0]
    for count in (1, 3, 7):
        assert figures.images([[PICTURE] * count]).get_size_inches()[0] <= width + 1e-9
    assert figures.images([[PICTURE] * 2], size=1.0).get_size_inches()[0] == 2


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 5), (2, 4, 5)])
def test_images_refuse_other_shapes(shape):
    with pytest.raises((ValueError, TypeError), match="shape"):
        figures.images([[np.zeros(shape)]])


def test_panels():
    figure, axis = figures.panels()
    assert figure.axes == [axis]
    figure, axes = figures.panels(2, 3, height=1.5, width=5, sharex=True, sharey="row", ratios=[1, 2, 1])
    assert axes.shape == (2, 3)
    assert list(figure.get_size_inches()) == [5, 3]
    figure.draw_without_rendering()
    assert axes[0, 1].get_position().width > 1.5 * axes[0, 0].get_position().width


@pytest.mark.parametrize(("hounsfield", "value"), [(0, 0.5), (-1024, 0.0), (1024, 1.0), (-1000, 24 / 2048)])
def test_hounsfield_window(hounsfield, value):
    low, high = figures.hounsfield_window(hounsfield, 300)
    assert (low + high) / 2 == pytest.approx(value)
    assert (high - low) * 2048 == pytest.approx(300)


def test_png():
    figure = figures.images([[PICTURE]])
    whole = Image.open(io.BytesIO(figures.png(figure)))
    assert whole.size == tuple(np.round(figure.get_size_inches() * 100).astype(int))
    assert Image.open(io.BytesIO(figures.png(figure, dpi=50))).size[0] == pytest.approx(
        whole.size[0] / 2, abs=1
    )
    few = Image.open(io.BytesIO(figures.png(figure, colours=16)))
    assert few.size == whole.size
    assert few.mode == "P"
    assert len(few.convert("RGB").getcolors()) <= 16
    assert len(figures.png(figure, colours=16)) < len(figures.png(figure))
    difference = np.asarray(few.convert("L"), float) - np.asarray(whole.convert("L"), float)
    assert np.abs(difference).mean() < 10  # of 255: 16 greys lie 16 apart


def test_in_a_notebook_curves_are_svg_and_pixels_png(monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    shell.display_formatter.active_types = shell.display_formatter.format_types
    monkeypatch.setattr(figures, "_ipython", lambda: shell)
    figures.use_style()
    _, axis = figures.panels()
    axis.scatter([1, 2], [3, 4])
    for figure, kind, start in [
        (figures.curves({"plain": TABLE}), "image/svg+xml", "<?xml"),
        (axis.figure, "image/svg+xml", "<?xml"),
        (figures.images([[PICTURE]]), "image/png", b"\x89PNG"),
    ]:
        data, _ = shell.display_formatter.format(figure)
        assert {key for key in data if key.startswith("image/")} == {kind}
        assert data[kind][: len(start)] == start
    assert matplotlib.rcParams["image.cmap"] == "gray"


def test_pixels_of_a_colour_map_are_written_with_its_colours_and_photographs_with_all(monkeypatch):
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr(figures, "_ipython", lambda: shell)
    figures.use_style()
    photograph = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    for picture, mode in ((PICTURE, "P"), (photograph, "RGBA")):
        figure = figures.images([[picture]])
        data, _ = shell.display_formatter.format(figure)
        written = Image.open(io.BytesIO(data["image/png"]))
        assert written.mode == mode
        whole = Image.open(io.BytesIO(figures.png(figure, dpi=160)))
        difference = np.asarray(written.convert("RGB"), float) - np.asarray(whole.convert("RGB"), float)
        assert np.abs(difference).max() < 3  # of 255


def test_the_same_figure_gives_the_same_svg(monkeypatch):
    monkeypatch.setattr(figures, "_ipython", lambda: None)
    figures.use_style()
    first, second = (
        figures._rendered(figures.curves({"plain": TABLE}, band="rho_sem"), "svg") for _ in range(2)
    )
    assert first == second  # so that a page changes only when its content does


def test_pyplot_is_not_involved():
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    figures.curves({"plain": TABLE}), figures.images([[PICTURE]]), figures.panels()
    assert pyplot.get_fignums() == before
