"""Explorers: pictures computed beforehand behind a slider, so they work in a static page without a kernel.

In a running notebook ``live`` computes them instead, for values of your own.
"""

import html

import ipywidgets
from matplotlib.figure import Figure

from ir_helpers import figures


def explorer(frames, values, label, *, start=0, hint="", dpi=90):
    """Return a slider with one picture for each of its values.

    Parameters
    ----------
    frames : sequence of matplotlib.figure.Figure
        One for each value, all of one size.
    values : sequence of str
        What the slider shows.
    label : str
        Name of the quantity, such as "ε".
    start : int
        Index shown first.
    hint : str
        What to try, in a sentence; shown above the slider.
    dpi : int
        Resolution of the pictures.
    """
    if len(frames) != len(values) or not frames:
        raise ValueError(
            f"frames and values must have the same length, at least 1, got {len(frames)} and {len(values)}"
        )
    slider, stack = _slider(values, label, start), _stack([_image(f, dpi) for f in frames], start)
    ipywidgets.jsdlink((slider, "index"), (stack, "selected_index"))
    return _column(hint, [slider], stack)


def explorer_grid(
    frames, row_values, column_values, row_label, column_label, *, start=(0, 0), hint="", dpi=90
):
    """Return two sliders over a grid of pictures, ``frames[i][j]`` for row value i and column value j.

    Arguments as in ``explorer``, one list for each slider.
    """
    ragged = any(len(row) != len(column_values) for row in frames)
    if len(frames) != len(row_values) or ragged or not frames or not column_values:
        raise ValueError(
            f"frames must be {len(row_values)} rows of {len(column_values)} figures, one for each pair of values"
        )
    rows, columns = _slider(row_values, row_label, start[0]), _slider(column_values, column_label, start[1])
    inner = [_stack([_image(f, dpi) for f in row], start[1]) for row in frames]
    # A page without a kernel can copy a value, not compute with it: so a stack of stacks, each linked to one slider.
    for stack in inner:
        ipywidgets.jsdlink((columns, "index"), (stack, "selected_index"))
    outer = _stack(inner, start[0])
    ipywidgets.jsdlink((rows, "index"), (outer, "selected_index"))
    return _column(hint, [rows, columns], outer)


def live(frame, values, labels, *, start=None, hint="", dpi=90):
    """Return sliders and a picture that the kernel computes when one of them moves.

    Only a running notebook can do this: a page without a kernel shows the first picture for good.

    Parameters
    ----------
    frame : callable
        One value for each slider ↦ matplotlib.figure.Figure; most chapters define it above their explorer.
    values : sequence of sequences
        What each slider offers. The values themselves go to ``frame``, and their text beside the slider.
    labels : sequence of str
        Names of the quantities, one for each slider.
    start : sequence of int, optional
        Index at which each slider stands first; None stands for 0 everywhere.
    hint : str
        What to try; shown above the sliders.
    dpi : int
        Resolution of the pictures.

    Raises
    ------
    TypeError
        If ``frame`` cannot be called.
    ValueError
        If the numbers of sliders differ, or a slider has no values.
    """
    start = [0] * len(values) if start is None else list(start)
    if not len(values) == len(labels) == len(start) or not len(values):
        raise ValueError(
            f"values, labels and start must have one entry for each slider, got {len(values)}, {len(labels)} and {len(start)}"
        )
    if not all(len(offered) for offered in values):
        raise ValueError("values must hold at least one value for each slider, got an empty sequence")
    if not callable(frame):
        raise TypeError(f"frame must be a function that returns a Figure, got {type(frame).__name__}")
    sliders = [
        _slider([str(value) for value in offered], label, index)
        for offered, label, index in zip(values, labels, start, strict=True)
    ]

    def picture():
        chosen = [offered[slider.index] for offered, slider in zip(values, sliders, strict=True)]
        return figures.png(frame(*chosen), dpi=dpi, colours=48)

    image = ipywidgets.Image(value=picture(), format="png", layout=ipywidgets.Layout(max_width="100%"))
    for slider in sliders:
        slider.continuous_update = False  # one computation for each move, not for each pixel of it
        slider.observe(lambda change: setattr(image, "value", picture()), names="index")
    return _column(hint, sliders, image)


def _slider(values, label, start):
    if start not in range(len(values)):
        raise ValueError(f"start must be an index from 0 to {len(values) - 1}, got {start!r}")
    layout = ipywidgets.Layout(width="min(30em, 100%)")
    style = {"description_width": "initial"}
    return ipywidgets.SelectionSlider(
        options=list(values), index=start, description=label, layout=layout, style=style
    )


def _stack(children, start):
    return ipywidgets.Stack(children, selected_index=start)


def _image(figure, dpi):
    if not isinstance(figure, Figure):
        raise TypeError(f"frames must be Matplotlib figures, got {type(figure).__name__}")
    # 48 colours are enough for greys and a few lines, and keep a page of frames small.
    picture = figures.png(figure, dpi=dpi, colours=48)
    return ipywidgets.Image(value=picture, format="png", layout=ipywidgets.Layout(max_width="100%"))


def _column(hint, sliders, stack):
    text = [ipywidgets.HTML(f"<p class='explorer-hint'>{html.escape(hint)}</p>")] if hint else []
    return ipywidgets.VBox([*text, *sliders, stack]).add_class("explorer")
