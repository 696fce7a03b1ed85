"""The report page: every table and figure of a profile in one HTML file that opens by double-click.

The page's frame is `report.html` with `report.css` and `report.js`. It needs no other file and no script: scripts sort
tables, move sliders and enlarge them; without them the two versions of a photo stand one below the other.
"""

import base64
import html
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

import rvlib
from rvlib.compare import data_url
from rvlib.errors import UserError
from rvlib.files import write_text
from rvlib.measures import find
from rvlib.study import published, tables
from rvlib.study.tables import (
    BEST,
    LEVEL,
    NOT_MEASURED,
    SECOND,
    WORSE,
    WORSE_AND_LEVEL,
    emphasise,
    format_cells,
    is_number,
    one_line,
)

SCREEN = 110
"""Layout resolution in pixels per inch; the embedded image is finer, for sharp screens and print."""
QUALITY = 75  # of photos as WebP, which the page has many of
WIDEST = 1600  # pixels of an embedded photo
NARROW = 600
"""Pixels of a figure that is shown whole on a phone; in wider ones the letters would become too small."""
LARGEST_DRAWING = 250_000  # bytes: a drawing with thousands of points is smaller as a picture
MARKS = {
    BEST: "<b>{}</b>",
    SECOND: "<u>{}</u>",
    WORSE: '{} <span class="worse" title="a worse mean than the input\'s">▼</span>',
    LEVEL: '{} <span title="cannot be told apart from the best">≈</span>',
}
MARKS[WORSE_AND_LEVEL] = MARKS[LEVEL].format(MARKS[WORSE])


def rows_beside(profile: str, comparison: str) -> pd.DataFrame:
    """The rows of a profile's comparison, and on sets that it has not measured those that other profiles did.

    These are the released weights (the committed rows of the release profile) and official weights, where the official
    profile has run here. The column `profile` says whose a row is.
    """
    own = tables.measured_rows(rvlib.ROOT / "reports" / profile / comparison)
    parts = [own.assign(profile=profile)]
    for other, label in (("release", "released weights"), ("official", published.LABEL)):
        rows = tables.measured_rows(rvlib.ROOT / "reports" / other / comparison).assign(profile=other)
        is_theirs = rows["label"].str.startswith(label) | rows["label"].str.endswith("input")
        if other != profile and is_theirs.any():
            theirs, shown = rows[is_theirs], pd.concat(parts)
            known = set(zip(shown["set"], shown["label"], strict=True))
            parts.append(theirs[[key not in known for key in zip(theirs["set"], theirs["label"], strict=True)]])
    return pd.concat(parts, ignore_index=True)


def table_html(
    source: Path | pd.DataFrame,
    places: pd.DataFrame | None = None,
    *,
    caption: str = "",
    origin: str = "",
    folded: bool = False,
) -> str:
    """A table of the study or its CSV as HTML in a box that scrolls and folds, formatted as the Markdown tables are.

    `places` (`tables.rank`) says which cells are marked, `origin` (HTML, `origin_html`) where the numbers come from; a
    `folded` one is opened by a click.
    Raises UserError for a file that is not a table.
    """
    try:
        table = source if isinstance(source, pd.DataFrame) else pd.read_csv(source)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{source} is no readable table ({error}): run the notebook that writes it again") from None
    words = format_cells(table)
    cells = words.map(cited)
    kinds = ["number" if is_number(table[column]) else _kind([column, *words[column]]) for column in words]
    head = "".join(
        f'<th scope="col" class="{kind}">{_heading(column)}</th>' for kind, column in zip(kinds, cells, strict=True)
    )
    cells = emphasise(cells, places, MARKS)
    rows = "\n".join(
        "<tr>" + "".join(map(_cell_html, kinds, row)) + "</tr>" for row in cells.itertuples(index=False, name=None)
    )
    text = html.escape(caption)
    name = text.split(". ")[0].rstrip(".") or "table"
    return (
        f'<details class="table"{"" if folded else " open"}><summary>{name}</summary>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<caption>{text}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>{origin}</details>"
    )


