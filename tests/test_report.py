"""Tables and the page: numbers in the right format, the best in bold, nothing from outside."""

import pandas as pd
import pytest
from PIL import Image

from rvlib import report, tables


@pytest.fixture
def rows():
    return pd.DataFrame(
        {
            "set": ["Set5"] * 4 + ["Set14"] * 2,
            "photo": ["a", "b", "a", "b", "c", "c"],
            "method": ["fsrcnn", "fsrcnn", "bicubic", "bicubic", "fsrcnn", "bicubic"],
            "label": ["this run", "this run", "bicubic input", "bicubic input", "this run", "bicubic input"],
            "psnr_y_crop4": [30.0, 31.0, 28.0, 28.5, 27.125, 26.0],
        }
    )


def test_means_per_set_and_method_inputs_first(rows):
    table = tables.means(rows)
    assert table["method"].tolist() == ["bicubic", "fsrcnn", "bicubic", "fsrcnn"]
    assert table["psnr_y_crop4"].tolist() == [26.0, 27.125, 28.25, 30.5]
    assert table["photos"].tolist() == [1, 1, 2, 2]


def test_markdown_and_csv(rows, tmp_path):
    tables.write(tables.means(rows), tmp_path / "means", best="psnr_y_crop4")
    assert pd.read_csv(tmp_path / "means.csv")["psnr_y_crop4"].tolist() == [26.0, 27.125, 28.25, 30.5]
    lines = (tmp_path / "means.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(tables.means(rows).columns)
    assert [line for line in lines if "**" in line] == [lines[3], lines[5]]
    assert "**30.50**" in lines[5]
    assert "28.25" in lines[4]


def test_claims_are_labelled_and_only_for_the_sets_asked_for():
    claims = tables.claims(["Set5"])
    assert set(claims["set"]) == {"Set5"}
    assert set(claims["label"]) <= set(tables.LABELS)
    assert len(tables.claims(["samples"])) == 0


def test_missing_numbers_are_dashes():
    assert "–" in tables.markdown(
        pd.DataFrame({"method": ["a"], "ssim_y_crop4": [None]}).astype({"ssim_y_crop4": float})
    )


def test_the_page_needs_no_other_file(rows, tmp_path):
    tables.write(tables.means(rows), tmp_path / "means")
    Image.new("RGB", (4, 3)).save(tmp_path / "figure.png")
    parts = [report.table_html(tmp_path / "means.csv", best="psnr_y_crop4")]
    parts.append(report.figure_html(tmp_path / "figure.png", "crops <of> a photo"))
    section = {"title": "A & B", "text": "1 < 2", "parts": parts}
    report.render([section], tmp_path / "index.html", profile="laptop", commit="abc", protocol="Y")
    page = (tmp_path / "index.html").read_text()
    assert "<b>30.50</b>" in page
    assert "A &amp; B" in page
    assert "crops &lt;of&gt; a photo" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
