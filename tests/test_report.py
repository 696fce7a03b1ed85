"""Tables and the page: numbers in the right format, the best in bold, nothing from outside."""

import itertools
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn as sns
from PIL import Image

import rvlib
from rvlib import UserError, checkpoint, compare, files
from rvlib.study import audit, cards, figures, provenance, readme, report, tables
from rvlib.study.notebooks import read_parameters, releases
from rvlib.study.release import write_means

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
    shown = [column for column in means if not column.endswith((tables.HALF, tables.TIED))]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == shown
    values = [line.split("|")[4].strip() for line in lines[2:]]
    assert values[:4] == ["26.00", "<ins>27.12</ins>", "**29.00**", "28.25 ± 3.18 ≈"], "one photo has no interval"
    assert values[4:] == ["**30.50 ± 6.35**", "29.00 ± 0.00 ≈"]


def test_claims_are_labelled_and_only_for_the_sets_asked_for():
    claims = tables.claims(["Set5"])
    assert set(claims["set"]) == {"Set5"}
    published = claims["label"].str.startswith("published: ")
    assert set(claims["label"][~published]) <= set(tables.LABELS)
    assert {"published: SwinIR, table 3 (light)", "published: CARN, table 1"} <= set(claims["label"][published])
    assert len(tables.claims(["samples"])) == 0


def test_a_table_for_reading_has_titles_and_no_empty_column(rows):
    named, places = tables.readable(tables.means(rows.assign(ssim_y_crop4=float("nan"), seconds=0.5)))
    text = tables.markdown(named, places)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert lines[0] == ["set", "method", "label", "PSNR", "photos"]
    assert [line[1] for line in lines[2:]] == ["bicubic", "FSRCNN", "bicubic", "FSRCNN"]
    assert lines[-1][3] == "**30.50 ± 6.35**" and lines[-1][4] == "2"


def test_missing_numbers_are_dashes():
    assert "–" in tables.markdown(
        pd.DataFrame({"method": ["a"], "ssim_y_crop4": [None]}).astype({"ssim_y_crop4": float})
    )


def test_numbers_without_a_measure_are_rounded_to_what_can_be_read():
    values = [690614.53, 57196.5, 12, 1.234, 0.0123, -0.00098, 1e-6, 0.0]
    table = tables.format_cells(pd.DataFrame({"multiply-adds": values}))
    assert table["multiply-adds"].tolist() == ["690,615", "57,196", "12", "1.23", "0.01", "-0.00098", "1e-06", "0"]


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
    summary = [("Best <here>", ["Set5: 30 dB", "Set14: 28 dB"])]
    report.render([section], tmp_path / "index.html", profile="laptop", commit="abc", summary=summary)
    page = (tmp_path / "index.html").read_text()
    assert "<b>30.50 ± 6.35</b>" in page
    assert '29.00 ± 0.00 <span title="cannot be told apart from the best">≈</span>' in page
    assert '<th scope="col" class="number">PSNR (luminance)\N{NO-BREAK SPACE}↑</th>' in page, (
        "no key of a measure is shown"
    )
    assert "<p>Best &lt;here&gt;:</p><ul><li>Set5: 30 dB</li><li>Set14: 28 dB</li></ul>" in page
    assert "A &amp; B" in page
    assert "crops &lt;of&gt; a photo" in page
    assert "data:image/webp;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert (rvlib.ROOT / "rvlib/study/report.js").read_text().strip() in page, "the page's only script is its own"
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
            "recipe": {"bicubic": ""}.get(method, method),
            "parameters": {"fsrcnn": 12_809}.get(method, 7),
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
    claims = tables.claims(audit.SETS)
    rows = [tables.measured_rows(folder / name) for name in (SUPER_RESOLUTION, DEBLURRING)]
    enlarged, deblurred = map(tables.means, rows)
    made = {"table 1": enlarged, "table 3": enlarged, "table 4": deblurred}
    made = {name: tables.audited(name, means, tables.put_right(claims)) for name, means in made.items()}
    made["audit"] = (audit.verdicts(rows, claims), None)
    readme.write_results(folder / "README.md", folder)
    lines = {name: report.table_html(*table, caption=name).splitlines() for name, table in made.items()}
    return {**lines, "README": (folder / "README.md").read_text().splitlines()}


def changed(before, after):
    """The lines that are new, by the table they are in."""
    assert {name: len(lines) for name, lines in before.items()} == {name: len(lines) for name, lines in after.items()}
    return {name: [new for old, new in zip(before[name], after[name], strict=True) if old != new] for name in before}


def cells(line):
    return [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", line)] or [
        re.sub(r"\[(.*)\]\(http.*\)", r"\1", cell.strip()) for cell in line.strip("|").split("|")
    ]