def origin_html(
    file: str, *, notebook: str, profile: str, rows: pd.DataFrame | None = None, weights: dict[str, str] | None = None
) -> str:
    """The way from a table to its run, as HTML: CSV, notebook, profile, commits, dates, photos, weights with hashes.

    rows: the measured rows behind it, with the facts of `provenance.stamp`; those that other profiles measured (column
    `profile`) are in a file of the same name there. weights: SHA-256 by name, where there are no such rows. Links go
    from reports/<profile>/index.html.
    """
    name = Path(file).name
    others = () if rows is None else sorted(set(rows.get("profile", ())) - {profile}, reverse=True)
    parts = [f'<a href="{file}">{name}</a>']
    parts += [f'<a href="../{other}/{file}">{name} of the profile {other}</a>' for other in others]
    parts.append(f'<a href="../../notebooks/{notebook}.ipynb">{notebook}</a>')
    if rows is None:
        parts.append(html.escape(f"profile {profile}"))
        hashes = (weights or {}).items()
    else:
        parts.append(html.escape(f"profile {profile}, {commits(rows)}; photos: {photo_counts(rows)}; one seed"))
        hashes = [(f"{of} ({label})", sha256) for of, label, sha256 in weights_of(rows).astype(str).to_numpy()]
    named = [f'{html.escape(of)} <code title="{sha256}">{sha256[:12]}</code>' for of, sha256 in hashes]
    if named:
        labels = set() if rows is None else set(weights_of(rows)["label"])
        cards = []
        if "this run" in labels and (rvlib.ROOT / "reports" / profile / "weights" / "README.md").is_file():
            cards.append('<a href="weights/README.md">cards of this run</a>')
        if not cards or labels != {"this run"}:
            cards.append('<a href="../../weights/README.md">cards</a>')
        parts.append(f"weights ({', '.join(cards)}) by SHA-256: {', '.join(named)}")
    return f'<p class="origin">Source: {"; ".join(parts)}.</p>'


def absent_html(names: list[str], command: str) -> str:
    """What a section lacks, and the command that makes it, as HTML."""
    listed = ", ".join(f"<code>{html.escape(name)}</code>" for name in names)
    it = "it" if len(names) == 1 else "them"
    return f'<p class="absent">Not made yet: {listed}. <code>{html.escape(command)}</code> makes {it}.</p>'


