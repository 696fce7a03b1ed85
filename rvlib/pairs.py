"""Pairs of degraded and reference photos: whole photos to test on, random patches to train on."""

import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from inspect import isfunction
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rvlib import photos
from rvlib.color import luminance
from rvlib.degrade import mod_crop
from rvlib.errors import UserError
from rvlib.restore import to_tensor

Pair = tuple[np.ndarray, np.ndarray]


def photo_pairs(references: dict[str, np.ndarray], degradation, *, seed: int = 0) -> dict[str, Pair]:
    """Degrade each reference (uint8 H x W x 3): {name: (degraded, reference)}; the same seed gives the same pairs.

    A degradation that shrinks crops its reference to a multiple of its scale first. Raises UserError for a reference
    of which nothing is left then.
    """
    pairs = {}
    for name, reference in references.items():
        height, width = reference.shape[:2]
        reference = mod_crop(reference, getattr(degradation, "scale", 1))
        if not reference.size:
            raise UserError(
                f"{name} has {width} x {height} pixels, too few for scale {degradation.scale}: leave it out"
            )
        rng = np.random.default_rng([seed, zlib.crc32(os.fsencode(name))])
        pairs[name] = (degradation(reference, rng), reference)
    return pairs


def given_pair(name: str, degraded: np.ndarray, reference: np.ndarray, scale: int) -> Pair:
    """A pair of your own for a network of that scale, the reference cropped to a multiple of it.

    Raises UserError, which names the photo, where the reference is not `scale` times as large as the degraded photo.
    """
    cropped = mod_crop(reference, scale)
    if cropped.size and cropped.shape[:2] == tuple(scale * side for side in degraded.shape[:2]):
        return degraded, cropped
    (low, wide), (high, long) = degraded.shape[:2], reference.shape[:2]
    found = high // low
    if low > high and wide > long:
        hint = ": swap the two folders"
    elif found > 1 and mod_crop(reference, found).shape[:2] == (found * low, found * wide):
        hint = (
            f", not {found} times: take weights for x{found}; to train super-resolution, or with weights of FSRCNN or "
            f"SRCNN that do not tell their scale, give --scale {found}"
        )
    else:
        hint = ": crop or resize one of them"
    wanted = f"{scale} times as large" if scale > 1 else "as large"
    raise UserError(
        f"{name}: the reference ({long} x {high}) must be {wanted} as the degraded photo ({wide} x {low}){hint}"
    )


def check_given(references: Mapping[str, np.ndarray], degraded: Mapping[str, np.ndarray], scale: int) -> None:
    """Raise UserError, before anything is trained, for a pair that is not as a network of that scale needs it."""
    if not references:
        raise UserError("there are no photos to train on: give some, and their degraded versions by the same names")
    for name, reference in references.items():
        if name in degraded:  # `Patches` names those that stand alone
            given_pair(name, degraded[name], reference, scale)


def own_files(folder: Path, degraded: Path | None) -> dict[str, dict[str, Path]]:
    """Your own photos to train on: {"references": {name: file}, "degraded": {the same names: file}, or nothing}."""
    if degraded is None:
        return {"references": photos.by_name(photos.folder(folder)), "degraded": {}}
    pairs = photos.pair_folder(degraded, folder)
    return {"references": {high.stem: high for _, high in pairs}, "degraded": {high.stem: low for low, high in pairs}}


def read_each(files: Mapping[str, Path]) -> Iterator[tuple[str, np.ndarray]]:
    """The photos of files by their names, one after the other.

    Raises UserError at the end for those that cannot be read, all of them.
    """
    faults = []
    for name, file in files.items():
        try:
            yield name, photos.read(file)
        except UserError as error:
            faults.append((file, error))
    if faults:
        others = ", ".join(str(file) for file, _ in faults[1:6]) + (", ..." if len(faults) > 6 else "")
        told = f" ({len(faults) - 1} more cannot be read: {others})" if others else ""
        raise UserError(f"{faults[0][1]}{told}")


