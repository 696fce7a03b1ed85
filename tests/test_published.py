"""Official weights against published numbers: measured as the papers' own programs do, and judged by the difference."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import rvlib
from rvlib import measures, official
from rvlib.restore import to_tensor
from rvlib.study import published
from rvlib.study.fetch import manifest

PROFILE = yaml.safe_load((Path(__file__).parent.parent / "profiles/official/params.yaml").read_text())
COMPARISONS = {"compare_super_resolution": ("super-resolution", 4), "compare_deblurring": ("deblurring", 1)}


@pytest.mark.parametrize("size", [(16, 24), (17, 22)])
def test_swinir_is_given_a_mirrored_border_as_its_own_test_program_gives_it(size):
    torch.manual_seed(0)
    model = rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), scale=2, drop_path=0.0)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    restored = published.restorer(model)(photo)
    x = to_tensor(photo)
    height, width = ((side // 8 + 1) * 8 for side in size)  # a whole window more where the photo is a multiple
    x = torch.cat([x, x.flip(2)], 2)[:, :, :height]
    x = torch.cat([x, x.flip(3)], 3)[:, :, :, :width]
    with torch.no_grad():
        expected = model(x)[0, :, : 2 * size[0], : 2 * size[1]].clamp(0, 1).permute(1, 2, 0)
    assert np.array_equal(restored, (expected * 255).round().numpy().astype(np.uint8))


def test_verdicts_follow_from_the_difference():
    known = pd.read_csv(published.TABLE).set_index(["weights", "set", "measure"])["published"]
    light = known["official/swinir-light-x4", "Set5", "psnr_y_crop4"]
    label = published.label("official/swinir-light-x4")
    for off, confirmed in ((0.0, True), (0.02, True), (-0.02, True), (0.03, False), (-0.5, False)):
        means = pd.DataFrame({"set": ["Set5"], "method": ["swinir"], "label": [label], "psnr_y_crop4": [light + off]})
        (row,) = published.compare(means).to_dict("records")
        assert (row["verdict"] == published.CONFIRMED) == confirmed
        assert row["difference"] == f"{off:+.4f}"
        assert (row["published"], row["weights"]) == (f"{light:g}", "official/swinir-light-x4")


def test_a_measure_without_a_tolerance_is_named(tmp_path, monkeypatch):
    assert {
        measures.find(each).title for each in pd.read_csv(published.TABLE)["measure"]
    } <= published.TOLERANCES.keys()
    monkeypatch.setattr(published, "TABLE", tmp_path / "published.csv")
    (tmp_path / "published.csv").write_text(
        "weights,set,measure,published,source\nofficial/swinir-light-x4,Set5,niqe_y_crop0,7.1,a paper\n"
    )
    label = published.label("official/swinir-light-x4")
    means = pd.DataFrame({"set": ["Set5"], "method": ["swinir"], "label": [label], "niqe_y_crop0": [7.0]})
    with pytest.raises(rvlib.UserError, match=r"published\.csv has a number of NIQE: say in TOLERANCES"):
        published.compare(means)


def test_what_was_not_measured_or_not_published_has_no_verdict():
    means = pd.DataFrame(
        {
            "set": ["Set5", "samples", "Set5"],
            "method": "swinir",
            "label": [published.label("official/swinir-light-x4")] * 2 + ["released weights"],
            "psnr_y_crop4": [np.nan, 30.0, 32.44],
        }
    )
    assert published.compare(means).empty


def test_what_cannot_be_had_is_named_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("RV_MIRROR", raising=False)
    found, missing = published.models(["official/diffir-gan-x4"])
    assert not found
    assert "diffir-gan-x4.pth" in missing["official/diffir-gan-x4"]


def test_the_published_numbers_are_of_listed_weights_sets_and_measures():
    table = pd.read_csv(published.TABLE)
    assert set(table["weights"]) <= set(official.listed())
    assert set(table["set"]) <= set(manifest()["set"])
    assert not table.duplicated(["weights", "set", "measure"]).any()
    for each in table.itertuples():
        known = official.listed()[each.weights]
        assert each.measure in [m.key for m in measures.for_task(known.task, known.scale, perceptual=True)]
        assert (each.published > 20) == each.measure.startswith("psnr")


@pytest.mark.parametrize("comparison", COMPARISONS)
def test_the_profile_measures_each_published_number_of_its_scale(comparison):
    task, scale = COMPARISONS[comparison]
    listed = [official.listed()[name] for name in PROFILE[comparison]["official"]]
    assert {(each.task, each.scale) for each in listed} == {(task, scale)}
    table = pd.read_csv(published.TABLE)
    wanted = {name for name in table["weights"] if official.listed()[name].task == task}
    assert wanted <= {each.name for each in listed}
    assert PROFILE["methods"] == {}
    sets = set(table[table["weights"].isin(wanted)]["set"])
    assert sets <= set(PROFILE[comparison]["test_sets"]) <= set(PROFILE["fetch"]["sets"])