def test_one_row_changes_its_tables_the_readme_and_the_verdict_and_nothing_else(folder):
    before = shown(folder)
    one = lambda rows: (rows["set"] == "Set14") & (rows["method"] == "fsrcnn") & (rows["photo"] == "b")  # noqa: E731
    edit(folder, lambda rows: rows.assign(psnr_y_crop4=rows["psnr_y_crop4"].mask(one(rows), 26.71)))
    news = changed(before, shown(folder))
    mean = "26.48 ± 2.92"  # of 26.25 and 26.71
    assert [cells(line)[:4] for line in news["table 1"]] == [["Set14", "FSRCNN", "this run", mean]]
    assert [cells(line)[:3] for line in news["table 3"]] == [["FSRCNN", "this run", mean]]
    assert [cells(line)[:4] for line in news["README"]] == [["FSRCNN", "this run", "–", mean]]
    assert news["table 4"] == []
    first, second = (cells(line) for line in news["audit"])
    assert first[:6] == ["audited report, table 1", "Set14", "FSRCNN", "PSNR", "27.30", "26.48"]
    assert second[:6] == ["audited report, table 3", "Set14", "FSRCNN", "PSNR", "25.98", "26.48"]
    assert first[8].endswith("-0.82 dB here") and second[8].endswith("+0.50 dB here"), "each number has its own reason"


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
    lines = [cells(line) for line in after["audit"] if '<td class="text">Set14' in line]
    assert {line[5] for line in lines} == {"not measured"}
    ours = [cells(line) for line in after["README"] if line.startswith("|") and "bicubic input" in line]
    assert [line[3:5] for line in ours] == [["–", "–"]]
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


def test_the_readme_is_ordered_by_quality_and_marks_what_differs(folder):
    shown(folder)
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("|")]
    enlarged = [cells(line) for line in lines[2 : lines.index(next(x for x in lines if "GoPro" in x))]]
    values = [float(re.match(r"[^\d]*([\d.]+)", line[3])[1]) for line in enlarged if line[3] != "–"]
    assert values == sorted(values, reverse=True) and len(values) > 6
    labels = {(line[0], line[1]) for line in enlarged}
    assert {("SRGAN", "this run (GAN)"), ("SRGAN", "published: SRGAN, table 2 (GAN)")} <= labels
    assert any("NAFNet" in line and "(TLC)" in line for line in lines)
    assert not any("claim" in line for line in lines), "claims are the audit's"


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
        readme.write_results(folder / "README.md", folder)
    assert (folder / "README.md").read_text() == "no place"


def test_best_and_second_are_marked_among_measured_rows_only(folder):
    claims = tables.claims(["Set14", "Urban100"])
    cells, places = tables.audited("table 3", tables.means(tables.measured_rows(folder / SUPER_RESOLUTION)), claims)
    assert "Set14 PSNR" in places and "method" not in places
    marks = cells.join(places.add_suffix(" place")).set_index(["method", "label"])
    for column, best, second in (
        ("Set14 PSNR", ("SwinIR", "28.00 ± 3.18"), ("SRGAN", "27.50 ± 3.18")),
        ("Set14 LPIPS", ("SRGAN", "0.2100 ± 0.0000"), ("SwinIR", "0.2500 ± 0.0000")),
    ):
        for place, (method, value) in ((tables.BEST, best), (tables.SECOND, second)):
            assert marks.loc[marks[f"{column} place"] == place, column].to_dict() == {(method, "this run"): value}
    assert marks.loc[("DiffIR", "report's claim, table 3"), "Set14 LPIPS"] == "0.1117", "lower, and not ranked"
    text = tables.markdown(cells, places)
    assert "**28.00 ± 3.18**" in text and "<ins>27.50 ± 3.18</ins>" in text
    assert "**0.2100 ± 0.0000**" in text and "<ins>0.2500 ± 0.0000</ins>" in text


def test_the_input_is_ranked_and_what_is_worse_or_level_says_so(rows):
    rows = rows[rows["set"] == "Set5"]
    level = rows[rows["method"] == "fsrcnn"].assign(method="swinir", psnr_y_crop4=[31.0, 29.9])
    worse = rows[rows["method"] == "fsrcnn"].assign(method="srgan", psnr_y_crop4=[27.0, 28.0])
    means = tables.means(pd.concat([rows, level, worse])).set_index("method", drop=False)
    places = tables.rank(means)["psnr_y_crop4"]
    assert places.to_dict() == {
        "bicubic": tables.LEVEL,
        "fsrcnn": tables.BEST,
        "srgan": tables.WORSE,
        "swinir": tables.LEVEL,
    }
    text = tables.markdown(means.reset_index(drop=True), tables.rank(means).reset_index(drop=True))
    assert "27.50 ± 6.35 ▼" in text and "30.45 ± 6.99 ≈" in text
    only = tables.means(pd.concat([rows[rows["method"] == "bicubic"], worse])).set_index("method", drop=False)
    assert tables.rank(only)["psnr_y_crop4"].to_dict() == {
        "bicubic": tables.BEST,
        "srgan": tables.WORSE_AND_LEVEL,
    }


