"""Diagrams of networks, drawn from a list of names: boxes in lanes, arrows between them, shortcuts around them.

    diagrams.draw(
        [["x", "conv\n3 × 3|1", "ReLU", "conv\n3 × 3|2", "+", "y"]],
        skips=[("x", "+")],
        notes={"conv\n3 × 3|1": "64 channels"},
        shaded=["ReLU"],
    )

A lane is a row of boxes from left to right (with `down=True` a column from top to bottom). Neighbours in a lane are
joined by an arrow; an empty name leaves a place free and breaks the chain. What follows "|" in a name is not shown, so
two boxes may look alike. The names in `SYMBOLS` become circles. All other arrows are said by the names of their ends.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

SYMBOLS = ("+", "×", "⊙", "⊗", "⊕", "−")
WIDTH, HEIGHT = 1.16, 0.56  # of a box
STEP = {False: (1.46, 1.35), True: (1.95, 0.92)}  # between the boxes of a lane and between lanes: (x, y), by `down`
PLAIN, SHADED, LINE, SHORTCUT, NOTE = "#f2f2f2", "#fbe3b5", "#404040", "#0173b2", "#555555"


def draw(
    lanes: Sequence[Sequence[str]],
    *,
    arrows: Collection[tuple[str, str]] = (),
    skips: Collection[tuple[str, str]] = (),
    notes: Mapping[str, str] | None = None,
    shaded: Collection[str] = (),
    titles: Sequence[str] = (),
    down: bool = False,
) -> Figure:
    """Draw boxes and arrows; every diagram has a light ground of its own, so that it can be read in dark mode too.

    lanes: the names of the boxes, lane by lane.
    arrows: more arrows (from, to) between any two boxes, straight.
    skips: arrows (from, to) around the boxes between two boxes of one lane: above it, or with `down` at its left.
    notes: small text under a box (with `down` at its right), by the box's name.
    shaded: names of the boxes that are coloured, those that the text is about.
    titles: one over each lane.
    """
    wide, high = STEP[down]
    places = {
        name: (number * wide, -index * high) if down else (index * wide, -number * high)
        for number, lane in enumerate(lanes)
        for index, name in enumerate(lane)
        if name
    }
    figure, axis = plt.subplots(layout=None)
    for name, place in places.items():
        _box(axis, place, name.split("|")[0], SHADED if name in shaded else PLAIN)
    joined = [pair for lane in lanes for pair in pairwise(lane) if all(pair)]
    for first, second in [*joined, *arrows]:
        start, end = _ends(places[first], places[second], first, second)
        _arrow(axis, [start, end], LINE)
    _skips(axis, places, skips, down)
    for name, note in (notes or {}).items():
        x, y = places[name]
        spot = (x + WIDTH / 2 + 0.06, y) if down else (x, y - HEIGHT / 2 - 0.07)
        style = {"ha": "left", "va": "center"} if down else {"ha": "center", "va": "top"}
        axis.text(*spot, note, fontsize=8.5, color=NOTE, **style)
    for number, title in enumerate(titles):
        spot = (number * wide, HEIGHT / 2 + 0.3) if down else (-WIDTH / 2, -number * high + HEIGHT / 2 + 0.28)
        axis.text(*spot, title, fontsize=10, weight="bold", ha="center" if down else "left", va="bottom")
    axis.set_aspect("equal")
    axis.set_axis_off()
    axis.autoscale_view()
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    scale = min(0.92, 11.5 / (right - left))  # inches for one unit: a laptop shows the widest diagram whole
    figure.set_size_inches((right - left) * scale, (top - bottom) * scale)
    axis.set_position((0, 0, 1, 1))
    figure.set_facecolor("white")
    return figure


def _is_symbol(name: str) -> bool:
    return name.split("|")[0] in SYMBOLS


def _box(axis, place: tuple[float, float], text: str, colour: str) -> None:
    x, y = place
    if text in SYMBOLS:
        patch = Circle(place, 0.19, facecolor="white", edgecolor=LINE, linewidth=1.2)
    else:
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        patch = FancyBboxPatch(
            corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", facecolor=colour, edgecolor=LINE
        )
    axis.add_patch(patch)
    axis.text(x, y, text, ha="center", va="center", fontsize=9.5, color="black", linespacing=1.1)


def _ends(start, end, first: str, second: str):
    """Where an arrow leaves the first box and meets the second: at the sides that face each other."""
    (x0, y0), (x1, y1) = start, end
    across = abs(y1 - y0) < HEIGHT / 2  # boxes of one row; all others meet at top and bottom
    ends = []
    for (x, y), name, sign in ((start, first, 1), (end, second, -1)):
        half = (0.19, 0.19) if _is_symbol(name) else (WIDTH / 2, HEIGHT / 2)
        towards = (1 if x1 > x0 else -1) if across else (1 if y1 > y0 else -1)
        ends.append((x + sign * towards * half[0], y) if across else (x, y + sign * towards * half[1]))
    return ends


def _arrow(axis, points, colour: str) -> None:
    """A line through the points with an arrow head at its end."""
    xs, ys = zip(*points, strict=True)
    axis.plot(xs[:-1], ys[:-1], color=colour, linewidth=1.3, solid_capstyle="butt")
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", points[-1], points[-2], arrowprops=style)


def _skips(axis, places, skips, down: bool) -> None:
    """Shortcuts run around their lane, each farther out than those whose span it holds."""
    along, beside = (1, 0) if down else (0, 1)
    sign = -1 if down else 1

    def span(skip):
        return sorted(places[name][along] for name in skip)

    for skip in sorted(skips, key=lambda each: span(each)[1] - span(each)[0]):
        low, high = span(skip)
        lane = places[skip[0]][beside]
        inside = [
            other
            for other in skips
            if other != skip and places[other[0]][beside] == lane and low <= span(other)[0] and span(other)[1] <= high
        ]
        far = (WIDTH if down else HEIGHT) / 2 + 0.2 + 0.22 * len(inside)
        points = []
        for name, inner in ((skip[0], True), (skip[1], False)):
            half = 0.19 if _is_symbol(name) else (WIDTH if down else HEIGHT) / 2
            nudge = (0.08 if _is_symbol(name) else 0.12) * (1 if inner else -1) * (-1 if down else 1)
            place = list(places[name])
            place[along] += nudge
            near, out = list(place), list(place)
            near[beside] += sign * half
            out[beside] += sign * far
            points += [near, out] if inner else [out, near]
        _arrow(axis, points, SHORTCUT)
