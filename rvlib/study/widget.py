"""In a notebook: choose or drop a photo, choose models, move the line between before and after, take the result."""

import base64
import html
import tempfile
from pathlib import Path

import ipywidgets
import numpy as np

import rvlib
from rvlib import compare, photos
from rvlib.errors import UserError

FIRST = "swinir-small-x4"  # what is chosen until somebody chooses
LARGEST_SIDE = 384  # pixels of the side that is restored: a few seconds with the slowest model

# the browser hands a dropped file to an unseen text field of the panel, which the kernel reads
DROP = """<div style="border:2px dashed #888;border-radius:6px;padding:.4em 1em;line-height:1.4" tabindex="0"
 ondragover="event.preventDefault()"
 ondrop="event.preventDefault();event.stopPropagation();var file=event.dataTransfer.files[0];if(!file)return;
 var field=this.closest('.rvlib-panel').querySelector('.rvlib-dropped textarea'),reader=new FileReader();
 reader.onload=function(){field.value=file.name+'\\n'+reader.result;
 field.dispatchEvent(new Event('change',{bubbles:true}))};reader.readAsDataURL(file)">or drop a photo here</div>"""


def panel() -> ipywidgets.VBox:
    """Fields for a photo and for models, and what comes out: the photo's middle, before and after, to look at and save.

    What is wrong with a file stands where its result would be. Needs a kernel; whole folders are `rvlib restore`'s.
    """
    photo = ipywidgets.FileUpload(accept="image/*", description="photo")
    names = rvlib.released()
    first = [FIRST] if FIRST in names else names[:1]
    model = ipywidgets.SelectMultiple(options=names, value=first, rows=len(names), description="models")
    whole = ipywidgets.Checkbox(value=False, description="whole photo (slow)")
    dropped = ipywidgets.Textarea(layout={"display": "none"}).add_class("rvlib-dropped")
    result = ipywidgets.HTML("Choose a photo of yours; its middle is restored.")

    def show(_: dict) -> None:
        given = _given(photo, dropped)
        if given is None or not model.value:
            return
        shown = []
        for name in model.value:
            result.value = "".join([*shown, f"<p>{html.escape(name)} is at work ...</p>"])
            try:
                image = _read(*given)
                part = image if whole.value else photos.middle(image, LARGEST_SIDE)
                shown.append(restored_html(rvlib.load(name), part, name))
            except UserError as error:
                shown = [html.escape(str(error))]
                break
        result.value = "".join(shown)

    def take(change: dict) -> None:
        other = dropped if change["owner"] is photo else photo
        if change["new"]:  # the newer of the two counts
            other.value = "" if other is dropped else ()
            show(change)

    for control in (photo, dropped):
        control.observe(take, names="value")
    for control in (model, whole):
        control.observe(show, names="value")
    controls = ipywidgets.HBox([photo, model, whole, ipywidgets.HTML(DROP), dropped], layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([controls, result]).add_class("rvlib-panel")


def restored_html(model, image: np.ndarray, name: str) -> str:
    """A slider between an image and what the model makes of it, what that took, and a link that saves it."""
    part = compare.Part(image)
    tried = compare.trials({name: model}, part)
    [(_, slider, facts)] = compare.sliders(part, tried)
    text, made = html.escape(name), compare.data_url(tried[name].restored, "PNG")
    link = f'<a download="{text}.png" href="{made}" style="text-decoration:underline">'
    link += f"download what {text} made</a>"  # JupyterLab shows it as plain text otherwise
    return f"{slider}<p>{facts}</p>{link}"


def _given(photo: ipywidgets.FileUpload, dropped: ipywidgets.Textarea) -> tuple[str, bytes] | None:
    """Name and content of the file that was chosen or dropped."""
    if photo.value:
        return photo.value[0]["name"], bytes(photo.value[0]["content"])
    if dropped.value:
        name, _, address = dropped.value.partition("\n")
        return name, base64.b64decode(address.partition(",")[2])
    return None


def _read(name: str, content: bytes) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "photo"
        file.write_bytes(content)
        try:
            return photos.read(file)
        except UserError as error:
            raise UserError(str(error).replace(str(file), name)) from None
