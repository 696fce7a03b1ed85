"""The notebook's panel: photos in, a slider or one plain sentence out."""

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


@pytest.fixture
def panel(monkeypatch):
    """A panel with one small model, and its photo field, model field and result."""
    monkeypatch.setattr(rvlib, "released", lambda: ["a-model"])
    monkeypatch.setattr(rvlib, "load", lambda name: rvlib.create("fsrcnn", d=4, s=2, m=1).eval())
    controls, result = widget.panel().children
    return *controls.children, result


def test_a_photo_becomes_a_slider(panel):
    photo, _, result = panel
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(buffer, "PNG")
    photo.value = uploaded("mine.png", buffer.getvalue())
    assert result.value.count("data:image/jpeg") == 2
    assert "max-width:120px" in result.value, "30 pixels, four times as large"


def test_a_large_photo_is_restored_in_its_middle(panel):
    photo, _, result = panel
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((500, 800, 3), np.uint8)).save(buffer, "PNG")
    photo.value = uploaded("large.png", buffer.getvalue())
    assert f"max-width:{4 * widget.LARGEST_SIDE}px" in result.value


def test_rubbish_is_said_and_escaped(panel):
    photo, _, result = panel
    photo.value = uploaded("<b>rubbish</b>.png", b"no photo")
    assert "&lt;b&gt;rubbish&lt;/b&gt;.png is no readable photo" in result.value
    assert "<" not in result.value
