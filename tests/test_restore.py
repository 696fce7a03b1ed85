"""Restoring: any photo, any size, the same every time, and never less than bicubic's geometry."""

import numpy as np
import pytest
import torch
from PIL import Image

import rvlib
from rvlib import complexity, photos, tiles
from rvlib.color import rgb_to_ycbcr, ycbcr_to_rgb
from rvlib.degrade import imresize
from rvlib.models.base import RestorationModel
from rvlib.restore import Size, _detail, forward_any_size, pad, to_array, to_tensor


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return rvlib.create("fsrcnn")


@pytest.fixture(scope="module")
def photo():
    return photos.sample("coffee")[100:140, 200:260]


def test_path_pil_and_array_are_the_same(model, photo, tmp_path):
    photos.write(tmp_path / "photo.png", photo)
    restored = rvlib.restore(model, photo)
    assert restored.shape == (160, 240, 3)
    assert restored.dtype == np.uint8
    assert np.array_equal(restored, rvlib.restore(model, tmp_path / "photo.png"))
    assert np.array_equal(restored, rvlib.restore(model, str(tmp_path / "photo.png")))
    assert np.array_equal(restored, rvlib.restore(model, Image.fromarray(photo)))


def test_luminance_is_the_models_and_chroma_is_bicubic(model, photo):
    """An oracle put together by hand: plain forward on Y, bicubic on Cb and Cr."""
    ycbcr = rgb_to_ycbcr(to_tensor(photo))
    with torch.no_grad():
        luminance = model(ycbcr[:, :1]).clamp(0, 1)
    expected = ycbcr_to_rgb(torch.cat([luminance, imresize(ycbcr[:, 1:], 4)], dim=1))
    assert np.array_equal(rvlib.restore(model, photo), to_array(expected))


def test_a_rgb_model_equals_one_plain_forward(photo):
    model = rvlib.create("fsrcnn", channels=3, scale=2)
    with torch.no_grad():
        expected = to_array(model(to_tensor(photo)))
    assert np.array_equal(rvlib.restore(model, photo), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (17, 31)])
def test_any_size(model, size):
    image = np.full((*size, 3), 128, np.uint8)
    assert rvlib.restore(model, image).shape == (4 * size[0], 4 * size[1], 3)


def test_pads_to_the_multiple_that_a_model_names():
    class Local(RestorationModel):
        task = "deblurring"
        multiple_of = 8

        def forward(self, x):
            assert x.shape[-2] % 8 == x.shape[-1] % 8 == 0
            return x

    image = torch.rand(1, 3, 13, 21)
    assert torch.equal(forward_any_size(Local(), image), image)
    assert torch.equal(forward_any_size(Local(), image[..., :1, :1]), image[..., :1, :1])


def test_padding_reflects_and_never_repeats_the_edge():
    row = torch.arange(4.0).view(1, 1, 1, 4)
    assert pad(row, 0, 3).flatten().tolist() == [0, 1, 2, 3, 2, 1, 0]
    assert pad(row[..., :2], 0, 5).flatten().tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert pad(row[..., :1], 2, 2).shape[-2:] == (3, 3)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (2, 3), (1, 1)])
def test_a_narrow_photo_is_as_bright_as_a_wide_one(size):
    """A network that sees mostly the zeros beside a photo would darken it."""
    restored = rvlib.restore(rvlib.load("fsrcnn-x4"), np.full((*size, 3), 128, np.uint8))
    assert np.abs(restored.astype(int) - 128).max() <= 4


def test_does_not_change_the_model(model, photo):
    model.train()
    rvlib.restore(model, photo)
    assert model.training
    model.eval()


def test_measuring_memory_changes_no_running_statistics():
    network = rvlib.create("srgan", features=8, blocks=1).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    rvlib.restore(network, np.zeros((129, 129, 3), np.uint8))  # the least for which memory is measured
    assert network.bytes_per_pixel > 0
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_colour_conversion_is_its_own_inverse():
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(ycbcr_to_rgb(rgb_to_ycbcr(image)), image)
    assert rgb_to_ycbcr(torch.ones(1, 3, 1, 1))[0, 0].item() == pytest.approx(235 / 255)
    assert rgb_to_ycbcr(torch.zeros(1, 3, 1, 1))[0, 0].item() == pytest.approx(16 / 255)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4)), "float64 array of shape"),
        (np.zeros((4, 4), np.uint8), "not a uint8 array of shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (7, "not a int"),
        (Image.new("RGB", (0, 4)), "no pixels"),
        (Image.new("I", (4, 4)), "^the image holds 32-bit integers"),
        ("missing.png", "missing.png does not exist"),
    ],
)
def test_what_is_no_photo_is_named(model, image, message):
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.restore(model, image)


