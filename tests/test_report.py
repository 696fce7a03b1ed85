"""Tables and the page: numbers in the right format, the best in bold, nothing from outside."""

import itertools
import re
import shutil
import subprocess
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rvlib
from rvlib import UserError
from rvlib.study import figures, report, tables

SUPER_RESOLUTION, DEBLURRING = "compare_super_resolution", "compare_deblurring"


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
    rows = pd.concat([rows, rows[rows["method"] == "fsrcnn"].assign(method="swinir", psnr_y_crop4=29.0)])
    means = tables.means(rows)
    tables.write(means, tmp_path / "means", tables.rank(means))
    assert pd.read_csv(tmp_path / "means.csv")["psnr_y_crop4"].tolist() == [26.0, 27.125, 29.0, 28.25, 30.5, 29.0]
    lines = (tmp_path / "means.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == list(means.columns)
    values = [line.split("|")[4].strip() for line in lines[2:]]
    assert values == ["26.00", "<ins>27.12</ins>", "**29.00**", "28.25", "**30.50**", "<ins>29.00</ins>"]


def test_claims_are_labelled_and_only_for_the_sets_asked_for():
    claims = tables.claims(["Set5"])
    assert set(claims["set"]) == {"Set5"}
    assert set(claims["label"]) <= set(tables.LABELS)
    assert len(tables.claims(["samples"])) == 0


def test_missing_numbers_are_dashes():
    assert "–" in tables.markdown(
        pd.DataFrame({"method": ["a"], "ssim_y_crop4": [None]}).astype({"ssim_y_crop4": float})
    )


def test_breaks_and_bars_do_not_break_a_table():
    table = pd.DataFrame({"set\x0bphotos": ["a\nb", "c|d", "e\u2028f"]})
    cells = [line.strip("| ") for line in tables.markdown(table).splitlines()]
    assert cells == ["set photos", cells[1], "a b", r"c\|d", "e f"]
    assert re.findall("<td.*?>(.*?)</td>", report.table_html(table)) == ["a b", "c|d", "e f"]


def test_the_page_needs_no_other_file(rows, tmp_path):
    rows = pd.concat([rows, rows[rows["method"] == "fsrcnn"].assign(method="swinir", psnr_y_crop4=29.0)])
    means = tables.means(rows).reset_index(drop=True)
    tables.write(means, tmp_path / "means")
    Image.new("RGB", (4, 3)).save(tmp_path / "figure.png")
    parts = [report.table_html(tmp_path / "means.csv", tables.rank(means))]
    parts.append(report.figure_html(tmp_path / "figure.png", "crops <of> a photo"))
    section = {"title": "A & B", "text": "1 < 2", "parts": parts}
    report.render([section], tmp_path / "index.html", profile="laptop", commit="abc", protocol="Y")
    page = (tmp_path / "index.html").read_text()
    assert "<b>30.50</b>" in page
    assert "<u>29.00</u>" in page
    assert '<th scope="col" class="number">psnr_y_crop4 ↑</th>' in page
    assert "A &amp; B" in page
    assert "crops &lt;of&gt; a photo" in page
    assert "data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'; img-src data:" in page


LEVELS = {"bicubic": (26.0, 0.42), "fsrcnn": (26.5, 0.34), "srgan": (27.5, 0.21), "swinir": (28.0, 0.25)}
"""PSNR and LPIPS that the invented measurements scatter around."""


@pytest.fixture
def folder(tmp_path):
    """A profile's reports with invented rows of both comparisons, and a README that waits for results."""
    rows = [
        {
            "set": name,
            "photo": photo,
            "method": method,
            "label": "bicubic input" if method == "bicubic" else "this run",
            "psnr_y_crop4": psnr + place + (0.25 if photo == "b" else -0.25),
            "ssim_y_crop4": 0.7 + place / 100,
            "lpips_alex_rgb_crop0": lpips + place / 100,
            "seconds": 0.01,
            "weights": method,
        }
        for place, name in enumerate(("Set14", "Set5", "Urban100"))
        for photo, (method, (psnr, lpips)) in itertools.product("ab", LEVELS.items())
    ]
    (tmp_path / SUPER_RESOLUTION).mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / SUPER_RESOLUTION / "rows.csv", index=False)
    same = {"photo": "c", "ssim_rgb3d_crop0": 0.9, "lpips_alex_rgb_crop0": 0.2, "seconds": 0.3}
    rows = [
        {"set": name, "method": method, "label": label, "psnr_rgb_crop0": psnr, **same}
        for name in ("Set14", "GoPro-sample")
        for method, label, psnr in (("blurry", "blurry input", 24.0), ("nafnet", "this run", 27.0))
    ]
    (tmp_path / DEBLURRING).mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / DEBLURRING / "rows.csv", index=False)
    (tmp_path / "README.md").write_text("# Mine\n\n<!-- results -->\nold: 99.99\n<!-- /results -->\n\nEnd 1.23\n")
    return tmp_path