def own_validation(folder: Path, degraded: Path | None) -> dict[str, np.ndarray | Pair]:
    """Your own photos to choose the best weights on, by file name, or the pairs of its `reference/` and `degraded/`.

    Raises UserError for photos alone beside training photos degraded by something else than the study, with which
    these could not be compared.
    """
    if (folder / "degraded").is_dir():
        sides = own_files(folder / "reference", folder / "degraded")
        low, high = (dict(read_each(sides[side])) for side in ("degraded", "references"))
        return {name: (low[name], high[name]) for name in high}
    if degraded is not None:
        raise UserError(
            f"--validation degrades its photos as the study does, and --degraded holds others: leave one of them out, "
            f"or put validation pairs into {folder / 'reference'} and {folder / 'degraded'}"
        )
    return dict(read_each({file.name: file for file in photos.folder(folder)}))


def measured_pairs(
    reference: Path, degraded: Path | None, degradation, *, scale: int, part: slice = slice(None)
) -> tuple[dict[str, Pair], list[str], list[str]]:
    """The pairs of your own folders by name, what is wrong with photos that are left out, and notes.

    Without a folder of degraded photos `degradation` makes them as it makes those of a set (`set_pairs`). `part` takes
    some of the pairs, in order.
    """
    found = [(None, file) for file in photos.folder(reference)]
    if degraded is not None:
        found = photos.pair_folder(degraded, reference)
    names = {file: name for name, file in photos.by_name([file for _, file in found]).items()}
    pairs, faults = {}, []
    for low, high in found[part]:
        try:
            image = photos.read(high)
            if low is None:
                pairs |= photo_pairs({names[high]: image}, degradation)
            else:
                pairs[names[high]] = given_pair(high.name, photos.read(low), image, scale)
        except UserError as error:
            faults.append(str(error) if high.name in str(error) else f"{high.name}: {error}")
    notes = [photos.passed_over(place) for place in (reference, degraded) if place is not None]
    return pairs, faults, [note for note in notes if note]


def set_pairs(data: Path, name: str, degradation) -> dict[str, Pair]:
    """The test pairs of a set (`photos.place`): its own degraded photos if their size fits, else made from references.

    A super-resolution benchmark's small photos are not blurred ones. Raises UserError for pairs that miss one.
    """
    references = photos.load_set(data, name)
    scale = getattr(degradation, "scale", 1)
    if not photos.place(data, name, role="degraded").is_dir():
        return photo_pairs(references, degradation)
    degraded = photos.load_set(data, name, role="degraded")
    if degraded.keys() != references.keys():
        raise UserError(f"{name}: degraded and reference photos do not have the same names, which pairs need")
    pairs = {photo: (degraded[photo], mod_crop(reference, scale)) for photo, reference in references.items()}
    fits = [tuple(scale * side for side in small.shape[:2]) == large.shape[:2] for small, large in pairs.values()]
    return pairs if all(fits) else photo_pairs(references, degradation)