def test_an_image_whose_file_is_damaged_or_closed_is_named(model, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "half.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "half.png").read_bytes()[:900])
    closed = Image.fromarray(photo)
    closed.close()
    with Image.open(tmp_path / "half.png") as half:
        for image in (half, closed):
            with pytest.raises(rvlib.UserError, match="the image cannot be read"):
                rvlib.restore(model, image)


@pytest.mark.parametrize("wrong", ["fsrcnn-x4", None, ["fsrcnn-x4"]])
def test_a_name_is_no_model(photo, wrong):
    with pytest.raises(rvlib.UserError, match=r"('fsrcnn-x4'|None) is no model: rvlib.load makes one"):
        rvlib.restore(wrong, photo)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_refused(photo, dtype):
    with pytest.raises(rvlib.UserError, match=f"weights are {dtype}: call model.float"):
        rvlib.restore(rvlib.create("fsrcnn", d=4, s=2, m=1).to(dtype), photo)


@pytest.mark.parametrize("name", ["fsrcnn-x4", "nafnet-deblur"])
def test_a_compiled_model_restores_the_same(name, photo):
    model = rvlib.load(name)
    compiled = torch.compile(model, backend="eager")  # the graph is captured, and computed as it was
    assert np.array_equal(rvlib.restore(compiled, photo), rvlib.restore(model, photo))


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module"])
def test_a_wrapped_model_restores_the_same(wrapper):
    """DistributedDataParallel hides what the network declares, and keeps it as `module`."""

    class Wrapper(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.add_module(wrapper, network)

        def forward(self, *inputs, **more):
            return self.get_submodule(wrapper)(*inputs, **more)

    model = rvlib.create("diffir", dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=1)
    photo = photos.sample("coffee")[:70, :90]
    expected = rvlib.restore(model, photo, tile=64)
    assert np.array_equal(rvlib.restore(Wrapper(Wrapper(model)), photo, tile=64), expected)


def test_a_module_that_declares_nothing_is_refused(photo):
    with pytest.raises(rvlib.UserError, match="Conv2d does not declare.*RestorationModel"):
        rvlib.restore(torch.nn.Conv2d(3, 3, 1), photo)


def test_half_precision_is_asked_for_and_close(photo):
    torch.manual_seed(0)
    model = rvlib.create("srgan", features=16, blocks=2).eval()
    plain, half = (rvlib.restore(model, photo, precision=precision).astype(int) for precision in ("fp32", "bf16"))
    assert 0 < np.abs(plain - half).max() <= 6


@pytest.mark.parametrize("size", [(100, 100), (97, 131), (33, 64)])
def test_borders_of_odd_sizes_see_the_photo_and_no_zeros(size):
    """The reflected photo is what the forward sees."""
    torch.manual_seed(0)
    model = rvlib.create("nafnet", width=8, encoder=(1, 1, 1), middle=1, decoder=(1, 1, 1))
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    bottom, right = (-side % 8 for side in size)
    reflected = np.pad(photo, ((0, bottom), (0, right), (0, 0)), mode="reflect")
    expected = rvlib.restore(model, reflected)[: size[0], : size[1]]
    assert np.array_equal(rvlib.restore(model, photo), expected)


def test_a_flat_photo_stays_flat_to_its_border():
    restored = rvlib.restore(rvlib.load("nafnet-deblur"), np.full((100, 100, 3), 128, np.uint8)).astype(int)
    assert np.abs(restored - 128).max() <= 12


@pytest.mark.parametrize("task", ["denoising", "jpeg"])
def test_one_channel_models_of_scale_1_see_grey_photos_as_they_are(task):
    """Their training photos filled the whole range, which luminance does not."""
    window = {"denoising": 8, "jpeg": 7}[task]
    torch.manual_seed(0)
    model = rvlib.create(
        "swinir", task=task, scale=1, upsampler="none", window=window, channels=1, embed=12, depths=(2,), heads=(2,)
    )
    grey = np.random.default_rng(0).integers(0, 256, (20, 17), dtype=np.uint8)
    restored = rvlib.restore(model, np.stack([grey] * 3, axis=-1))
    with torch.no_grad():
        expected = model(torch.from_numpy(grey / np.float32(255))[None, None])
    expected = (expected[0, 0].clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    assert all((restored[..., channel] == expected).all() for channel in range(3))


def test_a_one_channel_denoiser_restores_each_colour():
    torch.manual_seed(0)
    model = rvlib.create(
        "swinir", task="denoising", scale=1, upsampler="none", channels=1, embed=12, depths=(2,), heads=(2,)
    )
    photo = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    restored = rvlib.restore(model, photo)
    for channel in range(3):
        alone = rvlib.restore(model, np.stack([photo[..., channel]] * 3, axis=-1))
        assert (np.abs(restored[..., channel].astype(int) - alone[..., 0]) <= 1).all()
    assert (restored != photo).any()


def test_the_memory_of_three_colours_at_a_time_is_counted(monkeypatch):
    network = rvlib.create(
        "swinir", task="denoising", scale=1, upsampler="none", channels=1, embed=12, depths=(2,), heads=(2,)
    )
    colour, asked = photos.sample("coffee")[:129, :129], []
    monkeypatch.setattr(tiles, "fitting", lambda bytes_per_pixel, *_: asked.append(bytes_per_pixel) or 1024)
    for photo in (colour, colour[..., [1, 1, 1]]):
        rvlib.restore(network, photo)
    one, three = (complexity.peak_memory(network, torch.zeros(batch, 1, 64, 64)) / 64**2 for batch in (1, 3))
    assert asked[0] >= three > 1.5 * asked[1]
    assert asked[1] == pytest.approx(one, rel=0.05)


# Sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [2, 1.37, 1, 0.5, 4])
def test_a_factor_shrinks_what_the_network_made(model, photo, factor):
    restored = rvlib.restore(model, photo, factor=factor)
    assert np.array_equal(restored, imresize(rvlib.restore(model, photo), factor / 4))


@pytest.mark.parametrize(
    ("wanted", "shape"),
    [({"width": 100}, (67, 100)), ({"height": 100}, (100, 150)), ({"longest": 30}, (20, 30)), ({}, (160, 240))],
)
def test_a_side_says_the_other_one(model, photo, wanted, shape):
    factor = Size(**wanted).of(*photo.shape[:2], model.scale)
    assert rvlib.restore(model, photo, factor=factor).shape[:2] == shape


@pytest.mark.parametrize("factor", [0, -2, float("nan"), float("inf"), 4.01])
def test_factors_that_cannot_be_are_refused(model, photo, factor):
    with pytest.raises(rvlib.UserError, match="must be positive|--twice"):
        rvlib.restore(model, photo, factor=factor)


@pytest.mark.parametrize("wanted", [{"width": 0}, {"height": -3}, {"longest": 10, "factor": 2}])
def test_sizes_that_cannot_be_are_refused(wanted):
    with pytest.raises(rvlib.UserError, match="must be positive|one of factor, longest"):
        Size(**wanted)


# Chains ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [None, 64])
def test_a_chain_is_one_after_the_other(model, tile):
    """A network that sees colours, and one that sees luminance alone."""
    torch.manual_seed(0)
    colour = rvlib.create("nafnet", width=8, encoder=(1,), middle=1, decoder=(1,))
    for parameter in colour.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    photo = photos.sample("coffee")[:70, :90]
    for chain in ((colour, model), [model, colour]):
        expected = photo
        for each in chain:
            expected = rvlib.restore(each, expected, tile=tile)
        restored = rvlib.restore(chain, photo, tile=tile)
        assert np.array_equal(restored, expected)
        assert restored.shape == (280, 360, 3)
    small = rvlib.restore(chain, photo, tile=tile, factor=2)
    assert np.array_equal(small, imresize(expected, 0.5))


def test_twice_is_sixteen_times(model, photo):
    assert rvlib.restore([model, model], photo[:5, :6], factor=10).shape == (50, 60, 3)


def test_an_empty_chain_is_refused(photo):
    with pytest.raises(rvlib.UserError, match="give at least one"):
        rvlib.restore([], photo)


# What a user should hear of -------------------------------------------------------------------------------------------


class Toy(RestorationModel):
    task = "deblurring"
    reach = 8

    def __init__(self, function):
        super().__init__()
        self.weight, self.function = torch.nn.Parameter(torch.zeros(1)), function

    def forward(self, x):
        return self.function(x)


def told(function, photo, **options):
    notes = []
    rvlib.restore(Toy(function), photo, notes=notes, **options)
    return notes


def blurred(x):
    return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def test_a_result_that_is_the_photo_is_said():
    photo = photos.sample("coffee")[:96, :96]
    assert "changed nothing" in told(lambda x: x + 1 / 255, photo)[0]
    assert "changed nothing" in told(lambda x: x, photo.astype(np.uint16) * 257)[0]
    assert told(lambda x: x + 3 / 255, photo) == []


def test_a_photo_that_a_network_softens_is_said_to_be_sharp():
    sharp = photos.sample("coffee")[:96, :96]
    assert "sharp already" in told(blurred, sharp)[0]
    assert told(lambda x: 2 * x - blurred(x), rvlib.degrade.GaussianBlur(2.0)(sharp)) == []


def test_a_tile_that_leaves_the_range_is_named():
    photo = np.full((100, 130, 3), 100, np.uint8)
    photo[70:80, 90:100] = 250
    notes = told(lambda x: x + 2 * (x > 0.9), photo, tile=64)
    assert len(notes) == 1
    assert "by 2.0 on the tile at row 0, column 64" in notes[0]
    assert rvlib.restore(Toy(lambda x: x + 9), photo).max() == 255


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_said(broken):
    photo = np.full((100, 130, 3), 100, np.uint8)
    photo[70:80, 90:100] = 250
    notes = told(lambda x: x.where(x < 0.9, broken), photo, tile=64)
    assert len(notes) == 1
    assert (
        "not finite on 1 of 2 tiles, first at row 0, column 64: the result is wrong there; try other weights"
        in notes[0]
    )


def test_one_broken_turn_of_eight_is_said():
    photo = np.full((20, 30, 3), 100, np.uint8)
    photo[-1, -1] = 250  # the corner where the network begins in the third turn
    notes = told(lambda x: x * float("nan") if x[0, 0, 0, 0] > 0.9 else x, photo, self_ensemble=True)
    assert "not finite" in notes[0]


def test_detail_is_looked_for_in_both_directions():
    image = np.random.default_rng(0).integers(0, 256, (600, 20, 3), dtype=np.uint8)
    green = image[..., 1].astype(float)
    steps = sum(np.abs(np.diff(green, axis=axis)).sum() for axis in (0, 1))
    assert _detail(image) == pytest.approx(steps / green.size)
    stripes = np.repeat(image[:, :1], 20, axis=1)
    assert "sharp already" in told(blurred, stripes)[0]


@pytest.mark.parametrize("declared", ["window", "multiple_of"])
@pytest.mark.parametrize("overlap", [None, 17])
@pytest.mark.parametrize(("window", "grid"), [(3, 72), (5, 80), (7, 56), (8, 64), (12, 72), (24, 72)])
def test_tiles_begin_where_windows_do(window, grid, overlap, declared):
    """Each tile of a network with windows (or strides) is cut into those that the whole photo is cut into."""
    seen = []

    class Windows(Toy):
        reach = None

    network = Windows(lambda x: seen.append(x[0, :2, 0, 0].tolist()) or x)
    setattr(network, declared, window)
    rows, columns = np.mgrid[:240, :250].astype(np.uint8)
    photo = np.dstack([rows, columns, rows])
    assert np.array_equal(rvlib.restore(network, photo, tile=64, overlap=overlap), photo)
    starts = (255 * np.array(seen)).round().astype(int)
    assert len(starts) > 6
    assert (starts % window == 0).all()
    assert starts.max() > grid


def test_tiles_of_a_jpeg_network_are_near_the_whole():
    torch.manual_seed(0)
    arguments = {"task": "jpeg", "scale": 1, "upsampler": "none", "window": 7, "img_range": 255.0}
    model = rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), **arguments)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    photo = photos.sample("coffee")[:112, :160]
    whole, tiled = rvlib.restore(model, photo, tile=1024), rvlib.restore(model, photo, tile=64)
    assert np.abs(whole.astype(int) - photo).max() > 5
    assert np.abs(whole.astype(int) - tiled).max() <= 1, "two layers reach no further than a tile's overlap"


def test_the_description_of_a_photo_is_the_mean_over_its_pixels():
    network = rvlib.create("diffir", dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=1)
    photo, seen = np.zeros((64, 88, 3), np.uint8), []
    photo[:, 64:] = np.random.default_rng(0).integers(0, 256, (64, 24, 3))
    network.register_forward_pre_hook(lambda _, inputs, more: seen.append(more["description"]), with_kwargs=True)
    rvlib.restore(network, photo, tile=64)
    with torch.no_grad():
        left, right = (network.describe(to_tensor(part)) for part in (photo[:, :64], photo[:, 64:]))
    assert (left - right).abs().max() > 0.01
    torch.testing.assert_close(seen[0], (64 * left + 24 * right) / 88)


def test_a_network_that_fails_is_in_training_again(photo):
    network = Toy(lambda x: x @ x[..., :5, :]).train()  # shapes that do not fit
    with pytest.raises(RuntimeError):
        rvlib.restore(network, photo[:24, :24])
    assert network.training


def test_turned_copies_of_a_photo_have_their_turned_reference(photo):
    network = rvlib.create("diffir", stage=1, dim=8, blocks=[1, 1, 1, 1], refinement=1, encoder=1)
    reference = photos.sample("coffee")[:160, :96]
    low = imresize(reference, 0.25)
    upright = rvlib.restore(network, low, reference=reference, self_ensemble=True)
    mirrored = rvlib.restore(network, low[:, ::-1], reference=reference[:, ::-1], self_ensemble=True)[:, ::-1]
    assert np.abs(upright.astype(int) - mirrored).max() <= 1, "the mean over all turns knows no left and right"


def test_a_reference_that_no_network_looks_at_keeps_no_photo_whole(model):
    low, seen = photos.sample("coffee")[:150, :200], []
    hook = model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:].numel()))
    plain = rvlib.restore(model, low, tile=64)
    cut = len(seen)
    with_reference = rvlib.restore(model, low, tile=64, reference=np.zeros((600, 800, 3), np.uint8))
    hook.remove()
    assert cut > 1
    assert seen[:cut] == seen[cut:]
    assert np.array_equal(plain, with_reference)