def edit(folder, change):
    """Change the measured rows of super-resolution in place."""
    file = folder / SUPER_RESOLUTION / "rows.csv"
    change(pd.read_csv(file)).to_csv(file, index=False)


def shown(folder):
    """Everything that is made from the rows, as lines: the tables, the audit, the README."""
    claims = tables.claims(["Set5", "Set12", "Set14", "Urban100", "GoPro"])
    enlarged, deblurred = (tables.measured(folder / name) for name in (SUPER_RESOLUTION, DEBLURRING))
    made = {"table 1": enlarged, "table 3": enlarged, "table 4": deblurred}
    made = {name: tables.audited(name, means, tables.put_right(claims)) for name, means in made.items()}
    made["audit"] = (tables.verdicts(pd.concat([enlarged, deblurred]), claims), None)
    report.write_results(folder / "README.md", folder)
    lines = {name: report.table_html(*table, caption=name).splitlines() for name, table in made.items()}
    return {**lines, "README": (folder / "README.md").read_text().splitlines()}


def changed(before, after):
    """The lines that are new, by the table they are in."""
    assert {name: len(lines) for name, lines in before.items()} == {name: len(lines) for name, lines in after.items()}
    return {name: [new for old, new in zip(before[name], after[name], strict=True) if old != new] for name in before}


def cells(line):
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", line)] or [
        cell.strip() for cell in line.strip("|").split("|")
    ]


def test_one_row_changes_its_tables_the_readme_and_the_verdict_and_nothing_else(folder):
    before = shown(folder)
    one = lambda rows: (rows["set"] == "Set14") & (rows["method"] == "fsrcnn") & (rows["photo"] == "b")  # noqa: E731
    edit(folder, lambda rows: rows.assign(psnr_y_crop4=rows["psnr_y_crop4"].mask(one(rows), 27.95)))
    news = changed(before, shown(folder))
    mean = "27.10"  # of 26.25 and 27.95
    assert [cells(line) for line in news["table 1"]] == [["Set14", "FSRCNN", "this run", mean, "0.7000", "0.01"]]
    assert [cells(line)[:3] for line in news["table 3"]] == [["FSRCNN", "this run", mean]]
    assert [cells(line)[:3] for line in news["README"]] == [["FSRCNN", "released weights", mean]]
    assert news["table 4"] == []
    first, second = (cells(line) for line in news["audit"])
    assert first[:7] == ["report table 1", "Set14", "FSRCNN", "PSNR", "27.30", mean, "reproduced"]
    assert second[:7] == ["report table 3", "Set14", "FSRCNN", "PSNR", "25.98", mean, "contradicts"]


def test_a_deleted_benchmark_is_not_measured(folder):
    before = shown(folder)
    edit(folder, lambda rows: rows[rows["set"] != "Set14"])
    after = shown(folder)
    assert after["table 4"] == before["table 4"], "the deblurring of Set14 is another measurement"
    ours = [cells(line) for line in after["table 3"] if "this run" in line or "bicubic input" in line]
    assert [line[2:4] for line in ours] == [["not measured"] * 2] * 5
    assert all("not measured" not in line[4] for line in ours if line[0] != "DiffIR")
    ours = [cells(line) for line in after["table 1"] if "Set14" in line and ("this run" in line or "input" in line)]
    assert [line[3:] for line in ours] == [["not measured"] * 3] * 2
    assert {cells(line)[5] for line in after["audit"] if '<td class="text">Set14' in line} == {"not measured"}
    start = next(index for index, line in enumerate(after["README"]) if line.startswith("| method"))
    lines = itertools.takewhile(lambda line: line.startswith("|"), after["README"][start + 2 :])
    ours = [cells(line) for line in lines if "released weights" in line or "input" in line]
    assert len(ours) == 5
    assert all(line[2:4] == ["not measured"] * 2 for line in ours)
    assert "26.50" in "\n".join(before["table 3"])
    assert "26.50" not in "\n".join(itertools.chain(*after.values()))