def test_neighbours_are_compared_on_the_same_photos(rows):
    other = rows[rows["method"] == "fsrcnn"].assign(method="swinir", psnr_y_crop4=[31.0, 29.9, 28.0])
    found = tables.differences(pd.concat([rows, other])).set_index(["set", "better", "than"])
    first = found.loc[("Set5", "FSRCNN, this run", "SwinIR, this run")]
    assert first["difference"] == "+0.05 (-13.29 to +13.39)"  # -1 and 1.1
    assert (first["photos"], first["won"], first["verdict"]) == (2, 1, "cannot be told apart")
    second = found.loc[("Set5", "SwinIR, this run", "bicubic input")]
    assert (second["difference"], second["verdict"]) == ("+2.20 (-7.96 to +12.36)", "cannot be told apart")
    assert "Set14" not in found.index, "one photo decides nothing"


def test_no_sentence_contradicts_its_table():
    """The rows that ship: what the README prints in bold is the best of all measured rows, the input among them."""
    release = rvlib.ROOT / "reports" / "release"
    for comparison, table in readme.TABLES.items():
        sets, columns = table.sets, table.measures
        rows = pd.read_csv(release / comparison / "rows.csv")
        means = rows[rows["set"].isin(sets)].groupby(["set", "method", "label"], as_index=False).mean(numeric_only=True)
        layout, places = readme.results(rows, comparison)
        for name, column in itertools.product(means["set"].unique(), columns):
            part, sign = means[means["set"] == name], -1 if column.startswith("lpips") else 1
            title = f"{name} {'LPIPS' if sign < 0 else 'PSNR'}"
            best = part.loc[(sign * part[column]).idxmax()]
            (shown,) = layout.loc[places[title] == tables.BEST, "method"]
            assert shown == tables.NAMES.get(best["method"], best["method"])
            given = part.loc[part["label"].str.endswith("input"), column].item()
            worse = part.loc[sign * part[column] < sign * given, "method"].map(tables.NAMES)
            marked = places[title].isin([tables.WORSE, tables.WORSE_AND_LEVEL])
            assert set(layout.loc[marked, "method"]) == set(worse)
        for each in tables.gains(rows, columns[0]).query("label != 'classical method'").itertuples():
            part = means[means["set"] == each.set]
            given = part.loc[part["label"].str.endswith("input"), columns[0]]
            if len(given):
                assert each.gain.mean == pytest.approx(part[columns[0]].max() - given.item())


def test_every_measured_row_that_ships_can_be_followed():
    for comparison in (SUPER_RESOLUTION, DEBLURRING):
        rows = pd.read_csv(rvlib.ROOT / "reports/release" / comparison / "rows.csv")
        facts = {"weights", "sha256", "recipe", "parameters", "protocol", "data", "commit", "date"}
        assert facts <= set(rows)
        assert set(rows["label"]) <= {"bicubic input", "blurry input", "classical method", "released weights"}
        assert rows[["protocol", "data", "commit", "date"]].notna().all(axis=None)
        for name, part in rows[rows["label"] == "released weights"].groupby("weights"):
            assert set(part["sha256"]) == {files.sha256(rvlib.ROOT / "weights" / f"{name}.safetensors")}
            assert len(part["recipe"].unique()) == len(part["parameters"].unique()) == 1
    for file in (rvlib.ROOT / "reports/release/methods").glob("*/rows.csv"):
        weights = report.weights_of(pd.read_csv(file))
        assert len(weights) and set(weights["label"]) == {"released weights"}, file
        hashes = {name: files.sha256(rvlib.ROOT / "weights" / f"{name}.safetensors") for name in weights["weights"]}
        assert dict(zip(weights["weights"], weights["sha256"], strict=True)) == hashes, file


@pytest.mark.slow
def test_readme_cards_and_means_are_those_of_the_rows_that_ship(monkeypatch):
    written = {}
    for module in (readme, cards):
        monkeypatch.setattr(module, "write_text", lambda path, text: written.update({path: text}))
    monkeypatch.setattr(tables, "write_json", lambda values, path: written.update({path: values}))
    reports = rvlib.ROOT / "reports/release"
    parameters = read_parameters(rvlib.ROOT / "profiles/release/params.yaml")
    readme.write_results(rvlib.ROOT / "README.md", reports)
    cards.write_cards(
        rvlib.ROOT / "weights", reports, {name: run.partition("/")[0] for name, run in releases(parameters).items()}
    )
    write_means(reports)
    assert len(written) > 2
    for path, content in written.items():
        assert content == (json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()), path