def test_a_reference_of_another_size_is_refused(photo):
    network = rvlib.create("diffir", stage=1, dim=8, blocks=[1, 1, 1, 1], refinement=1, encoder=1)
    with pytest.raises(rvlib.UserError, match="the reference must have 96 x 64 pixels, not 24 x 16"):
        rvlib.restore(network, photo[:16, :24], reference=photo[:16, :24])


def test_a_network_that_sees_far_needs_no_option(photo):
    network = rvlib.create("srgan", blocks=64)
    assert network.reach > 128
    assert rvlib.restore(network, photo[:24, :24]).shape == (96, 96, 3)
    with pytest.raises(rvlib.UserError, match="overlap 129 is negative or too large: take 0 to 128 pixels"):
        rvlib.restore(network, photo[:24, :24], overlap=129)


@pytest.mark.parametrize("tile", [63, 64.5, "64"])
def test_tiles_are_whole_numbers(model, photo, tile):
    with pytest.raises(rvlib.UserError, match=f"tile must be a whole number of at least 64 pixels, not {tile!r}"):
        rvlib.restore(model, photo, tile=tile)


def test_a_network_whose_statistics_are_frozen_keeps_them_so(photo):
    network = rvlib.create("srgan", features=8, blocks=1).train()
    frozen = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    rvlib.restore(network, photo[:16, :24])
    assert network.training
    assert not frozen.training


class Thirds(RestorationModel):
    """It has no parameters, and takes sides that are multiples of 24 alone."""

    task = "deblurring"
    multiple_of = 24

    def forward(self, degraded):
        assert not any(side % 24 for side in degraded.shape[-2:])
        return 1 - degraded


@pytest.mark.parametrize("size", [(60, 60), (130, 180)])
def test_a_network_gets_the_multiples_that_it_asks_for_and_needs_no_parameter(size):
    photo = photos.sample("coffee")[: size[0], : size[1]]
    assert np.array_equal(rvlib.restore(Thirds(), photo), 255 - photo)