def test_without_any_measurement_only_claims_have_numbers(folder):
    for name in (SUPER_RESOLUTION, DEBLURRING):
        (folder / name / "rows.csv").unlink()
    after = shown(folder)
    ours = [cells(line) for lines in after.values() for line in lines if re.search("this run|released weights", line)]
    assert len(ours) > 8
    assert {cell for line in ours for cell in line[3:]} == {"not measured"}
    assert {cells(line)[5] for line in after["audit"] if "<td" in line} == {"not measured"}
    assert any("27.73" in line for line in after["README"])


def test_the_readme_keeps_what_is_not_results(folder):
    shown(folder)
    text = (folder / "README.md").read_text()
    assert text.startswith("# Mine\n\n<!-- results -->\n")
    assert text.endswith("<!-- /results -->\n\nEnd 1.23\n")
    assert "99.99" not in text
    shown(folder)
    assert (folder / "README.md").read_text() == text, "twice is the same as once"
    (folder / "README.md").write_text("no place")
    with pytest.raises(UserError, match="no place for the results"):
        report.write_results(folder / "README.md", folder)
    assert (folder / "README.md").read_text() == "no place"


def test_best_and_second_are_marked_among_measured_rows_only(folder):
    claims = tables.claims(["Set14", "Urban100"])
    cells, places = tables.audited("table 3", tables.measured(folder / SUPER_RESOLUTION), claims)
    assert "Set14 PSNR" in places and "method" not in places
    marks = cells.join(places.add_suffix(" place")).set_index(["method", "label"])
    for column, best, second in (
        ("Set14 PSNR", ("SwinIR", "28.00"), ("SRGAN", "27.50")),
        ("Set14 LPIPS", ("SRGAN", "0.2100"), ("SwinIR", "0.2500")),
    ):
        for place, (method, value) in ((1, best), (2, second)):
            assert marks.loc[marks[f"{column} place"] == place, column].to_dict() == {(method, "this run"): value}
    assert marks.loc[("DiffIR", "report's claim, table 3"), "Set14 LPIPS"] == "0.1117", "lower, and not ranked"
    text = tables.markdown(cells, places)
    assert "**28.00**" in text and "<ins>27.50</ins>" in text
    assert "**0.2100**" in text and "<ins>0.2500</ins>" in text


def test_table_1_has_its_sets_as_rows_and_keeps_the_places(folder):
    second = lambda rows: rows[rows["method"] == "fsrcnn"].assign(label="released weights", psnr_y_crop4=25.0)  # noqa: E731
    edit(folder, lambda rows: pd.concat([rows, second(rows)]))
    cells, places = tables.audited("table 1", tables.measured(folder / SUPER_RESOLUTION), tables.claims(["Set14"]))
    assert cells.index.equals(places.index)
    both = cells.join(places.add_suffix(" place"))
    best = both[both["PSNR place"] == 1].set_index("set")["PSNR"].to_dict()
    assert best == dict(both[both["label"] == "this run"].set_index("set")["PSNR"].drop("Set12"))
    assert set(both.loc[both["PSNR place"] == 2, "PSNR"]) == {"25.00"}


def test_released_weights_and_this_run_have_their_own_rows(folder):
    release = {"fsrcnn": "released weights"}
    edit(
        folder,
        lambda rows: pd.concat([rows, rows[rows["method"] == "fsrcnn"].replace({"this run": release["fsrcnn"]})]),
    )
    claims = tables.claims(["Set14", "Urban100"])
    table, _ = tables.audited("table 3", tables.measured(folder / SUPER_RESOLUTION), claims)
    labels = table.groupby("method")["label"].agg(list)
    assert labels["FSRCNN"][-2:] == ["this run", "released weights"]
    values = table.set_index(["method", "label"])["Set14 PSNR"]
    assert values["SRGAN", "released weights"] == "not measured"
    assert values["FSRCNN", "released weights"] == "26.50"


def test_table_4_put_right_is_what_was_published(folder):
    claims = tables.put_right(tables.claims(["GoPro"]))
    table, _ = tables.audited("table 4", tables.measured(folder / DEBLURRING), claims)
    values = table.set_index(["method", "label"])[["GoPro PSNR", "GoPro SSIM"]].T
    assert values["NAFNet", "report's claim, table 4"].tolist() == ["33.69", "0.9670"]
    assert values["DiffIR", "report's claim, table 4"].tolist() == ["33.20", "0.9630"]
    for method in ("NAFNet", "DiffIR"):
        assert values[method, f"published: {method}"].equals(values[method, "report's claim, table 4"])