def test_table_1_has_its_sets_as_rows_and_keeps_the_places(folder):
    second = lambda rows: rows[rows["method"] == "fsrcnn"].assign(label="released weights", psnr_y_crop4=25.0)  # noqa: E731
    edit(folder, lambda rows: pd.concat([rows, second(rows)]))
    cells, places = tables.audited(
        "table 1", tables.means(tables.measured_rows(folder / SUPER_RESOLUTION)), tables.claims(["Set14"])
    )
    assert cells.index.equals(places.index)
    both = cells.join(places.add_suffix(" place"))
    best = both[both["PSNR place"] == 1].set_index("set")["PSNR"].to_dict()
    assert best == dict(both[both["label"] == "this run"].set_index("set")["PSNR"].drop("Set12"))
    assert set(both.loc[both["PSNR place"] == tables.WORSE, "PSNR"]) == {"25.00 ± 0.00"}, "the input has 26 to 28 dB"


def test_released_weights_and_this_run_have_their_own_rows(folder):
    release = {"fsrcnn": "released weights"}
    edit(
        folder,
        lambda rows: pd.concat([rows, rows[rows["method"] == "fsrcnn"].replace({"this run": release["fsrcnn"]})]),
    )
    claims = tables.claims(["Set14", "Urban100"])
    table, _ = tables.audited("table 3", tables.means(tables.measured_rows(folder / SUPER_RESOLUTION)), claims)
    labels = table.groupby("method")["label"].agg(list)
    assert labels["FSRCNN"][-2:] == ["this run", "released weights"]
    values = table.set_index(["method", "label"])["Set14 PSNR"]
    assert values["SRGAN", "released weights"] == "not measured"
    assert values["FSRCNN", "released weights"] == "26.50 ± 3.18"


def test_table_4_put_right_is_what_was_published(folder):
    claims = tables.put_right(tables.claims(["GoPro"]))
    table, _ = tables.audited("table 4", tables.means(tables.measured_rows(folder / DEBLURRING)), claims)
    values = table.set_index(["method", "label"])[["GoPro PSNR", "GoPro SSIM"]].T
    assert values["NAFNet", "report's claim, table 4, axes put right"].tolist() == ["33.69", "0.9670"]
    assert values["DiffIR", "report's claim, table 4, axes put right"].tolist() == ["33.20", "0.9630"]
    for method, source in (("NAFNet", "NAFNet, abstract and GoPro (TLC)"), ("DiffIR", "DiffIR, deblurring")):
        assert values[method, f"published: {source}"].equals(values[method, "report's claim, table 4, axes put right"])


def test_every_claimed_number_has_a_verdict_and_a_reason(folder):
    claims = tables.claims(audit.SETS)
    found = audit.verdicts([tables.measured_rows(folder / SUPER_RESOLUTION)], claims)
    ours = claims[claims["label"].str.startswith("report")].drop(columns="parameters")
    assert len(found) == ours.select_dtypes("number").notna().sum().sum()
    assert set(found["verdict"]) <= set(audit.VERDICTS)
    assert found["reason"].str.len().min() > 10
    verdicts = found.set_index(["source", "set", "method", "measure"])["verdict"]
    assert verdicts["audited report, table 3", "Set14", "SRGAN", "LPIPS"] == "published elsewhere"
    assert verdicts["audited report, table 1", "Set5", "FSRCNN", "SSIM"] == "contradicts"
    assert (verdicts["audited report, table 4"] == "contradicts").all()


def test_every_source_is_in_the_bibliography():
    known, claims = tables.references(), pd.read_csv(tables.CLAIMS)
    cited = [*claims["source"], *pd.read_csv(audit.FOLDER / "audit.csv")["cites"].dropna(), *audit.errata()["cites"]]
    assert set(cited) - {"", "audited"} <= set(known.index)
    assert known.loc[known["link"] == "", "number"].tolist() == ["15"], "one of the report's was not found"
    numbers = {number for each in known["number"] if each for number in each.split(", ")}
    assert numbers == {str(number) for number in range(1, 18)}
    assert known.loc[known["link"] != "", "link"].str.match(r"https://(doi\.org/10\.|github\.com/)").all()


