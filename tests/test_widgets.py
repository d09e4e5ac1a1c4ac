"""Explorers: pictures that a slider moves without a kernel."""

import io

import ipywidgets
import numpy as np
import pytest
from ipywidgets.embed import dependency_state
from PIL import Image

from ir_helpers import figures, widgets

PICTURE = np.linspace(0, 1, 30).reshape(5, 6)


def frames(count):
    return [figures.images([[PICTURE * k / count]], size=0.5) for k in range(1, count + 1)]


def children(box, kind):
    found = [box] if isinstance(box, kind) else []
    return found + [hit for child in getattr(box, "children", ()) for hit in children(child, kind)]


def links(box):
    """(source, its trait, target, its trait) of the links that a static page gets with this widget."""
    states = [model["state"] for model in dependency_state(box, drop_defaults=False).values()]
    found = [s for s in states if s.get("_model_name") == "DirectionalLinkModel"]
    return {tuple(v.removeprefix("IPY_MODEL_") for v in (*s["source"], *s["target"])) for s in found}


def test_explorer():
    box = widgets.explorer(frames(3), ["0", "0.1", "1"], "ε", start=1, hint="Move <it>.")
    (slider,), (stack,) = children(box, ipywidgets.SelectionSlider), children(box, ipywidgets.Stack)
    assert slider.description == "ε"
    assert list(slider.options) == ["0", "0.1", "1"]
    assert [slider.index, stack.selected_index] == [1, 1]
    pictures = [child.value for child in stack.children]
    assert len(set(pictures)) == 3
    assert all(Image.open(io.BytesIO(picture)).format == "PNG" for picture in pictures)
    assert links(box) == {(slider.model_id, "index", stack.model_id, "selected_index")}
    (hint,) = children(box, ipywidgets.HTML)
    assert "Move &lt;it&gt;." in hint.value
    assert not children(widgets.explorer(frames(1), ["1"], "ε"), ipywidgets.HTML)
    assert "explorer" in box._dom_classes


def test_explorer_grid():
    grid = [frames(3), frames(3)]
    box = widgets.explorer_grid(grid, ["a", "b"], ["1", "2", "3"], "row", "column", start=(1, 2))
    rows, columns = children(box, ipywidgets.SelectionSlider)
    outer, *inner = children(box, ipywidgets.Stack)
    assert [rows.description, columns.description] == ["row", "column"]
    assert [rows.index, columns.index, outer.selected_index] == [1, 2, 1]
    assert list(outer.children) == inner
    assert [stack.selected_index for stack in inner] == [2, 2]
    assert [len(stack.children) for stack in inner] == [3, 3]
    expected = {(columns.model_id, "index", stack.model_id, "selected_index") for stack in inner}
    assert links(box) == expected | {(rows.model_id, "index", outer.model_id, "selected_index")}


def test_live_computes_the_picture_of_the_values_chosen():
    asked = []

    def frame(gain, name):
        asked.append((gain, name))
        return figures.images([[PICTURE * gain]], size=0.5, captions=[[name]])

    box = widgets.live(frame, [[0.25, 0.5, 1.0], ["a", "b"]], ["gain", "name"], start=[1, 0], hint="Move it.")
    gain, name = children(box, ipywidgets.SelectionSlider)
    (image,) = children(box, ipywidgets.Image)
    assert asked == [(0.5, "a")] and [gain.description, name.description] == ["gain", "name"]
    before = image.value
    gain.index = 2
    assert asked[-1] == (1.0, "a") and image.value != before
    name.index = 1
    assert asked[-1] == (1.0, "b") and len(asked) == 3
    assert not gain.continuous_update and children(box, ipywidgets.HTML)


BAD = {
    "a label short": (lambda: widgets.live(None, [[1], [2]], ["a"]), "one entry .* 2, 1 and 2"),
    "no sliders": (lambda: widgets.live(None, [], []), "one entry"),
    "no values": (lambda: widgets.live(None, [[]], ["a"]), "at least one value"),
    "live start": (lambda: widgets.live(frames, [[1]], ["a"], start=[1]), "start"),
    "one value short": (lambda: widgets.explorer(frames(2), ["1"], "ε"), "frames and values .* 2 and 1"),
    "no frames": (lambda: widgets.explorer([], [], "ε"), "frames and values .* 0 and 0"),
    "start": (lambda: widgets.explorer(frames(2), ["1", "2"], "ε", start=2), "start"),
    "a row short": (
        lambda: widgets.explorer_grid([frames(2)], ["a", "b"], ["1", "2"], "", ""),
        "2 rows of 2",
    ),
    "a ragged row": (
        lambda: widgets.explorer_grid([frames(2), frames(1)], "ab", "12", "", ""),
        "2 rows of 2",
    ),
    "no rows": (lambda: widgets.explorer_grid([], [], ["1"], "", ""), "frames"),
}


@pytest.mark.parametrize("name", BAD)
def test_explorers_refuse(name):
    call, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        call()
