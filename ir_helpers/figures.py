"""Arrays and tables to Matplotlib figures, in one look: every function returns the figure, none uses pyplot's state."""

import io

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from ir_helpers.checks import finite, positive, positive_int

# Colours of Okabe and Ito, told apart with any common colour vision; line styles differ too, for print in grey.
# A method keeps its colour and line in the whole book.
METHODS = {
    "truth": {"color": "#000000", "linestyle": "-", "marker": ""},
    "pseudo-inverse": {"color": "#7F7F7F", "linestyle": "--", "marker": "s"},
    "fbp": {"color": "#4D4D4D", "linestyle": "-.", "marker": "d"},
    "tikhonov": {"color": "#B58900", "linestyle": "-.", "marker": "D"},
    "total-variation": {"color": "#8C564B", "linestyle": ":", "marker": "P"},
    "plain": {"color": "#D55E00", "linestyle": "-", "marker": "o"},
    "weight-decay": {"color": "#E69F00", "linestyle": "--", "marker": "v"},
    "parseval": {"color": "#CC79A7", "linestyle": "-.", "marker": "^"},
    "noise": {"color": "#56B4E9", "linestyle": ":", "marker": "X"},
    "common": {"color": "#3D3D9E", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "<"},
    "min-max": {"color": "#0072B2", "linestyle": "-", "marker": "s"},
    "per-sample": {"color": "#009E73", "linestyle": "--", "marker": ">"},
}
# For anything that is not a method, such as condition numbers: dark to light in one hue, readable in grey.
SEQUENCE = ("#08306B", "#2171B5", "#4FA0D0", "#B0B0B0")
# One contrast to it, where two things that are no methods stand against each other.
ACCENT = "#B03A5B"

_WIDTH = 6.4  # inches: text of 10 points stays legible where a phone halves the page
_DPI = 160  # of figures with pixels
_STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "savefig.facecolor": "white",
    "svg.hashsalt": "robust image reconstruction",  # else element ids differ from build to build
}


def use_style():
    """Set the book's Matplotlib style, and in a notebook show curves as SVG and anything with pixels as PNG."""
    matplotlib.rcParams.update(_STYLE)
    shell = _ipython()
    if shell is not None:
        formatters = shell.display_formatter.formatters
        formatters["image/svg+xml"].for_type(
            Figure, lambda figure: None if _has_pixels(figure) else _rendered(figure, "svg").decode()
        )
        formatters["image/png"].for_type(
            Figure,
            lambda figure: png(figure, dpi=_DPI, colours=_palette(figure)) if _has_pixels(figure) else None,
        )


def panels(rows=1, columns=1, *, height=2.9, width=_WIDTH, sharex=False, sharey=False, ratios=None):
    """Return (figure, axes) for a grid of panels; ``axes`` is one Axes, or an array of them.

    Parameters
    ----------
    rows, columns : int
        Of the grid.
    height : float
        Of one row, in inches.
    width : float
        Of the figure, in inches.
    sharex, sharey : bool or str
        As in ``Figure.subplots``.
    ratios : sequence of float, optional
        Relative widths of the columns.
    """
    rows, columns = positive_int("rows", rows), positive_int("columns", columns)
    figure = Figure(
        figsize=(positive("width", width), positive("height", height) * rows), layout="constrained"
    )
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, width_ratios=ratios)
    return figure, axes