def test_what_is_published_elsewhere_has_its_twin_among_the_published_values():
    claims = tables.claims(audit.SETS)
    long = claims.melt(["set", "method", "label"], [c for c in claims if tables.measures.find(c)], "measure").dropna()
    is_published = long["label"].str.startswith("published")
    values = set(long[is_published][["set", "method", "measure", "value"]].itertuples(index=False, name=None))
    known = pd.read_csv(audit.FOLDER / "audit.csv")
    both = known[known["verdict"] == "published elsewhere"].merge(long, on=["label", "set", "method", "measure"])
    copies = both[both["cites"] == "xia2023diffir"]
    assert len(copies) == 8
    assert set(copies[["set", "method", "measure", "value"]].itertuples(index=False, name=None)) <= values


@pytest.mark.parametrize(("psnr", "ssim", "recipe", "expected"), [
    (27.30, 0.7310, "fsrcnn", ["reproduced", "reproduced"]),
    (27.38, 0.7350, "fsrcnn", ["reproduced", "reproduced"]),
    (27.30, 0.7569, "fsrcnn", ["contradicts", "contradicts"]),
    (27.30, 0.7310, "srgan", ["contradicts", "contradicts"]),
])  # fmt: skip
def test_a_row_is_reproduced_only_as_a_whole_and_by_the_same_experiment(folder, psnr, ssim, recipe, expected):
    def change(rows):
        mine = (rows["set"] == "Set14") & (rows["method"] == "fsrcnn")
        rows["psnr_y_crop4"] = rows["psnr_y_crop4"].mask(mine, psnr)
        return rows.assign(ssim_y_crop4=rows["ssim_y_crop4"].mask(mine, ssim), recipe=rows["recipe"].mask(mine, recipe))

    edit(folder, change)
    found = audit.verdicts([tables.measured_rows(folder / SUPER_RESOLUTION)], tables.claims(["Set14"]))
    mine = found[(found["source"] == "audited report, table 1") & (found["measure"] != "seconds")]
    assert mine["verdict"].tolist() == expected
    assert set(mine["network and objective"]) == {"the same" if recipe == "fsrcnn" else "another"}


@pytest.mark.parametrize(
    ("measure", "here", "same", "agreed", "stated", "expected"),
    [
        ("psnr_y_crop4", 30.05, True, True, "contradicts", "reproduced"),
        ("psnr_y_crop4", 30.05, True, False, "published elsewhere", "published elsewhere"),
        ("psnr_y_crop4", 30.05, True, False, "cannot be checked here", "not reproduced"),
        ("psnr_y_crop4", 30.05, False, True, "published elsewhere", "published elsewhere"),
        ("psnr_y_crop4", float("nan"), True, False, "cannot be checked here", "cannot be checked here"),
        ("seconds", 30.0, True, True, "cannot be checked here", "cannot be checked here"),
    ],
)
def test_the_rule_of_the_audit(measure, here, same, agreed, stated, expected):
    claim = SimpleNamespace(
        set="Set5",
        measure=measure,
        value=30.0,
        here=here,
        same=same,
        agreed=agreed,
        verdict=stated,
        reason="its own reason",
    )
    verdict, reason = audit.verdict(claim)
    assert verdict == expected
    assert ("+0.05 dB" in reason) == (same and here == 30.05), "what was measured is said wherever it was the same"


@pytest.mark.parametrize(("here", "expected"), [
    (27.70, "cannot be checked here"),
    (28.90, "not reproduced"),
    (27.30, "not reproduced"),
])  # fmt: skip
def test_a_number_between_two_conventions_of_grey_photos_cannot_be_checked(here, expected):
    facts = {"set": "Set12", "measure": "psnr_y_crop4", "value": 27.44, "same": True, "agreed": False}
    known = {"verdict": "cannot be checked here", "reason": "its own reason"}
    verdict, reason = audit.verdict(SimpleNamespace(**facts, **known, here=here))
    assert verdict == expected and "its own reason" in reason
    assert ("+0.26 dB through RGB" in reason and "-1.06 dB on grey values" in reason) == (here == 27.70)


def test_luminance_through_rgb_lifts_grey_photos_by_what_the_audit_says():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    other = np.clip(photo + rng.integers(-9, 10, (64, 64, 1)), 0, 255).astype(np.uint8)
    lift = rvlib.metrics.psnr(other, photo) - rvlib.metrics.psnr(other, photo, channel="rgb")
    assert lift == pytest.approx(audit.LIFT, abs=1e-3)
    assert "Set14 by 0.09 dB (one photo of 14), Set12 by 1.32 dB (all photos)" in audit.GREY_PHOTOS


