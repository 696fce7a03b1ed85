"""The report page: every table and figure of a profile in one HTML file that opens by double-click."""

import base64
import html
import io
import os
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from rvlib import runs
from rvlib.errors import UserError
from rvlib.files import write_atomically
from rvlib.measures import find
from rvlib.study.tables import (
    AUDITED,
    NOT_MEASURED,
    audited,
    claims,
    emphasise,
    format_cells,
    is_number,
    markdown,
    measured,
    one_line,
    put_right,
)

RESULTS = ("<!-- results -->", "<!-- /results -->")
"""Between these two lines the README shows what was measured."""
README_TABLES = {
    "table 3": ("compare_super_resolution", ["Set5"], "Super-resolution by 4: {}."),
    "table 4": (
        "compare_deblurring",
        ["Set14", "GoPro-sample"],
        "Deblurring: {}. The axes of the report's table 4 are put right.",
    ),
}
"""The README's tables: who measured them, the sets after the report's own, a sentence for the protocol."""
SCREEN = 110
"""Layout resolution in pixels per inch; the embedded image is finer, for sharp screens and print."""


def table_html(source: Path | pd.DataFrame, places: pd.DataFrame | None = None, *, caption: str = "") -> str:
    """A table of the study or its CSV as HTML, in a box that scrolls, with the formats of the Markdown tables.

    `places` (`tables.rank`) says which numbers are the best and the second. Raises UserError for a file that is not a
    table.
    """
    try:
        table = source if isinstance(source, pd.DataFrame) else pd.read_csv(source)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{source} is no readable table ({error}): run the notebook that writes it again") from None
    cells = format_cells(table).map(html.escape)
    kinds = ["number" if is_number(table[column]) else _kind([column, *cells[column]]) for column in cells]
    cells = emphasise(cells, places, "<b>{}</b>", "<u>{}</u>")
    head = "".join(
        f'<th scope="col" class="{kind}">{_heading(column)}</th>' for kind, column in zip(kinds, table, strict=True)
    )
    rows = "\n".join(
        "<tr>" + "".join(map(_cell_html, kinds, row)) + "</tr>" for row in cells.itertuples(index=False, name=None)
    )
    text = html.escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text.split(".")[0] or "table"}"><table>'
        f"<caption>{text}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )


def _kind(texts: list[str]) -> str:
    """The class of a column of text, by its longest: what fits on a line is not broken."""
    longest = max(len(text) for text in texts)
    if longest > 60:
        return "prose"
    return "words" if longest > 24 else "text"


def _heading(column: str) -> str:
    """The title of a column, with an arrow that says which way is better where it holds a measure."""
    measure = find(column)
    return html.escape(one_line(column)) + (f" {measure.arrow}" if measure else "")


def _cell_html(kind: str, text: str) -> str:
    return f'<td class="{"none" if text == NOT_MEASURED else kind}">{text}</td>'


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
    head, _, changes = runs.commit().partition(" ")
    return "no git repository" if head == "unknown" else head[:12] + ("+" if changes else "")


def render(sections: list[dict], target: Path, **texts: str) -> None:
    """Write the page: `sections` have a title, a text and parts (HTML of tables and figures); `texts` fill the head."""
    environment = Environment(loader=PackageLoader("rvlib.study", "."), autoescape=select_autoescape())
    page = environment.get_template("report.html").render(sections=sections, **texts)
    write_atomically(target, lambda path: Path(path).write_text(page))


def protocol(name: str) -> str:
    """The protocol of one of the audited report's tables (`tables.AUDITED`), in words."""
    return "; ".join(find(column).protocol for column in AUDITED[name][2] if find(column).function)


def write_results(readme: Path, folder: Path) -> None:
    """Put what a profile measured, from the rows in its reports `folder`, between the markers of a README."""
    text = readme.read_text()
    if any(text.count(marker) != 1 for marker in RESULTS):
        raise UserError(f"{readme} has no place for the results: it needs one line {RESULTS[0]} and one {RESULTS[1]}")
    known = put_right(claims(["Set5", "Set14", "Urban100", "GoPro"]))
    lines = [
        "Bold and underlined: best and second of the values measured here. "
        "Claims were measured under other or unknown protocols, so they are shown but not ranked.\n"
    ]
    for name, (notebook, sets, sentence) in README_TABLES.items():
        layout, places = audited(name, measured(folder / notebook), known, sets=sets)
        lines.append(_source(readme, folder, notebook, sentence.format(protocol(name))))
        # the runs of the profile that writes the README are the weights that ship
        lines.append(markdown(layout.replace("this run", "released weights"), places) + "\n")
    inside = "\n".join(lines)
    before, after = text.split(RESULTS[0])[0], text.split(RESULTS[1])[1]
    content = f"{before}{RESULTS[0]}\n\n{inside}\n{RESULTS[1]}{after}"
    write_atomically(readme, lambda path: Path(path).write_text(content))


def _source(readme: Path, folder: Path, notebook: str, protocol: str) -> str:
    """A table's protocol and the way from its numbers to the rows and to the notebook that measured them."""
    rows = Path(os.path.relpath(folder / notebook / "rows.csv", readme.parent)).as_posix()
    return (
        f'{protocol} Means of [rows.csv]({rows}), where the released weights are "this run", '
        f"measured by [{notebook}](notebooks/{notebook}.ipynb).\n"
    )
