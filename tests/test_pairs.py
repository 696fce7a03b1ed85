"""Pairs: aligned patches, own folders, and what does not fit together."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import rvlib
from rvlib import photos, recipes
from rvlib.degrade import Bicubic, Degradation, MotionBlur
from rvlib.pairs import Ahead, Patches, own_validation, photo_pairs, set_pairs, to_unit


@pytest.fixture(scope="module")
def references():
    return {name: photos.sample(name)[:64, :96] for name in ("coffee", "chelsea")}


@pytest.mark.parametrize("augment", [True, False])
def test_patches_are_aligned(augment):
    """Where the degraded photo is every fourth pixel of its reference, so is each patch."""
    reference = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    blocks = reference[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)
    patches = Patches({"a": blocks}, {"a": reference[::4, ::4]}, patch_size=32, augment=augment)
    for number in range(5):
        degraded, large, _ = patches.batch(number, 8)
        assert np.array_equal(degraded.repeat_interleave(4, -1).repeat_interleave(4, -2), large)


def test_patches_as_they_are_have_one_direction_and_augmented_ones_all_eight():
    """A plane that rises by 1 a row and by 2 a column."""
    plane = np.add.outer(np.arange(64), 2 * np.arange(64))[..., None].repeat(3, axis=2).astype(np.uint8)
    found = {}
    for augment in (True, False):
        patches = Patches({"a": plane}, Bicubic(4), patch_size=16, augment=augment)
        large = patches.cut(0, 64)[1].int()[:, 0]
        rises = (large[:, 1, 0] - large[:, 0, 0]).tolist(), (large[:, 0, 1] - large[:, 0, 0]).tolist()
        found[augment] = set(zip(*rises, strict=True))
    assert found[False] == {(1, 2)}
    assert found[True] == {(a, b) for a in (-2, -1, 1, 2) for b in (-2, -1, 1, 2) if abs(a) != abs(b)}


def test_parts_make_up_the_batch(references):
    patches = Patches(references, Bicubic(4), patch_size=32)
    whole = patches.batch(3, 8)
    halves = [patches.batch(3, 8, part=part) for part in (slice(0, 4), slice(4, 8))]
    for each, *parts in zip(whole[:2], *(half[:2] for half in halves), strict=True):
        assert torch.equal(each, torch.cat(parts))
    assert list(whole[2]) == [name for half in halves for name in half[2]]


def test_photos_are_degraded_when_needed_and_once(references):
    made = []

    class Every4th(Degradation):
        scale = 4

        def __call__(self, reference, rng):
            made.append(reference.shape)
            return reference[::4, ::4]

    patches = Patches(references, Every4th(), patch_size=32)
    assert not made
    for number in range(20):
        patches.batch(number, 8)
    assert len(made) == len(references)


def test_data_differs_where_photos_or_degradation_do(references):
    facts = [
        Patches(references, Bicubic(4), patch_size=32).provenance,
        Patches({"coffee": references["coffee"]}, Bicubic(4), patch_size=32).provenance,
        Patches({**references, "coffee": references["coffee"][::-1]}, Bicubic(4), patch_size=32).provenance,
        Patches(references, MotionBlur(9), patch_size=32).provenance,
        Patches(references, MotionBlur(10), patch_size=32).provenance,
        Patches(references, {name: photo[::4, ::4] for name, photo in references.items()}, patch_size=32).provenance,
        Patches(references, {name: photo[1::4, ::4] for name, photo in references.items()}, patch_size=32).provenance,
    ]
    assert len({str(each) for each in facts}) == len(facts)
    assert Patches(dict(references), Bicubic(4), patch_size=32).provenance == facts[0]


def test_same_seed_same_pair(references):
    first, second, other = (photo_pairs(references, MotionBlur((5, 25)), seed=seed) for seed in (0, 0, 1))
    for name in references:
        assert np.array_equal(first[name][0], second[name][0])
        assert not np.array_equal(first[name][0], other[name][0])


def test_a_pair_does_not_depend_on_its_company(references):
    alone = photo_pairs({"coffee": references["coffee"]}, MotionBlur(9.0))
    assert np.array_equal(alone["coffee"][0], photo_pairs(references, MotionBlur(9.0))["coffee"][0])


def test_own_folders_are_sets(tmp_path, references):
    for name, image in references.items():
        (tmp_path / "plain").mkdir(exist_ok=True)
        for role, content in (("reference", image), ("degraded", 255 - image)):
            (tmp_path / "pairs" / role).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(tmp_path / "pairs" / role / f"{name}.png")
        Image.fromarray(image).save(tmp_path / "plain" / f"{name}.png")
    made = set_pairs(tmp_path, str(tmp_path / "plain"), Bicubic(4))
    assert made["coffee"][0].shape == (16, 24, 3)
    given = set_pairs(tmp_path, str(tmp_path / "pairs"), MotionBlur())
    assert np.array_equal(given["coffee"][0], 255 - references["coffee"])


def test_own_validation_pairs_are_those_of_two_folders_and_photos_alone_are_no_pairs(tmp_path, references):
    high, low = references["coffee"], 255 - references["coffee"][::4, ::4]
    for role, image in (("reference", high), ("degraded", low)):
        photos.write(tmp_path / role / "a.png", image)
    for beside in (None, tmp_path):  # training photos may be degraded by something else then
        (pair,) = own_validation(tmp_path, beside).values()
        assert all(map(np.array_equal, pair, (low, high)))
    (photo,) = own_validation(tmp_path / "reference", None).values()
    assert np.array_equal(photo, high)


@pytest.mark.parametrize(
    ("degraded", "message"),
    [
        ({"coffee": (16, 24)}, "chelsea stands among the degraded photos or the references alone"),
        ({"coffee": (16, 24), "chelsea": (32, 48)}, "is not 4 times as large"),
        ({"coffee": (16, 20), "chelsea": (16, 24)}, "is not 4 times as large"),
    ],
)
def test_pairs_that_do_not_fit_are_named(references, degraded, message):
    given = {name: np.zeros((*size, 3), np.uint8) for name, size in degraded.items()}
    with pytest.raises(rvlib.UserError, match=message):
        Patches(references, given, patch_size=32)


def test_what_a_patch_draws_tells_nothing_of_where_it_was_cut(references):
    class Drawn(Degradation):
        is_random = True

        def part(self, reference, rng, top, left, height):
            drawn.append(rng.random(3))
            return reference[top : top + height, left : left + height]

    drawn = []
    patches = Patches(references, Drawn(), patch_size=32)
    for number in range(3):
        patches.cut(number, 4)
    crops = [np.random.default_rng([0, number]).random((4, 3)) for number in range(3)]
    streams = np.concatenate([*crops, drawn])
    assert len(np.unique(streams)) == streams.size


def test_batches_are_made_ahead_by_others_and_each_is_what_it_would_be(references):
    patches = Patches(references, MotionBlur((5, 25)), patch_size=32)

    def make(number):
        degraded, reference, names = patches.cut(number, 4)
        return degraded, reference, [*names, os.getpid()]

    ahead, makers = Ahead(make, pin=False), set()
    for number in (0, 1, 2, 7, 8):  # as after a resume, the numbers may jump
        torch.manual_seed(number)
        degraded, reference, (*names, maker) = ahead(number)
        drawn = torch.rand(1)
        torch.manual_seed(number)
        assert torch.equal(drawn, torch.rand(1))  # making batches takes nothing from the step's random numbers
        expected = patches.batch(number, 4)
        assert degraded.dtype == reference.dtype == torch.uint8
        assert torch.equal(to_unit(degraded), expected[0])
        assert torch.equal(to_unit(reference), expected[1])
        assert names == expected[2]
        makers.add(maker)
    if hasattr(os, "sched_getaffinity"):  # where processes can be forked
        assert os.getpid() not in makers


def test_a_failure_ahead_is_told_when_its_batch_is_asked_for():
    ahead = Ahead(lambda number: (torch.ones(1), torch.ones(1), [f"{1 / (2 - number)}"]), pin=False)
    ahead(1)
    with pytest.raises(ZeroDivisionError):
        ahead(2)


@pytest.mark.slow
def test_those_that_make_batches_end_with_the_one_that_asked(tmp_path):
    """Where it is killed too, after the seconds at which they look."""
    program = (
        "import os, time, torch\n"
        "from rvlib.pairs import Ahead\n"
        "ahead = Ahead(lambda number: (torch.ones(1), torch.ones(1), [os.getpid()]), pin=False)\n"
        "print(*ahead(0)[2], flush=True)\n"
        "time.sleep(600)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    maker = int(asking.stdout.readline())
    assert (maker == asking.pid) != hasattr(os, "sched_getaffinity")
    asking.kill()
    asking.communicate(timeout=60)  # ends when nobody holds the other end of its pipe any more


def test_photos_are_kept_once(references):
    patches = Patches(references, Bicubic(4), patch_size=32)
    for number in range(5):
        patches.batch(number, 8)
    for index, (name, _) in enumerate(patches.references):
        assert np.shares_memory(patches.pair(index)[1], references[name])


def test_no_photos_are_no_pairs_to_train_on(tmp_path):
    with pytest.raises(rvlib.UserError, match="no photos to train on"):
        recipes.train("fsrcnn", {}, degraded={}, run=tmp_path)