def test_the_readme_says_what_its_hours_are_and_which_weights_have_a_curve(folder, monkeypatch):
    edit(
        folder,
        lambda rows: rows.assign(weights=rows["method"].map({"swinir": "old-x4", "fsrcnn": "new-x4"}), sha256="f"),
    )
    machine = {"event": "begun", "device": "cpu", "threads": 2, "processes": 1}
    log = [{"step": 1, "seconds": 3600.0, "psnr_y_crop4": 30.0}]
    records = {
        name: {"history": [machine | {"date": date}], "identity": {"method": "fsrcnn", "data": "9 photos"}, "log": log}
        for name, date in (("old-x4", "2026-11-25"), ("new-x4", "2026-11-26 09:00"))
    }
    records["new-x4"]["validation"] = {"set": "CID22", "photos": 16, "input": 26.75}
    monkeypatch.setattr(provenance, "record", lambda name: records.get(name, {}))
    monkeypatch.setattr(rvlib, "released", lambda: list(records))
    shown(folder)
    text = (folder / "README.md").read_text()
    assert "worked; of old-x4, trained in part or whole before that was counted, the clock's times the threads;" in text
    assert "Learning curves" not in text, "no figure"
    (folder / "report").mkdir()
    (folder / "report" / "curves.csv").write_text("weights\nnew-x4\n")
    shown(folder)
    told = "(below): new-x4; left out: old-x4 (released weights, whose records do not name their validation photos)."
    assert told in (folder / "README.md").read_text()


def test_the_page_shows_what_other_profiles_measured_where_this_one_has_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    given, run, ours, papers = "bicubic input", "this run", "released weights", "official weights: swinir-light-x4"
    rows = {
        "laptop": [("samples", given), ("samples", run), ("samples", ours)],
        "release": [("Set5", given), ("Set5", ours), ("samples", ours), ("Set5", "this run")],
        "official": [("Set5", given), ("Set5", papers), ("BSD100", given), ("BSD100", papers)],
    }
    for profile, keys in rows.items():
        place = tmp_path / "reports" / profile / SUPER_RESOLUTION
        place.mkdir(parents=True)
        table = pd.DataFrame(keys, columns=["set", "label"]).assign(photo="a", method=profile, psnr_y_crop4=30.0)
        table.to_csv(place / "rows.csv", index=False)
    found = report.rows_beside("laptop", SUPER_RESOLUTION)
    shown = set(found[["set", "label", "method"]].itertuples(index=False, name=None))
    assert shown == {(*key, "laptop") for key in rows["laptop"]} | {
        ("Set5", given, "release"),
        ("Set5", ours, "release"),
        ("Set5", papers, "official"),
        ("BSD100", given, "official"),
        ("BSD100", papers, "official"),
    }
    assert (found["profile"] == found["method"]).all()
    source = report.origin_html(f"{SUPER_RESOLUTION}/rows.csv", notebook="09_x", profile="laptop", rows=found)
    links = re.findall('href="(.*?)"', source)
    files = [(tmp_path / "reports/laptop" / link).resolve() for link in links if link.endswith(".csv")]
    assert files == [tmp_path / "reports" / name / SUPER_RESOLUTION / "rows.csv" for name in rows], "all that is shown"
    assert set(report.rows_beside("release", SUPER_RESOLUTION)["method"]) == {"release", "official"}
    assert set(report.rows_beside("demo", SUPER_RESOLUTION)["set"]) == {"samples", "Set5", "BSD100"}


def test_rows_are_stamped_with_where_they_come_from(tmp_path, monkeypatch):
    rows = pd.DataFrame(
        {
            "set": "Set5",
            "photo": ["a", "a"],
            "method": ["bicubic", "fsrcnn-x4"],
            "label": ["bicubic input", "released weights"],
            "psnr_y_crop4": [28.0, 30.0],
        }
    )
    given, ours = provenance.stamp(rows, "laptop", trained={}, degradation="Bicubic(4)").to_dict("records")
    file = rvlib.ROOT / "weights" / "fsrcnn-x4.safetensors"
    assert (ours["method"], ours["weights"], ours["sha256"]) == ("fsrcnn", "fsrcnn-x4", files.sha256(file))
    assert (ours["recipe"], ours["parameters"]) == ("fsrcnn", 12_809)
    assert given["method"] == "bicubic" and not given["weights"] and not given["sha256"]
    assert "Bicubic(4)" in ours["protocol"] and "PSNR on luminance, 4 pixels cropped" in ours["protocol"]
    assert re.fullmatch("Set5@[0-9a-f]{12}", ours["data"])
    assert provenance.photos_of("GoPro") == "GoPro: as first fetched, no published hash"
    assert provenance.photos_of("mine/photos") == "mine/photos: your own photos"
    by_method = rows.replace({"method": {"fsrcnn-x4": "fsrcnn"}})
    again = provenance.stamp(by_method, "laptop", trained={"fsrcnn-x4": "x"}, degradation="Bicubic(4)")
    assert again.to_dict("records")[1] == ours, "a method's notebook names its rows by the method"
    monkeypatch.setattr(provenance.study, "run_folder", lambda profile, run: tmp_path)
    shutil.copy(file, tmp_path / "last.safetensors")
    for profile, label in (("release", "released weights"), ("laptop", "this run")):  # a profile's own run comes first
        assert provenance.weights_file(profile, "fsrcnn-x4", label, {"fsrcnn-x4": "x"}) == tmp_path / "last.safetensors"
    assert provenance.weights_file("laptop", "fsrcnn-x4", "released weights", {"fsrcnn-x4": "x"}) == file
    rows["label"] = ["bicubic input", "this run"]
    _, run = provenance.stamp(rows, "laptop", trained={"fsrcnn-x4": "x"}, degradation="").to_dict("records")
    rows["label"] = ["bicubic input", "released weights"]
    _, shipped = provenance.stamp(rows, "release", trained={"fsrcnn-x4": "x"}, degradation="").to_dict("records")
    assert shipped["sha256"] == run["sha256"], "the release profile's own run is what ships"
    for source, target in (("last", "released"), ("released", "again")):
        provenance.write_released(tmp_path / f"{source}.safetensors", tmp_path / f"{target}.safetensors")
        assert run["sha256"] == files.sha256(tmp_path / f"{target}.safetensors"), "that of the released file"
    shipped = tmp_path / "shipped.safetensors"
    checkpoint.save(rvlib.load(file), shipped, half=True, training={"code": "before it was carried over"})
    before = files.sha256(shipped)
    provenance.write_released(tmp_path / "last.safetensors", shipped)
    assert files.sha256(shipped) == before, "a file that holds these weights stays as it is"


