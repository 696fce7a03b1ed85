"""In a notebook: choose a photo and a model, move the line between before and after."""

import html
import tempfile
from pathlib import Path

import ipywidgets
import numpy as np

import rvlib
from rvlib import photos
from rvlib.errors import UserError
from rvlib.study import report

LARGEST_SIDE = 384  # pixels of the side that is restored: a few seconds with the slowest model


def panel() -> ipywidgets.VBox:
    """A field for a photo, the released models, and what comes out: the photo's middle, before and after.

    What cannot be read is said in the place of the result. Needs a kernel; whole photos are `rvlib restore`'s.
    """
    photo = ipywidgets.FileUpload(accept="image/*", description="photo")
    model = ipywidgets.Dropdown(options=rvlib.released(), description="model")
    result = ipywidgets.HTML("Choose a photo of yours; its middle is restored.")

    def show(_: dict) -> None:
        if not photo.value or model.value is None:
            return
        result.value = f"{html.escape(model.value)} is at work ..."
        try:
            middle = _middle(photo.value[0]["name"], photo.value[0]["content"])
            result.value = compare(rvlib.load(model.value), middle, model.value)
        except UserError as error:
            result.value = html.escape(str(error))

    for control in (photo, model):
        control.observe(show, names="value")
    return ipywidgets.VBox([ipywidgets.HBox([photo, model]), result])


def compare(model, image: np.ndarray, name: str) -> str:
    """The slider between an image, enlarged by bicubic interpolation where the model enlarges, and what it makes."""
    before = image if model.scale == 1 else rvlib.degrade.imresize(image, model.scale)
    return report.slider_html(before, rvlib.restore(model, image), name)


def _middle(name: str, content: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photo"
        file.write_bytes(content)
        try:
            image = photos.read(file)
        except UserError as error:
            raise UserError(str(error).replace(str(file), name)) from None
    top, left = (max(0, (side - LARGEST_SIDE) // 2) for side in image.shape[:2])
    return image[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE]