class Patches:
    """Aligned random patches out of photo pairs: batch number k is a function of the seed and k alone.

    Training therefore resumes exactly, and several processes share one batch. A degradation that draws nothing is
    applied once to each photo, when it is first needed. One that draws is applied to each patch anew, so no two visits
    of a photo see the same shake or noise. Crops are uniform over the photos' area, then flipped and turned by one of
    the eight symmetries of the square.
    """

    def __init__(
        self,
        references: Mapping[str, np.ndarray],
        degradation,
        *,
        patch_size: int,
        channels: int = 3,
        augment: bool = True,
        seed: int = 0,
    ):
        """`degradation` makes the degraded photos, or is a mapping of them by the references' names.

        `patch_size` is the side of the reference patch; `channels=1` keeps the luminance alone.
        """
        self.seed, self.augment, self.channels, self.degradation = seed, augment, channels, degradation
        is_given = isinstance(degradation, Mapping)
        self.scale = _scale(references, degradation) if is_given else getattr(degradation, "scale", 1)
        self.is_fresh = not is_given and getattr(degradation, "is_random", False)
        if patch_size < 1 or patch_size % self.scale:
            raise UserError(f"patch_size {patch_size} must be a positive multiple of the scale {self.scale}")
        self.reference_side, self.degraded_side = patch_size, patch_size // self.scale
        self.references, self.pairs, areas = [], {}, []
        self.checksum = 0  # of the photos given; of those made from them, it would depend on how a machine rounds
        for name, reference in references.items():
            places = [side // self.scale - self.degraded_side + 1 for side in reference.shape[:2]]
            if min(places) < 1:
                continue  # too small to cut a patch from
            for image in (reference, degradation[name]) if is_given else (reference,):
                self.checksum = zlib.crc32(np.ascontiguousarray(image), self.checksum)
            self.references.append((name, reference))
            areas.append(prod(places))
        if not self.references:
            raise UserError(
                f"no training photo is as large as a patch of {patch_size} pixels: add photos or lower patch_size"
            )
        self.cumulated = np.cumsum(areas) / sum(areas)

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Degraded and reference photo number `index`, C x H x W, made when it is first asked for."""
        if index not in self.pairs:
            name, reference = self.references[index]
            if isinstance(self.degradation, Mapping):
                pair = self.degradation[name], mod_crop(reference, self.scale)
            else:
                pair = photo_pairs({name: reference}, self.degradation, seed=self.seed)[name]
            self.pairs[index] = tuple(_planes(image, self.channels) for image in pair)
        return self.pairs[index]

    @property
    def provenance(self) -> dict:
        """What patches are cut from and how, differing where the photos or what is done to them differ."""
        made = "photos of their own" if isinstance(self.degradation, Mapping) else repr(self.degradation)
        photos = {"photos": len(self), "crc": f"{self.checksum:08x}", "degraded": made, "scale": self.scale}
        return photos | {"patch_size": self.reference_side, "augment": self.augment, "seed": self.seed}

    @property
    def made_by(self) -> list[type]:
        """The classes and functions that degrade."""
        if isinstance(self.degradation, Mapping):
            return []
        steps = getattr(self.degradation, "steps", ())
        return [each if isfunction(each) else type(each) for each in (self.degradation, *steps)]

    def __len__(self) -> int:
        return len(self.references)

    def batch(self, number: int, size: int, *, part: slice = slice(None)) -> tuple[Tensor, Tensor, list[str]]:
        """Batch `number` (or a `part` of it): degraded (b c p p), reference (b c s·p s·p) in [0, 1], photo names."""
        degraded, reference, names = self.cut(number, size, part=part)
        return to_unit(degraded), to_unit(reference), names

    def cut(self, number: int, size: int, *, part: slice = slice(None)) -> tuple[Tensor, Tensor, list[str]]:
        """The same in the photos' own numbers: uint8 for RGB, a quarter of what `to_unit` makes of it on the device."""
        rng = np.random.default_rng([self.seed, number])
        draws = rng.random((size, 3))
        turns = rng.integers(8, size=size) if self.augment else np.zeros(size, int)
        degraded, reference, names = [], [], []
        for position in range(size)[part]:
            which, down, across = draws[position]
            index = int(np.searchsorted(self.cumulated, which, side="right"))
            name, photo = self.references[index]
            places = [side // self.scale - self.degraded_side + 1 for side in photo.shape[:2]]
            y, x = int(down * places[0]), int(across * places[1])
            if self.is_fresh:
                # from 1, since numpy takes [seed, number, 0] for [seed, number]: the draws that chose the crops
                small, large = self._fresh(photo, y, x, np.random.default_rng([self.seed, number, 1 + position]))
            else:
                small, large = self._made(index, y, x)
            # the photos keep a pixel's channels side by side; turning is faster once a patch is in planes
            degraded.append(_turn(np.ascontiguousarray(small), turns[position]))
            reference.append(_turn(np.ascontiguousarray(large), turns[position]))
            names.append(name)
        return torch.from_numpy(np.stack(degraded)), torch.from_numpy(np.stack(reference)), names

    def _made(self, index: int, y: int, x: int) -> tuple[np.ndarray, np.ndarray]:
        """The patches at (y, x) of the degraded photo, cut from the pair that is kept."""
        small, large = self.pair(index)
        p, s = self.degraded_side, self.scale
        return small[:, y : y + p, x : x + p], large[:, s * y : s * (y + p), s * x : s * (x + p)]

    def _fresh(self, photo: np.ndarray, y: int, x: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The same patches, degraded anew."""
        top, left, side = self.scale * y, self.scale * x, self.reference_side
        small = self.degradation.part(photo, rng, top, left, side)
        return _planes(small, self.channels), _planes(photo[top : top + side, left : left + side], self.channels)


class Ahead:
    """Batches that other processes make while those before are computed on, in memory that a GPU fetches from itself.

    A GPU takes batches faster than one core blurs their patches, so all cores but one that this process may use make
    them, up to eight.
    """

    def __init__(self, make: Callable[[int], tuple[Tensor, Tensor, list[str]]], *, pin: bool):
        """`make(number)` gives a batch and its names; `pin` for CUDA alone."""
        self.make, self.pin = make, pin
        self.loader, self.next = iter(()), None

    def __call__(self, number: int) -> tuple[Tensor, Tensor, list[str]]:
        """Batch `number`, made already where the one before was asked for last; those that follow are begun."""
        if number != self.next:
            self.loader = self._begun(number)
        self.next = number + 1
        return next(self.loader)

    def _begun(self, number: int) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        # forked processes share the photos; where there are none, this process makes the batches itself
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        mine = cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # other trainings of this job have their share
        workers = min(8, max(1, mine - 1)) if cores else 0
        loader = DataLoader(
            _Made(self.make),
            sampler=itertools.count(number),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
            pin_memory=self.pin,
            generator=torch.Generator(),  # its own, since a step's draws depend on the step alone
        )
        return iter(loader)


class _Made(Dataset):
    """What a function makes of a number, as a data set."""

    def __init__(self, make: Callable[[int], tuple[Tensor, Tensor, list[str]]]):
        self.make = make

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, list[str]]:
        return self.make(number)


def to_unit(patches: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]; what is float already stays."""
    return patches.float() / 255 if patches.dtype == torch.uint8 else patches


def _scale(references: Mapping[str, np.ndarray], degraded: Mapping[str, np.ndarray]) -> int:
    """How many times larger the references are than their degraded photos, which is to be the same for all."""
    for name in references.keys() ^ degraded.keys():
        raise UserError(f"{name} stands among the degraded photos or the references alone: pairs need both")
    scales = {n: (reference.shape[0] // degraded[n].shape[0]) for n, reference in references.items()}
    for name, reference in references.items():
        scale = scales[next(iter(scales))]
        if scale < 1:
            raise UserError(
                f"{name}: the degraded photo is larger than the reference: are the two the wrong way round?"
            )
        if mod_crop(reference, scale).shape[:2] != tuple(scale * side for side in degraded[name].shape[:2]):
            raise UserError(f"{name}: the reference is not {scale} times as large as the degraded photo, as others are")
    return scale


def _planes(image: np.ndarray, channels: int) -> np.ndarray:
    """uint8 H x W x 3 -> C x H x W: uint8 RGB as a view, or unrounded luminance as float32 in [0, 1]."""
    if channels == 3:
        return image.transpose(2, 0, 1)
    return luminance(to_tensor(image))[0].numpy()


def _turn(patch: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight symmetries of the square: 0-3 quarter turns, 4-7 the same mirrored."""
    if turn % 4 >= 2:
        patch = patch[:, ::-1, ::-1]
    if turn % 2:
        patch = patch[:, :, ::-1].swapaxes(1, 2)
    return patch[:, :, ::-1] if turn >= 4 else patch
