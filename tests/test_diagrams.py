"""Diagrams: every box, note and arrow that is asked for is drawn, and shortcuts do not cross boxes."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Circle, FancyBboxPatch

from rvlib.study import diagrams


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.mark.parametrize("down", [False, True])
def test_boxes_notes_and_arrows(down):
    lanes = [["x", "conv|1", "+", "y"], ["", "conv|2"]]
    options = {"arrows": [("conv|2", "+")], "skips": [("x", "+")], "notes": {"y": "3 × h × w"}, "titles": ["block"]}
    axis = diagrams.draw(lanes, **options, shaded=["conv|2"], down=down).axes[0]
    assert sum(isinstance(patch, FancyBboxPatch) for patch in axis.patches) == 4
    assert sum(isinstance(patch, Circle) for patch in axis.patches) == 1
    texts = [text.get_text() for text in axis.texts if text.get_text()]
    assert sorted(texts) == sorted(["x", "conv", "+", "y", "conv", "3 × h × w", "block"])
    assert sum(getattr(text, "arrow_patch", None) is not None for text in axis.texts) == 3 + 1 + 1


@pytest.mark.parametrize("down", [False, True])
def test_shortcuts_run_outside_of_the_boxes_they_pass(down):
    lane = ["a", "b", "c", "d"]
    axis = diagrams.draw([lane], skips=[("a", "d"), ("b", "c")], down=down).axes[0]
    long, short = (
        max((line.get_xydata() for line in axis.lines if line.get_color() == diagrams.SHORTCUT), key=size)
        for size in (
            lambda points: abs(points[0] - points[-1]).sum(),
            lambda points: -abs(points[0] - points[-1]).sum(),
        )
    )
    beside = (lambda points: -points[:, 0].min()) if down else (lambda points: points[:, 1].max())
    edge = (diagrams.WIDTH if down else diagrams.HEIGHT) / 2
    assert edge < beside(short) < beside(long)


def test_the_ground_is_light_and_the_width_fits_a_laptop():
    figure = diagrams.draw([[f"box {number}" for number in range(14)]])
    assert figure.get_facecolor()[:3] == (1, 1, 1)
    assert figure.get_size_inches()[0] <= 11.6