def test_every_claimed_number_has_a_verdict_and_a_reason(folder):
    claims = tables.claims(["Set5", "Set12", "Set14", "Urban100", "GoPro"])
    audit = tables.verdicts(tables.measured(folder / SUPER_RESOLUTION), claims)
    printed = claims[claims["label"].str.startswith("report")].select_dtypes("number").notna().sum().sum()
    assert len(audit) == printed
    known = {"reproduced", "published elsewhere", "contradicts", "cannot be checked here"}
    assert set(audit["verdict"]) <= known
    assert audit["reason"].str.len().min() > 10
    verdicts = audit.set_index(["source", "set", "method", "measure"])["verdict"]
    assert verdicts["report table 3", "Set14", "SRGAN", "LPIPS"] == "published elsewhere"
    assert verdicts["report table 1", "Set5", "FSRCNN", "SSIM"] == "cannot be checked here"
    assert (verdicts["report table 4"] == "contradicts").all()


@pytest.mark.parametrize(
    ("measure", "here", "published", "stated", "expected"),
    [
        ("psnr_y_crop4", 30.2, True, "contradicts", "reproduced"),
        ("psnr_y_crop4", 30.4, True, "contradicts", "published elsewhere"),
        ("psnr_y_crop4", float("nan"), False, "published elsewhere", "published elsewhere"),
        ("ssim_y_crop4", float("nan"), False, "published elsewhere", "cannot be checked here"),
        ("ssim_y_crop4", 30.2, False, "contradicts", "contradicts"),
        ("seconds", 30.0, False, "published elsewhere", "cannot be checked here"),
    ],
)
def test_the_rule_of_the_audit(measure, here, published, stated, expected):
    claim = SimpleNamespace(
        measure=measure, value=30.0, here=here, published=published, verdict=stated, reason="the row's own reason"
    )
    verdict, reason = tables.verdict(claim)
    assert verdict == expected
    assert (reason == claim.reason) == (expected != "reproduced" and measure != "seconds")


def test_latex_has_its_own_marks(tmp_path):
    table = pd.DataFrame({"method": ["a_b", "50 % & {x}"], "PSNR": [30.0, 29.0]})
    tables.write(table, tmp_path / "table", pd.DataFrame({"PSNR": [1, 2]}))
    text = (tmp_path / "table.tex").read_text()
    assert r"a\_b & \textbf{30.00} \\" in text
    assert r"50 \% \& \{x\} & \underline{29.00} \\" in text
    assert r"\begin{tabular}{lr}" in text
    assert "*" not in text and "<" not in text


def test_tables_and_wide_figures_scroll_in_their_own_box(tmp_path):
    table = report.table_html(pd.DataFrame({"method": ["a"], "PSNR": [30.0]}), caption="Table <1>. Y.")
    assert table.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Table &lt;1&gt;">')
    assert "<caption>Table &lt;1&gt;. Y.</caption>" in table
    assert '<th scope="col" class="number">PSNR ↑</th>' in table
    for size, scrolls in (((900, 200), True), ((300, 200), False)):
        Image.new("RGB", size).save(tmp_path / "figure.png")
        assert ('class="scroll"' in report.figure_html(tmp_path / "figure.png", "a strip")) is scrolls


def test_the_slider_is_one_range_input_with_a_name():
    photo = np.zeros((6, 8, 3), np.uint8)
    text = report.slider_html(photo, photo, "before & after")
    assert text.count("<input") == text.count('type="range"') == 1
    assert 'aria-label="before and after: before &amp; after"' in text
    assert text.count('src="data:image/jpeg;base64,') == 2
    assert "http" not in text


def test_figures_are_sharp_and_curves_are_drawings(tmp_path):
    figures.theme()
    for name in ("curve", "again", "photo"):
        figure, axis = plt.subplots(figsize=(2, 1))
        axis.imshow(np.zeros((8, 8, 3))) if name == "photo" else axis.plot([1, 2])
        figures.save(figure, tmp_path / name)
        plt.close(figure)
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.info["dpi"][0] == pytest.approx(200, abs=0.1)
    assert (tmp_path / "curve.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert not (tmp_path / "photo.svg").exists()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path):
    table = pd.DataFrame({"a_b & 50 %": ["x^2 ~ #1 {} \\ $", "96 × 96 –", "a"], "c": [1.5, None, 2.0]})
    tables.write(table, tmp_path / "own", pd.DataFrame({"c": [1, 0, 2]}))
    committed = sorted((rvlib.ROOT / "reports" / "release").glob("*/*.tex"))
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs}\begin{document}\tiny"
    inputs = "\n\n".join(f"\\input{{{path}}}" for path in [tmp_path / "own.tex", *committed])
    (tmp_path / "page.tex").write_text(f"{head}\n{inputs}\n\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, errors="replace")
    assert done.returncode == 0, done.stdout[-1500:]
