"""Tiles: no seam where a model's reach is limited, a stated deviation elsewhere, and memory that stays small."""

from unittest import mock

import numpy as np
import pytest
import torch

import rvlib
from rvlib import complexity, tiles
from rvlib.models.base import RestorationModel
from rvlib.photos import sample
from rvlib.restore import forward_any_size

LOCAL = {
    "srcnn": {},
    "fsrcnn": {},
    "srgan": {"features": 8, "blocks": 3},
    "compact": {"features": 8},
    "msrresnet": {"features": 8, "blocks": 3},
}
GLOBAL = {
    "swinir": {"embed": 12, "depths": (2, 2), "heads": (2, 2)},
    "nafnet": {"width": 8, "encoder": (1, 1), "middle": 1, "decoder": (1, 1)},
    "diffir": {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1},
}


def make(name, arguments, spread=0.05):
    torch.manual_seed(0)
    name, style = ("srgan", {"style": name}) if name in ("compact", "msrresnet") else (name, {})
    model = rvlib.create(name, **style, **arguments)
    with torch.no_grad():  # fresh weights hardly answer, and a seam of nothing is not seen
        for weight in model.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return model


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_show_no_seam(name):
    model, photo = make(name, LOCAL[name]), sample("coffee")[:150, :200]
    whole, tiled = rvlib.restore(model, photo, tile=4096), rvlib.restore(model, photo, tile=64)
    assert whole.std() > 5
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_reach_bounds_what_a_pixel_depends_on(name):
    model = make(name, LOCAL[name]).double()
    side = 2 * model.reach + 9
    x, middle = torch.rand(1, model.channels, side, side, dtype=torch.float64, requires_grad=True), side // 2
    model(x)[..., middle * model.scale, middle * model.scale].sum().backward()
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert middle - rows.min() <= model.reach
    assert rows.max() - middle <= model.reach


@pytest.mark.parametrize("name", GLOBAL)
def test_tiles_of_global_models_are_blended(name):
    """What tiles change of the whole photo's result has no step, where tiles side by side have one at each seam."""
    model, photo = make(name, GLOBAL[name], spread=0.02), sample("coffee")[:128, :192]
    whole = rvlib.restore(model, photo, tile=4096).astype(float)
    steps = {}
    for overlap in (0, None):
        change = rvlib.restore(model, photo, tile=64, overlap=overlap) - whole
        steps[overlap] = np.abs(np.diff(change, axis=1)).mean(axis=(0, 2))
    seams = [model.scale * at - 1 for at in (64, 128)]
    assert min(steps[0][seams]) > 10 * np.median(steps[0]), "else the measure would see none"
    assert steps[None].max() < min(steps[0][seams]) / 2


@pytest.mark.parametrize(("window", "overlap"), [(8, 12), (8, 17), (8, 28), (5, None), (12, None), (40, None)])
def test_windows_of_tiles_are_those_of_the_whole_photo(window, overlap):
    model = make("swinir", {"window": window, "embed": 12, "depths": (2,), "heads": (2,)})
    photo = sample("coffee")[:128, :192]
    whole, tiled = rvlib.restore(model, photo, tile=4096), rvlib.restore(model, photo, tile=64, overlap=overlap)
    assert whole.std() > 5
    assert np.abs(whole.astype(int) - tiled).max() <= 1, "two layers reach no further than a tile's overlap"


@pytest.mark.parametrize(
    ("bytes_per_row", "overlap", "free", "side"),
    [(1, 0, 2**31, 1024), (1, 32, 2**31, 960), (2**22, 0, 2**31, 128), (1, 0, 2**29, 512)],
)
def test_a_tile_fits_into_memory(monkeypatch, bytes_per_row, overlap, free, side):
    """1 GiB or half of what is free holds side² pixels of 1 KiB, half a GiB a row of tiles."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: mock.Mock(available=free))
    assert tiles.fitting(1024.0, bytes_per_row, torch.device("cpu"), overlap) == side


def test_photos_at_the_same_time_have_a_part_of_the_memory_each(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: mock.Mock(available=2**33))
    sides = []
    for photos in (1, 4, 1):
        with tiles.sharing_memory(photos):
            sides.append(tiles.fitting(1024.0, 1.0, torch.device("cpu"), 0))
    assert sides == [1024, 512, 1024]


@pytest.mark.parametrize("size", [(64, 64), (65, 130), (1, 300), (300, 1), (127, 129), (200, 64)])
@pytest.mark.parametrize(("overlap", "margin"), [(0, 0), (8, 8), (32, 8), (32, 0)])
def test_weights_add_up(size, overlap, margin):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    same = lambda part: torch.from_numpy(part.transpose(2, 0, 1).astype(np.float32) / 255)[None]  # noqa: E731
    assert np.array_equal(tiles.assemble(same, image, scale=1, tile=64, overlap=overlap, margin=margin), image)


def test_tiles_that_see_less_than_the_reach_show():
    """The test above can fail: without overlap there are seams."""
    model, photo = make("fsrcnn", {}), sample("coffee")[:128, :128]
    whole, tiled = rvlib.restore(model, photo), rvlib.restore(model, photo, tile=64, overlap=0)
    assert np.abs(whole.astype(int) - tiled).max() > 1


def test_self_ensemble_is_the_mean_of_eight():
    model, photo = make("srgan", LOCAL["srgan"]), sample("coffee")[:24, :32]
    ensemble = rvlib.restore(model, photo, self_ensemble=True)
    restored = []
    for turn in range(8):
        turned = np.rot90(photo, turn % 4)
        turned = np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)
        back = rvlib.restore(model, turned).astype(float)
        restored.append(np.rot90(back[:, ::-1] if turn >= 4 else back, -(turn % 4)))
    assert np.abs(np.mean(restored, axis=0) - ensemble).max() < 1.01


def test_self_ensemble_holds_one_sum_and_not_eight_results():
    class Same(RestorationModel):
        def forward(self, x):
            return x.clone()

    photo = torch.rand(1, 3, 64, 64)
    assert complexity.peak_memory(lambda x: forward_any_size(Same(), x, self_ensemble=True), photo) <= 6 * photo.nbytes


def test_sixteen_bits_stay():
    photo = sample("coffee")[:24, :32].astype(np.uint16) * 257
    restored = rvlib.restore(make("fsrcnn", {}), photo)
    assert restored.dtype == np.uint16
    assert np.abs(restored / 257 - rvlib.restore(make("fsrcnn", {}), (photo // 257).astype(np.uint8))).max() <= 0.51


@pytest.mark.parametrize(("tile", "overlap"), [(8, None), (-1, None), (64, -1), (64, 500)])
def test_useless_tiles_are_refused(tile, overlap):
    with pytest.raises(rvlib.UserError, match="tile must be|overlap"):
        rvlib.restore(make("fsrcnn", {}), sample("coffee")[:80, :80], tile=tile, overlap=overlap)
