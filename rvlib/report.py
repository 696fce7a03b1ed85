"""The report page: every table and figure of a profile in one HTML file that opens by double-click."""

import base64
import html
import subprocess
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape

import rvlib
from rvlib.files import write_atomically
from rvlib.tables import markdown


def table_html(file: Path, *, best: str | None = None) -> str:
    """A CSV of the study as an HTML table, with the number formats of the Markdown tables."""
    lines = markdown(pd.read_csv(file), best=best).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    header, *body = [row for index, row in enumerate(rows) if index != 1]
    cell = lambda text: html.escape(text).replace("**", "<b>", 1).replace("**", "</b>", 1)  # noqa: E731
    head = "".join(f"<th>{cell(text)}</th>" for text in header)
    lines = ["<tr>" + "".join(f"<td>{cell(text)}</td>" for text in row) + "</tr>" for row in body]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def figure_html(file: Path, caption: str) -> str:
    """A PNG inside the page, with its caption."""
    data = base64.b64encode(file.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


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
