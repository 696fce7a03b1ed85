"""Figures: how a notebook stores them, and how curves are titled."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from rvlib.study import figures


@pytest.fixture
def stored(monkeypatch):
    """What a notebook would store of a figure, by format."""
    shell = InteractiveShell.instance()
    monkeypatch.setattr(figures, "get_ipython", lambda: shell)
    figures.theme()
    formatters = shell.display_formatter.formatters
    for kind in ("png", "jpeg"):
        monkeypatch.setattr(formatters[f"image/{kind}"], "enabled", True)
    yield lambda figure: {kind: formatters[f"image/{kind}"](figure) for kind in ("png", "jpeg")}
    plt.close("all")
    InteractiveShell.clear_instance()


def test_photos_are_stored_as_jpeg_and_drawings_as_png(stored):
    photo = np.random.default_rng(0).integers(0, 256, size=(80, 90, 3), dtype=np.uint8)
    found = stored(figures.images({"photo": photo}))
    assert found["png"] is None
    assert found["jpeg"].startswith(b"\xff\xd8")
    found = stored(figures.images({"kernel": photo[:9, :9, 0]}))
    assert found["jpeg"] is None
    assert found["png"].startswith(b"\x89PNG")


def test_a_stored_drawing_is_small_and_looks_the_same(stored):
    figure, axis = plt.subplots()
    for index, colour in enumerate(figures.PALETTE):
        axis.plot(np.sin(np.arange(9.0) * index), color=colour)
    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=plt.rcParams["figure.dpi"], bbox_inches="tight")
    small = stored(figure)["png"]
    assert len(small) < 0.5 * len(whole.getvalue())
    before, after = (np.asarray(Image.open(each).convert("RGB"), int) for each in (whole, io.BytesIO(small)))
    assert np.abs(before - after).mean() < 0.5, "of 256 grey levels"


def test_curves_are_titled_by_what_they_measure():
    log = pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25], "psnr_y_crop4": [28.0, 29.0]})
    left, right = figures.curves(log, columns=["loss", "psnr_y_crop4"], baseline={"psnr_y_crop4": 28.5}).axes
    assert left.get_ylabel() == "loss"
    assert right.get_ylabel() == "PSNR in dB"
    assert "luminance, 4 pixels cropped" in right.get_title()
    plt.close("all")


@pytest.mark.parametrize(("named", "name"), [({}, "bicubic"), ({"input_name": "blurred input"}, "blurred input")])
def test_the_line_of_the_input_has_its_name(named, name):
    log = pd.DataFrame({"step": [1, 2], "psnr_rgb_crop0": [28.0, 29.0]})
    (axis,) = figures.curves(log, columns=["psnr_rgb_crop0"], baseline={"psnr_rgb_crop0": 28.5}, **named).axes
    assert [text.get_text() for text in axis.get_legend().get_texts()] == [name]
    plt.close("all")
