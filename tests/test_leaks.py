"""The leak check finds what was hidden from it, and raises no alarm where nothing is."""

import io

import numpy as np
import pytest
from PIL import Image

from rvlib import photos, study
from rvlib.leaks import find_leaks


@pytest.fixture(scope="module")
def sets():
    data = study.data("demo")
    return photos.load_set(data, "samples", split="train"), photos.load_set(data, "samples", split="test")


def disguised(photo):
    """Shifted by a few pixels, made a tenth smaller and saved as a JPEG of quality 70."""
    image = Image.fromarray(photo[3:, 4:])
    image = image.resize((int(0.9 * image.width), int(0.9 * image.height)), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return np.asarray(Image.open(buffer))


def test_no_false_alarm_on_the_sample_photos(sets):
    assert len(find_leaks(*sets)) == 0


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "flower"])
def test_finds_a_disguised_test_photo(sets, name):
    train, test = sets
    leaks = find_leaks(train | {"planted": disguised(test[name])}, test)
    assert list(zip(leaks["test"], leaks["train"], strict=True)) == [(name, "planted")]


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_finds_half_of_a_test_photo(sets, name):
    train, test = sets
    height, width = test[name].shape[:2]
    half = test[name][height // 2 :, width // 2 :]
    assert "planted" in set(find_leaks(train | {"planted": half}, test)["train"])
