"""Which model suits a photo: a part of it restored by several, in one page that needs no network and no server."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image
from scipy.ndimage import uniform_filter
from torch import nn

from rvlib import complexity
from rvlib.degrade import resize_photo
from rvlib.errors import UserError
from rvlib.files import write_atomically
from rvlib.models.base import device_of
from rvlib.originals import LARGEST_SIDE
from rvlib.restore import restore, scale_of

SIDES = (16, 1024)  # pixels of a part: what models take, and what a page can hold


@dataclass(frozen=True)
class Part:
    """A part of a photo, uint8 h x w x 3, and how many times more pixels the photo has."""

    pixels: np.ndarray
    times: float = 1.0


@dataclass(frozen=True)
class Trial:
    """What a model made of a part, and what it took: wall time in seconds, memory in bytes."""

    restored: np.ndarray
    scale: int
    seconds: float
    times: float
    memory: int

    @property
    def facts(self) -> str:
        """Time and memory in words."""
        whole = f", about {self.seconds * self.times:,.0f} s for the whole photo" if self.times > 1.5 else ""
        return f"x{self.scale}, {self.seconds:.2g} s for this part{whole}, {self.memory / 2**20:,.0f} MiB of memory"


def part(photo: np.ndarray, side: int = 256) -> Part:
    """The square of up to `side` pixels where neighbouring pixels of a photo (uint8 H x W x 3) differ most."""
    if not SIDES[0] <= side <= SIDES[1]:
        raise UserError(f"a part has sides of {SIDES[0]} to {SIDES[1]} pixels, not {side}")
    height, width = (min(side, length) for length in photo.shape[:2])
    step = max(1, side // 32)
    green = photo[::step, ::step, 1].astype(np.float32)
    down, across = (np.gradient(green, axis=axis) if green.shape[axis] > 1 else 0 * green for axis in (0, 1))
    detail = uniform_filter(np.hypot(down, across), 32)
    row, column = (step * int(at) for at in np.unravel_index(detail.argmax(), detail.shape))
    top = min(max(0, row - height // 2), photo.shape[0] - height)
    left = min(max(0, column - width // 2), photo.shape[1] - width)
    pixels = np.ascontiguousarray(photo[top : top + height, left : left + width])
    return Part(pixels, photo[..., 0].size / pixels[..., 0].size)


def trials(chains: Mapping[str, nn.Module | Sequence[nn.Module]], part: Part) -> dict[str, Trial]:
    """Restore a part with each model, or chain of models, by its name.

    Raises UserError before any work where a result would be too large for a page.
    """
    found, most = {}, LARGEST_SIDE["WEBP"]
    lists = {name: list(given) if isinstance(given, Sequence) else [given] for name, given in chains.items()}
    for name, chain in lists.items():
        if (side := max(part.pixels.shape[:2]) * scale_of(chain)) > most:
            raise UserError(f"{name} makes {side} pixels a side, and a page holds {most}: take a smaller part (--side)")
    for name, chain in lists.items():
        place = torch.zeros(1, device=device_of(chain[0]))
        memory = complexity.peak_memory(lambda _, chain=chain: restore(chain, part.pixels), place)
        started = perf_counter()
        restored = restore(chain, part.pixels)
        found[name] = Trial(restored, scale_of(chain), perf_counter() - started, part.times, memory)
    return found


def write(path: Path, photos: Mapping[str, tuple[Part, Mapping[str, Trial]]]) -> None:
    """Write the page: for each photo, by its name, a part and what the models made of it."""
    environment = Environment(loader=PackageLoader("rvlib", "."), autoescape=select_autoescape())
    sections = {name: sliders(part, tried) for name, (part, tried) in photos.items()}
    page = environment.get_template("compare.html").render(sections=sections)
    write_atomically(path, lambda temporary: Path(temporary).write_text(page, encoding="utf-8", errors="replace"))


def sliders(part: Part, tried: Mapping[str, Trial]) -> list[tuple[str, str, str]]:
    """For each model its name, the slider between the part and what it made of that, and what it took."""
    return [
        (name, slider_html(resize_photo(part.pixels, trial.scale), trial.restored, name), trial.facts)
        for name, trial in tried.items()
    ]


def slider_html(before: np.ndarray, after: np.ndarray, caption: str) -> str:
    """Two versions of a photo on top of each other and a line between them; needs no network and no kernel.

    The line follows the browser's own range input, which lies over the photo unseen: mouse, touch and keyboard move it,
    in JupyterLab too, which is asked to leave it the arrow keys. A page may set --zoom. uint8 H x W x 3 of one size; a
    small one is shown larger, as wide as its caption needs.
    """
    lower, upper = (data_url(image) for image in (before, after))
    text = html.escape(caption)
    move = (
        "this.parentNode.querySelector('.after').style.clipPath='inset(0 0 0 '+this.value+'%)';"
        "this.parentNode.querySelector('.line').style.left=this.value+'%'"
    )
    layer = "position:absolute;left:0;top:0;width:100%;height:100%"
    return (
        f'<figure class="slider" style="margin:1em 0;max-width:max({before.shape[1]}px,20em)">'
        '<div class="frame" style="overflow:hidden">'
        f'<div style="position:relative;line-height:0;overflow:hidden;width:calc(100% * var(--zoom, 1))">'
        f'<img class="before" alt="before: {text}" '
        f'src="{lower}" style="width:100%"><img class="after" alt="after: {text}" src="{upper}" '
        f'style="{layer};clip-path:inset(0 0 0 50%)">'
        '<div class="line" style="position:absolute;left:50%;top:0;width:4px;height:100%;margin-left:-2px;'
        'background:#fff;box-shadow:0 0 3px #000"></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="before and after: {text}" oninput="{move}" '
        'data-lm-suppress-shortcuts="true" '
        f'style="{layer};margin:0;opacity:0;cursor:ew-resize;touch-action:pan-y"></div></div>'
        f"<figcaption>{text}: left before, right after; drag the line or use the arrow keys</figcaption></figure>"
    )


def data_url(image: np.ndarray, kind: str = "WEBP", *, quality: int = 92) -> str:
    """An image (uint8 H x W x 3) as a data URL: "PNG", or "WEBP" at a quality that shows what a model does."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
