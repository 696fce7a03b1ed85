"""Links inside the project lead somewhere: files, headings, notebooks. Those to other places are for a weekly job."""

import re
from pathlib import Path

import pytest

from rvlib.study import notebooks

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "weights" / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES += sorted(ROOT.glob("notebooks/text/*.py"))


def links(page):
    """Targets of Markdown links and pictures, without those to other places; of a notebook's twin, in its comments."""
    text = page.read_text()
    if page.suffix == ".py":
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    found = re.findall(r"\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def headings(page):
    """The anchors that GitHub makes of a page's headings: lower case, spaces as hyphens, no other signs."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_named_notebooks_exist(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in headings(target), f"{link}: no such heading"
    for name in re.findall(r"`(\d\d_\w+)`", page.read_text()):
        assert name in notebooks.names(), f"there is no notebook {name}"
    for name in re.findall(
        r"`((?:rvlib|docs|profiles|benchmarks|tests)/[\w./-]+\.(?:py|csv|md|yaml|json))`", page.read_text()
    ):
        assert (ROOT / name).exists(), f"{name} does not exist"


def test_the_checks_see_links_and_headings(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, with *signs*\n[a](b.md#c) ![d](e.png) [f](https://g.org) [h](i_(j).md)\n```\n# no title\n```\n"
    )
    assert links(page) == ["b.md#c", "e.png", "i_(j).md"]
    assert headings(page) == ["a-title-with-signs"]
