"""The notebook's panel: photos in, sliders and links that save, or one plain sentence."""

import base64
import datetime
import io

import numpy as np
import pytest
from PIL import Image

import rvlib
from rvlib.study import widget


def uploaded(name, content):
    when = datetime.datetime.now(datetime.UTC)
    size, kind = len(content), "image/png"
    return ({"name": name, "type": kind, "size": size, "content": memoryview(content), "last_modified": when},)


def png(height, width):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def panel(monkeypatch):
    """A panel with two small models: its fields for a photo, models, the whole photo, a dropped one; its result."""
    monkeypatch.setattr(rvlib, "released", lambda: ["a-model", "another"])
    monkeypatch.setattr(rvlib, "load", lambda name: rvlib.create("fsrcnn", d=4, s=2, m=1).eval())
    controls, result = widget.panel().children
    photo, model, whole, _, dropped = controls.children
    return photo, model, whole, dropped, result


def test_a_photo_becomes_a_slider_and_a_link_for_each_model(panel):
    photo, model, _, _, result = panel
    photo.value = uploaded("mine.png", png(20, 30))
    assert result.value.count("data:image/webp") == 2
    assert "max-width:max(120px," in result.value, "30 pixels, four times as large"
    model.value = ("a-model", "another")
    assert result.value.count("<figure") == 2
    content = result.value.partition('download="another.png" href="data:image/png;base64,')[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(content))) as saved:
        assert saved.size == (120, 80)


def test_a_large_photo_is_restored_in_its_middle_or_whole(panel):
    photo, _, whole, _, result = panel
    photo.value = uploaded("large.png", png(400, 500))
    assert f"max-width:max({4 * widget.LARGEST_SIDE}px," in result.value
    whole.value = True
    assert "max-width:max(2000px," in result.value


def test_a_dropped_photo_takes_the_place_of_the_chosen_one(panel):
    photo, _, _, dropped, result = panel
    photo.value = uploaded("first.png", png(20, 30))
    dropped.value = f"second.png\ndata:image/png;base64,{base64.b64encode(png(20, 40)).decode()}"
    assert "max-width:max(160px," in result.value
    assert photo.value == ()
    photo.value = uploaded("third.png", png(20, 50))
    assert "max-width:max(200px," in result.value
    assert dropped.value == ""


@pytest.mark.parametrize("way", ["chosen", "dropped"])
def test_rubbish_is_said_and_escaped(panel, way):
    photo, _, _, dropped, result = panel
    if way == "chosen":
        photo.value = uploaded("<b>rubbish</b>.png", b"no photo")
    else:
        dropped.value = "<b>rubbish</b>.png\ndata:text/plain;base64,bm8gcGhvdG8="
    assert "&lt;b&gt;rubbish&lt;/b&gt;.png is no readable photo" in result.value
    assert "<" not in result.value