def images(
    rows,
    *,
    row_labels=None,
    column_labels=None,
    window=(0.0, 1.0),
    captions=None,
    cmap="gray",
    size=None,
    colorbar=None,
):
    """Return a grid of images on one grey scale.

    Parameters
    ----------
    rows : sequence of sequences of array
        Each image (H, W), (1, H, W) or (3, H, W); None leaves a gap.
    row_labels, column_labels : sequence of str, optional
        Beside the rows, above the columns.
    window : tuple of float
        Values shown as black and white: the same for all, so that brightness can be compared.
    captions : sequence of sequences of str, optional
        Under each image, such as its PSNR.
    cmap : str
        Matplotlib colour map.
    size : float, optional
        Side of one image in inches; None fits the page width.
    colorbar : str, optional
        Draws a colour bar with this label.
    """
    if not len(rows) or not any(len(row) for row in rows):
        raise ValueError(f"rows must hold at least one image, got {rows!r}")
    window = tuple(finite("window", value) for value in window)
    pixels = [[None if image is None else _pixels(image) for image in row] for row in rows]
    count = max(len(row) for row in rows)
    size = size or min(1.9, _WIDTH / count)
    aspects = [max((p.shape[0] / p.shape[1] for p in row if p is not None), default=1.0) for row in pixels]
    height = size * sum(aspects) + 0.22 * bool(captions) * len(rows) + 0.25
    figure = Figure(figsize=(size * count, height), layout="constrained")
    axes = figure.subplots(len(rows), count, squeeze=False, height_ratios=aspects)
    for i, row in enumerate(pixels):
        for j in range(count):
            axis, image = axes[i, j], row[j] if j < len(row) else None
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if image is None:
                continue
            shown = axis.imshow(image, vmin=window[0], vmax=window[1], cmap=cmap)
            if captions is not None:
                axis.set_xlabel(captions[i][j], fontsize=9, labelpad=2)
    for axis, label in zip(axes[0], column_labels or [], strict=False):
        axis.set_title(label, fontsize=9.5)
    for axis, label in zip(axes[:, 0], row_labels or [], strict=False):
        axis.set_ylabel(label, fontsize=9.5)
    if colorbar is not None:
        figure.colorbar(shown, ax=axes, label=colorbar, shrink=0.8)
    return figure


def curves(tables, *, x="relative_radius", y="rho", band=None, xlabel="", ylabel="", logy=False, logx=False):
    """Return one line for each method, in its own colour and line style, with a band where ``band`` names a column.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Method name (a key of ``METHODS``) to its table, such as those of ``robustness.curve``.
    x, y : str
        Columns to plot.
    band : str, optional
        Column with the half-width of the band around y.
    xlabel, ylabel : str
        Axis labels.
    logx, logy : bool
        Logarithmic axes.
    """
    if not tables:
        raise ValueError(f"tables must hold at least one table by the name of its method, got {tables!r}")
    figure, axis = panels(height=3.3)
    for name, table in tables.items():
        if name not in METHODS:
            raise ValueError(f"tables has the method {name!r}; known are {sorted(METHODS)}")
        if missing := [column for column in (x, y, band) if column is not None and column not in table]:
            raise ValueError(f"tables[{name!r}] has no columns {missing}: it has {list(table)}")
        axis.plot(table[x], table[y], label=name, **METHODS[name])
        if band is not None:
            axis.fill_between(
                table[x],
                table[y] - table[band],
                table[y] + table[band],
                color=METHODS[name]["color"],
                alpha=0.15,
                linewidth=0,
            )
    axis.set(
        xlabel=xlabel, ylabel=ylabel, xscale="log" if logx else "linear", yscale="log" if logy else "linear"
    )
    axis.legend()
    return figure


def hounsfield_window(centre, width):
    """Return the (black, white) values of a CT image x in [0, 1] for a window in Hounsfield units: x = (HU + 1024) / 2048."""
    centre, width = finite("centre", centre), positive("width", width)
    return tuple((centre + sign * width / 2 + 1024) / 2048 for sign in (-1, 1))


def png(figure, *, dpi=100, colours=None):
    """Return a figure as PNG bytes; ``colours`` reduces them to a palette, several times smaller for line art and greys."""
    if not isinstance(figure, Figure):
        raise TypeError(f"figure must be a matplotlib.figure.Figure, got {type(figure).__name__}")
    data = _rendered(figure, "png", dpi=dpi)
    if colours is None:
        return data
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(colours).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _pixels(image):
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if array.ndim == 3:
        array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1).clip(0, 1)
    if array.ndim not in (2, 3):
        raise ValueError(f"an image must have shape (H, W), (1, H, W) or (3, H, W), got {array.shape}")
    return array


def _has_pixels(figure):
    return any(
        axis.images or any(getattr(c, "get_rasterized", bool)() for c in axis.collections)
        for axis in figure.axes
    )


def _palette(figure):
    """Return how many colours a figure needs: a colour map has 256, and a photograph any number."""
    photographs = (image.get_array().ndim == 3 for axis in figure.axes for image in axis.images)
    return None if any(photographs) else 256


def _rendered(figure, kind, dpi=_DPI):
    buffer = io.BytesIO()
    # No date in the file: the same figure gives the same bytes.
    figure.savefig(buffer, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _ipython():
    try:
        from IPython import get_ipython
    except ImportError:  # outside a notebook the package works without IPython
        return None
    return get_ipython()
