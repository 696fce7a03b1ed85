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
from rvlib.errors import UserError
from rvlib.files import write_atomically
from rvlib.tables import audited, claims, markdown, measured, put_right

RESULTS = ("<!-- results -->", "<!-- /results -->")
"""Between these two lines the README shows what was measured."""
SCREEN = 110
"""Pixels per inch of a figure on the page, of which a sharp screen or paper shows more."""


def table_html(source: Path | pd.DataFrame, *, best: str | None = None, caption: str = "") -> str:
    """A table of the study or its CSV as HTML, in a box that scrolls, with the formats of the Markdown tables."""
    try:
        table = source if isinstance(source, pd.DataFrame) else pd.read_csv(source)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{source} is no readable table ({error}): run the notebook that writes it again") from None
    lines = markdown(table, best=best).splitlines()
    cells = ([cell.strip() for cell in re.split(r"(?<!\\)\|", line[1:-1])] for line in lines)
    header, rule, *body = ([cell.replace("\\|", "|") for cell in row] for row in cells)
    longest = [max(map(len, column), default=0) for column in zip(header, *body, strict=True)]
    kinds = ["prose" if length > 60 else "words" if length > 24 else "text" for length in longest]
    kinds = ["number" if mark.endswith(":") else kind for mark, kind in zip(rule, kinds, strict=True)]
    line = lambda tag, row: "".join(  # noqa: E731
        f'<{tag} class="{kind}">{_cell(text)}</{tag.split()[0]}>' for kind, text in zip(kinds, row, strict=True)
    )
    head = re.sub("(PSNR|SSIM)", r"\1 ↑", line('th scope="col"', header)).replace("LPIPS", "LPIPS ↓")
    lines = "\n".join(f"<tr>{line('td', row)}</tr>" for row in body)
    lines = lines.replace('"text">not measured', '"none">not measured')
    text = html.escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text.split(".")[0] or "table"}"><table>'
        f"<caption>{text}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{lines}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    text = re.sub(r"\*\*(.*?)\*\*", r"<b>\1</b>", html.escape(text))
    return text.replace("&lt;u&gt;", "<u>").replace("&lt;/u&gt;", "</u>")


def figure_html(file: Path, caption: str) -> str:
    """A PNG inside the page, with its caption; a wide one scrolls on a narrow screen, so that one can read it."""
    data, text = base64.b64encode(file.read_bytes()).decode(), html.escape(caption)
    with Image.open(file) as image:
        dots = image.info.get("dpi", (SCREEN, SCREEN))[0]
        width, height = (round(side * SCREEN / dots) for side in image.size)
    scroll = f' class="scroll" tabindex="0" role="region" aria-label="{text}"' if width > 2 * height else ""
    image = f'<img alt="{text}" width="{width}" height="{height}" src="data:image/png;base64,{data}">'
    return f"<figure><div{scroll}>{image}</div><figcaption>{text}</figcaption></figure>"


def slider_html(before: np.ndarray, after: np.ndarray, caption: str) -> str:
    """Two versions of a photo on top of each other and a line between them; needs no network and no kernel.

    The line follows the browser's own range input, which lies over the photo unseen: mouse, touch and keyboard move it,
    in JupyterLab too, which is asked to leave it the arrow keys. uint8 H x W x 3 of one size.
    """
    lower, upper = (_image_html(image) for image in (before, after))
    text = html.escape(caption)
    move = (
        "this.parentNode.querySelector('.after').style.clipPath='inset(0 0 0 '+this.value+'%)';"
        "this.parentNode.querySelector('.line').style.left=this.value+'%'"
    )
    layer = "position:absolute;left:0;top:0;width:100%;height:100%"
    return (
        f'<figure class="slider" style="margin:1em 0;max-width:{before.shape[1]}px">'
        f'<div style="position:relative;line-height:0;overflow:hidden"><img class="before" alt="before: {text}" '
        f'src="{lower}" style="width:100%"><img class="after" alt="after: {text}" src="{upper}" '
        f'style="{layer};clip-path:inset(0 0 0 50%)">'
        '<div class="line" style="position:absolute;left:50%;top:0;width:4px;height:100%;margin-left:-2px;'
        'background:#fff;box-shadow:0 0 3px #000"></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="before and after: {text}" oninput="{move}" '
        'data-lm-suppress-shortcuts="true" '
        f'style="{layer};margin:0;opacity:0;cursor:ew-resize;touch-action:pan-y"></div>'
        f"<figcaption>{text}: left before, right after; drag the line or use the arrow keys</figcaption></figure>"
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


def write_results(readme: Path, folder: Path) -> None:
    """Put what a profile measured, from the rows in its reports `folder`, between the markers of a README."""
    text = readme.read_text()
    if any(text.count(marker) != 1 for marker in RESULTS):
        raise UserError(f"{readme} has no place for the results: it needs one line {RESULTS[0]} and one {RESULTS[1]}")
    known = put_right(claims(["Set5", "Set14", "Urban100", "GoPro"]))
    lines = ["Bold and underlined: best and second of what was measured here. Claims have protocols of their own.\n"]
    protocols = {
        "table 3": "Super-resolution by 4: PSNR on luminance, 4 pixels cropped; LPIPS (AlexNet) on RGB.\n",
        "table 4": "Deblurring: RGB, nothing cropped, 3-D SSIM; the axes of the report's table 4 are put right.\n",
    }
    sources = {"table 3": "09_compare_super_resolution", "table 4": "10_compare_deblurring"}
    for name, sets in (("table 3", ["Set5"]), ("table 4", ["Set14", "GoPro-sample"])):
        table = audited(name, measured(folder / sources[name]), known, sets=sets)
        lines += [protocols[name], markdown(table.replace("this run", "released weights")) + "\n"]
    inside = "\n".join(lines).replace("<u>", "<ins>").replace("</u>", "</ins>")  # GitHub shows no <u>
    before, after = text.split(RESULTS[0])[0], text.split(RESULTS[1])[1]
    content = f"{before}{RESULTS[0]}\n\n{inside}\n{RESULTS[1]}{after}"
    write_atomically(readme, lambda path: Path(path).write_text(content))
