"""The report page: every table and figure of a profile in one HTML file that opens by double-click."""

import base64
import html
import io
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

import rvlib
from rvlib.files import write_atomically
from rvlib.tables import markdown


def table_html(file: Path, *, best: str | None = None) -> str:
    """A CSV of the study as an HTML table, with the number formats of the Markdown tables."""
    lines = markdown(pd.read_csv(file), best=best).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    header, *body = [row for index, row in enumerate(rows) if index != 1]
    cell = lambda text: re.sub(  # noqa: E731
        r"\*\*(.*?)\*\*|&lt;u&gt;(.*?)&lt;/u&gt;",
        lambda m: f"<b>{m[1]}</b>" if m[1] is not None else f"<u>{m[2]}</u>",
        html.escape(text),
    )
    head = "".join(f"<th>{cell(text)}</th>" for text in header)
    lines = ["<tr>" + "".join(f"<td>{cell(text)}</td>" for text in row) + "</tr>" for row in body]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def figure_html(file: Path, caption: str) -> str:
    """A PNG inside the page, with its caption."""
    data = base64.b64encode(file.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def slider_html(before: np.ndarray, after: np.ndarray, caption: str) -> str:
    """Two versions of a photo on top of each other and a slider between them; needs no network and no kernel.

    The browser's own range input moves by mouse, touch and keyboard. uint8 H x W x 3 of one size.
    """
    lower, upper = (_image_html(image) for image in (before, after))
    text = html.escape(caption)
    move = "this.parentNode.querySelector('.after').style.clipPath='inset(0 0 0 '+this.value+'%)'"
    return (
        f'<figure class="slider" style="margin:1em 0;max-width:{before.shape[1]}px">'
        f'<div style="position:relative;line-height:0"><img class="before" alt="before: {text}" src="{lower}" '
        f'style="width:100%"><img class="after" alt="after: {text}" src="{upper}" '
        'style="width:100%;position:absolute;left:0;top:0;clip-path:inset(0 0 0 50%)">'
        f'<input type="range" min="0" max="100" value="50" aria-label="before and after: {text}" oninput="{move}" '
        'style="position:absolute;left:0;bottom:8px;width:100%;margin:0;cursor:ew-resize"></div>'
        f"<figcaption>{text}: left before, right after</figcaption></figure>"
    )


def _image_html(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def commit() -> str:
    """The commit that the working tree is at, with a plus sign where files differ from it."""
    try:
        run = lambda *words: subprocess.run(  # noqa: E731
            ["git", *words], cwd=rvlib.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        return run("rev-parse", "--short=12", "HEAD") + ("+" if run("status", "--porcelain", "--", "rvlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return "no git repository"


def render(sections: list[dict], target: Path, **facts: str) -> None:
    """Write the page: `sections` have a title, a text and parts (HTML of tables and figures)."""
    environment = Environment(loader=PackageLoader("rvlib", "."), autoescape=select_autoescape())
    page = environment.get_template("report.html").render(sections=sections, **facts)
    write_atomically(target, lambda path: Path(path).write_text(page))