def weights_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The weights behind measured rows: name, label and SHA-256 of each."""
    return rows.reindex(columns=["weights", "label", "sha256"]).replace("", None).dropna().drop_duplicates()


def commits(rows: pd.DataFrame) -> str:
    """Commits and dates of measured rows in words."""
    known = rows.reindex(columns=["commit", "date"]).dropna().drop_duplicates()
    told = ", ".join(f"{each.commit} of {each.date}" for each in known.itertuples()) or "not kept"
    return f"commit {told}{' (+: with changes that were not committed)' if '+' in told else ''}"


def photo_counts(rows: pd.DataFrame) -> str:
    """How many photos each set has: "Set5 5, Set14 14"."""
    return ", ".join(f"{name} {count}" for name, count in rows.groupby("set", sort=False)["photo"].nunique().items())


def cited(text: str) -> str:
    """A cell's text, escaped; a key or the label of a published value links to the page's bibliography."""
    key = tables.sources().get(text)
    return f'<a href="#{key}">{html.escape(text)}</a>' if key else html.escape(text)


def bibliography_html() -> str:
    """The references of the audited report, with its numbers, and those of this study."""
    entries = []
    for key, each in tables.references().iterrows():
        number = f" [audited report: {each['number']}]" if each["number"] else ""
        link = f' <a href="{each["link"]}">{each["link"].removeprefix("https://")}</a>' if each["link"] else ""
        text = html.escape(f"{each['authors']}: {each['title']}. {each['venue']} {each['year']}.")
        entries.append(f'<li id="{key}"><code>{key}</code>{number} {text}{link}</li>')
    return f'<ul class="bibliography">{"".join(entries)}</ul>'


def _kind(texts: list[str]) -> str:
    """The class of a column of text, by its longest: what fits on a line is not broken."""
    longest = max(len(text) for text in texts)
    if longest > 60:
        return "prose"
    return "words" if longest > 24 else "text"


def _heading(column: str) -> str:
    """The title of a column, with an arrow that says which way is better where it holds a measure.

    Where the column has the measure's key, the title names the channel instead: "PSNR (luminance) ↑".
    """
    measure = find(column)
    if measure is None:
        return html.escape(one_line(column))
    *words, last = one_line(column).split(" ")
    channel = f" ({measure.view.split()[0]})" if measure.function and last == measure.key else ""
    return html.escape(" ".join([*words, f"{measure.title}{channel}\N{NO-BREAK SPACE}{measure.arrow}"]))


def _cell_html(kind: str, text: str) -> str:
    return f'<td class="{"none" if text == NOT_MEASURED else kind}">{text}</td>'


def figure_html(file: Path, caption: str) -> str:
    """A figure inside the page, with its caption; a wide one scrolls on a narrow screen, so that one can read it.

    file: its PNG. A drawing is embedded as the SVG beside it, a photo as WebP.
    """
    text, drawing = html.escape(caption), file.with_suffix(".svg")
    with Image.open(file) as image:
        dots = image.info.get("dpi", (SCREEN, SCREEN))[0]
        width, height = (round(side * SCREEN / dots) for side in image.size)
        if drawing.exists() and drawing.stat().st_size < LARGEST_DRAWING:
            source = f"data:image/svg+xml;base64,{base64.b64encode(drawing.read_bytes()).decode()}"
        else:
            image = image.convert("RGB")
            image.thumbnail((WIDEST, WIDEST), Image.Resampling.LANCZOS)
            source = data_url(np.asarray(image), quality=QUALITY)
    scroll = f' class="scroll" tabindex="0" role="region" aria-label="{text}"' if width > NARROW else ""
    image = f'<img alt="{text}" width="{width}" height="{height}" src="{source}">'
    return f"<figure><div{scroll}>{image}</div><figcaption>{text}</figcaption></figure>"


def pairs_html(pictures: list[tuple[np.ndarray, str, str]]) -> str:
    """Pictures in a row for the first screen, each (uint8 H x W x 3, what it shows, the values under it)."""
    figures = [
        f'<figure><img alt="{html.escape(alt)}" src="{data_url(picture, quality=QUALITY)}">'
        f"<figcaption>{html.escape(text)}</figcaption></figure>"
        for picture, alt, text in pictures
    ]
    return f'<div class="pictures">{"".join(figures)}</div>'


def best_crops(
    photos: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], *, side: int, count: int
) -> list[tuple[str, tuple[slice, slice]]]:
    """Where restoring helped most: `count` squares of `side` pixels, at most two of a photo, the best first.

    photos: (before, after, reference) by name, uint8 H x W x 3 of one size. What counts is the share of pixels that
    came nearer to the reference by at least 4 grey levels, less the share that went away from it as far: a sharper
    texture shows more than one hard edge.
    """
    found = []
    for name, (before, after, reference) in photos.items():
        before, after = (np.abs(each.astype(int) - reference).mean(2) for each in (before, after))
        nearer = np.sign(np.trunc((before - after) / 4))
        for top in range(0, reference.shape[0] - side + 1, side // 4):
            for left in range(0, reference.shape[1] - side + 1, side // 4):
                box = slice(top, top + side), slice(left, left + side)
                found.append((nearer[box].mean(), name, box))
    chosen = []
    for _, name, box in sorted(found, key=lambda each: -each[0]):
        others = [taken for known, taken in chosen if known == name]
        apart = all(max(abs(a.start - b.start) for a, b in zip(box, each, strict=True)) >= side for each in others)
        if len(others) < 2 and apart:
            chosen.append((name, box))
    return chosen[:count]


def side_by_side(pictures: list[np.ndarray], *, enlarge: int = 1) -> np.ndarray:
    """Pictures of one height beside each other, a white line between them, each pixel `enlarge` pixels wide."""
    line = np.full((pictures[0].shape[0], 2, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (line, picture)][1:]
    return np.concatenate(parts, 1).repeat(enlarge, 0).repeat(enlarge, 1)


def render(sections: list[dict], target: Path, **texts: object) -> None:
    """Write the page: `sections` have a title, a text and parts (HTML of tables and figures); `texts` fill the head.

    The head takes `profile`, `commit`, `summary` (titles, lines), `numbers` (value, what it is) and `pictures` (HTML).
    """
    environment = Environment(loader=PackageLoader("rvlib.study", "."), autoescape=select_autoescape())
    write_text(target, environment.get_template("report.html").render(sections=sections, **texts))


def protocol(name: str) -> str:
    """The protocol of one of the audited report's tables (`tables.AUDITED`), in words."""
    return "; ".join(find(column).protocol for column in tables.AUDITED[name].measures if find(column).function)