def test_core_hours_count_cores_processes_and_what_came_before():
    log = [{"step": 1, "seconds": 1800.0}, {"step": 2, "seconds": 3600.0}, {"step": 3, "seconds": None}]
    history = [{"event": "begun", "device": "cpu", "threads": 2, "processes": 1}]
    record = {"history": history, "log": log}
    assert provenance.budget(record) == "2.0 core-hours"
    assert provenance.budget({**record, "before": [record, record]}) == "6.0 core-hours"
    assert provenance.budget({**record, "before": [{}]}) == "at least 2.0 core-hours"
    history[0] |= {"device": "NVIDIA H100", "threads": 8, "processes": 4}
    assert provenance.budget(record) == "4.0 GPU-hours"
    assert provenance.budget({**record, "before": [{}]}) == "at least 4.0 GPU-hours"
    assert provenance.budget({}) == "–"
    for data in ({"photos": 738, "patch_size": 96}, "738 photos, crc 2246742e"):  # as records say it, and as they did
        assert provenance.learned_from({"identity": {"data": data}}) == "738 photos"


def test_a_training_that_was_given_more_photos_says_which_part_saw_which(monkeypatch):
    first = {"identity": {"method": "swinir", "data": "490 photos, crc 0"}, "sets": ["T91"], "log": [{"step": 40_000}]}
    last = {
        "identity": {"method": "swinir", "data": {"photos": 700}},
        "log": [{"step": 20_000}],
        "sets": ["T91", "CID22"],
    }
    known = {**last, "before": [first]}
    monkeypatch.setattr(provenance, "record", lambda name: known)
    assert provenance.learned_from(known) == "490, then 700 photos"
    assert provenance.story("swinir-x4") == "40,000 steps on T91 and 20,000 steps on T91, CID22 (–)"
    known["before"] = [first | {"sets": last["sets"]}]
    assert provenance.learned_from(known) == "700 photos"
    assert provenance.story("swinir-x4") == "40,000 and 20,000 steps (–) on T91, CID22"


def test_hours_of_a_gpu_and_of_a_cpu_are_not_added():
    log = [{"step": 1, "seconds": 360.0}, {"step": 2, "seconds": 7560.0}]
    history = [
        {"event": "begun", "device": "NVIDIA H200", "threads": 8},
        {"event": "resumed", "device": "NVIDIA H200", "threads": 4, "seconds": 180.0},
        {"event": "resumed", "device": "cpu", "threads": 1, "seconds": 360.0},
        {"event": "taken from a record"},
    ]
    record = {"history": history, "log": log}
    assert provenance.spent(record) == {"GPU-hours": pytest.approx(0.1), "core-hours": pytest.approx(2.0)}
    assert provenance.budget(record) == "0.1 GPU-hours and 2.0 core-hours"
    assert provenance.machine(record) == "NVIDIA H200, 8 threads; then NVIDIA H200, 4 threads; then CPU, 1 thread"
    assert pd.isna(provenance.hours(record))
    del history[2]["seconds"]
    assert provenance.budget(record) == "–"


