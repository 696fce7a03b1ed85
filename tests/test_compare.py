"""The page that compares models: all of it in one file, a slider for each model, the part where a photo shows most."""

import re

import numpy as np
import pytest

import rvlib
from rvlib import compare, photos


@pytest.fixture(scope="module")
def chains():
    small = rvlib.create("fsrcnn", d=4, s=2, m=1, scale=2)
    plain = rvlib.create("nafnet", width=4, encoder=(1,), middle=1, decoder=(1,))
    return {"small": small, "plain<b>": plain, "plain + small": [plain, small]}


def test_the_page_is_one_file_with_a_slider_for_each_model(chains, tmp_path):
    part = compare.part(photos.sample("coffee"), 48)
    tried = compare.trials(chains, part)
    assert [trial.restored.shape[0] for trial in tried.values()] == [96, 48, 96]
    assert all(trial.seconds > 0 and trial.memory > 48 * 48 for trial in tried.values())
    assert "s for the whole photo" in tried["small"].facts
    compare.write(tmp_path / "page.html", {"a<i>.png": (part, tried), "b.png": (part, {"small": tried["small"]})})
    page = (tmp_path / "page.html").read_text()
    assert page.count('type="range" min="0"') == 4
    assert page.count("data:image/webp;base64,") == 8
    assert "a&lt;i&gt;.png" in page
    assert "plain&lt;b&gt;" in page
    assert "<i>" not in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [], "nothing is asked of a network"
    assert "<noscript>" in page


def test_the_part_is_where_a_photo_shows_most():
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[180:260, 40:120] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    part = compare.part(photo, 64)
    assert part.pixels.shape == (64, 64, 3)
    assert part.pixels.std() > 60, "the noise fills it"
    assert part.times == pytest.approx(300 * 400 / 64**2)


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (16, 16)])
def test_a_small_photo_is_its_own_part(size):
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    part = compare.part(photo, 16)
    assert part.pixels.shape == (min(16, size[0]), min(16, size[1]), 3)


@pytest.mark.parametrize("side", [0, -4, 5000])
def test_a_part_of_no_size_is_refused(side):
    with pytest.raises(rvlib.UserError, match="sides of 16 to 1024"):
        compare.part(photos.sample("coffee"), side)


def test_what_no_page_can_show_is_refused_before_the_work():
    chain = [rvlib.load("fsrcnn-x4")] * 2
    with pytest.raises(rvlib.UserError, match="twice makes 16384 pixels a side, and a page holds 16383"):
        compare.trials({"twice": chain}, compare.Part(np.zeros((16, 1024, 3), np.uint8)))