def test_the_machines_of_what_a_run_continued_from_come_first():
    own = {"history": [{"event": "begun", "device": "cpu", "threads": 1}]}
    gpu = {"event": "begun", "device": "NVIDIA H200", "threads": 2, "processes": 4}
    before = {"history": [gpu, {**gpu, "event": "resumed"}, {"event": "resumed", "device": "cpu", "threads": 2}]}
    told = "NVIDIA H200, 2 threads in each of 4 processes; then CPU, 2 threads"
    assert provenance.machine(own) == "CPU, 1 thread"
    assert provenance.machine(before) == told, "each machine once"
    assert provenance.machine({**own, "before": [before]}) == f"run before: {told}; this run: CPU, 1 thread"
    both = provenance.machine({**own, "before": [before, {}]})
    assert both == f"run before: {told}; run before: machine not kept; this run: CPU, 1 thread"
    assert provenance.machine({"before": [own]}) == "run before: CPU, 1 thread; this run: machine not kept"
    assert provenance.machine({}) == "machine not kept"


def test_the_crops_are_those_on_which_most_was_gained():
    rng = np.random.default_rng(0)
    reference = rng.integers(60, 200, (64, 64, 3), dtype=np.uint8)
    before, after = reference.copy(), reference.copy()
    before[16:32, 32:48] ^= 63
    found = report.best_crops({"a": (before, after, reference)}, side=16, count=1)
    assert found == [("a", (slice(16, 32), slice(32, 48)))]
    line = report.side_by_side([before, after], enlarge=2)
    assert line.shape == (128, 2 * (64 + 2 + 64), 3)


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
    assert '<div class="scroll" tabindex="0" role="region" aria-label="Table &lt;1&gt;">' in table
    assert "<caption>Table &lt;1&gt;. Y.</caption>" in table
    assert '<th scope="col" class="number">PSNR\N{NO-BREAK SPACE}↑</th>' in table
    for size, scrolls in (((900, 200), True), ((300, 200), False)):
        Image.new("RGB", size).save(tmp_path / "figure.png")
        assert ('class="scroll"' in report.figure_html(tmp_path / "figure.png", "a strip")) is scrolls


def test_drawings_are_embedded_as_drawings_and_photos_small(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 2400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    text = report.figure_html(tmp_path / "photo.png", "photo")
    assert "data:image/webp;base64," in text
    assert len(text) < (tmp_path / "photo.png").stat().st_size / 2
    (tmp_path / "photo.svg").write_text("<svg/>")
    assert "data:image/svg+xml;base64," in report.figure_html(tmp_path / "photo.png", "photo")


def test_a_table_without_rows_names_its_weights():
    text = report.origin_html("video/f.csv", notebook="14_video", profile="demo", weights={"a-x4": 64 * "f"})
    assert f'a-x4 <code title="{64 * "f"}">{12 * "f"}</code>' in text and 'href="../../weights/README.md"' in text
    assert "weights" not in report.origin_html("data/f.csv", notebook="01_data", profile="demo")


@pytest.mark.parametrize("labels", [["this run"], ["this run", "released weights"]])
def test_a_table_links_the_cards_of_its_own_run(tmp_path, monkeypatch, labels):
    rows = pd.DataFrame({"weights": "a-x4", "label": labels, "sha256": 64 * "f", "set": "Set5", "photo": "a"})
    named = {"notebook": "09_compare_super_resolution", "profile": "paper", "rows": rows}
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    own, others = 'href="weights/README.md"', 'href="../../weights/README.md"'
    text = report.origin_html("f.csv", **named)
    assert (own in text, others in text) == (False, True), "there are none"
    (tmp_path / "reports/paper/weights").mkdir(parents=True)
    (tmp_path / "reports/paper/weights/README.md").touch()
    text = report.origin_html("f.csv", **named)
    assert (own in text, others in text) == (True, len(labels) == 2)


@pytest.mark.parametrize("sets", [True, False])
def test_a_legend_names_methods_and_sets_and_no_columns(sets):
    table = pd.DataFrame({"x": [1, 2], "y": [3, 4], "network": ["SwinIR", "FSRCNN"], "set": ["Set5", "Set14"]})
    figure, axis = plt.subplots()
    sns.scatterplot(table, x="x", y="y", hue="network", style="set", ax=axis)
    figures.plain_legend(axis, sets=sets)
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    plt.close(figure)
    assert shown == ["SwinIR", "FSRCNN", *(["", "Set5", "Set14"] if sets else [])]


def test_the_slider_is_one_range_input_with_a_name():
    photo = np.zeros((6, 8, 3), np.uint8)
    text = compare.slider_html(photo, photo, "before & after")
    assert text.count("<input") == text.count('type="range"') == 1
    assert 'aria-label="before and after: before &amp; after"' in text
    assert text.count('src="data:image/webp;base64,') == 2
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
