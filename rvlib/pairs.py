"""Pairs of degraded and reference photos: whole photos to test on, random patches to train on."""

import os
import zlib
from inspect import isfunction
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

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
    told = f"{name}: the reference has {long} x {high} pixels, the degraded photo {wide} x {low}"
    factors = {high // low, long // wide}
    hint = f", but {factors.pop()} times: give --scale" if len(factors) == 1 and min(factors) > 0 else ""
    if low > high and wide > long:
        hint = ": are the two folders the wrong way round?"
    raise UserError(f"{told}, which is not {scale} times as large, as this network needs{hint}")


def own_photos(
    folder: Path, degraded: Path | None, *, method: str, scale: int | None, start: nn.Module | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Your own photos to train a method on, and their degraded versions by the same names (None without a folder).

    Raises UserError, before anything is trained, for pairs that are not as the network needs them.
    """
    if degraded is None:
        return {name: photos.read(file) for name, file in photos.by_name(photos.folder(folder)).items()}, None
    pairs = photos.pair_folder(degraded, folder)
    references = {high.stem: photos.read(high) for _, high in pairs}
    inputs = {low.stem: photos.read(low) for low, _ in pairs}
    network = start if start is not None else _blueprint(method, scale)
    for name, reference in references.items():
        if network is not None:
            given_pair(name, inputs[name], reference, network.scale)
    return references, inputs


def own_validation(folder: Path, degraded: Path | None, *, scale: int | None) -> dict[str, np.ndarray]:
    """Your own photos to choose the best weights on, by file name.

    Raises UserError for photos that are too small to be measured, and beside photos degraded by something else than
    the study, which these could not be compared with.
    """
    if degraded is not None:
        raise UserError(
            "--validation degrades its photos as the study does, and --degraded holds others: leave one of them out"
        )
    found = {file.name: photos.read(file) for file in photos.folder(folder)}
    least = 3 * (scale or 4)
    for name, image in found.items():
        height, width = image.shape[:2]
        if min(height, width) < least:
            raise UserError(
                f"{folder / name} has {width} x {height} pixels, fewer than {least}: take it out of {folder}"
            )
    return found


def _blueprint(method: str, scale: int | None) -> nn.Module | None:
    """The network of a method without its weights; None where there is no such method, which training says."""
    from rvlib.models import create
    from rvlib.recipes import METHOD_OF, RECIPES

    if method not in RECIPES:
        return None
    given = {} if scale is None else {"scale": scale}
    with torch.device("meta"):
        return create(METHOD_OF[method].network, **{**RECIPES[method].arguments, **given})


def measured_pairs(
    reference: Path, degraded: Path | None, degradation, *, scale: int
) -> tuple[dict[str, Pair], list[str], list[str]]:
    """The pairs of your own folders by file name, what is wrong with photos that are left out, and notes.

    Without a folder of degraded photos they are made by `degradation`.
    """
    found = [(None, file) for file in photos.folder(reference)]
    if degraded is not None:
        found = photos.pair_folder(degraded, reference)
    pairs, faults = {}, []
    for low, high in found:
        try:
            image = photos.read(high)
            if low is None:
                pairs |= photo_pairs({high.name: image}, degradation)
            else:
                pairs[high.name] = given_pair(high.name, photos.read(low), image, scale)
        except UserError as error:
            faults.append(str(error))
    notes = [photos.passed_over(place) for place in (reference, degraded) if place is not None]
    return pairs, faults, [note for note in notes if note]


def set_pairs(data: Path, name: str, degradation, *, split: str = "test", limit: int | None = None) -> dict[str, Pair]:
    """The pairs of a set (`photos.place`): its own degraded photos where it brings such of this scale, else made anew.

    Super-resolution benchmarks bring small photos, which are no blurred ones. Raises UserError for pairs that miss one.
    """
    references = photos.load_set(data, name, split=split, limit=limit)
    scale = getattr(degradation, "scale", 1)
    if not photos.place(data, name, split=split, role="degraded").is_dir():
        return photo_pairs(references, degradation)
    degraded = photos.load_set(data, name, split=split, role="degraded", limit=limit)
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
        references: dict[str, np.ndarray],
        degradation,
        *,
        patch_size: int,
        channels: int = 3,
        augment: bool = True,
        seed: int = 0,
    ):
        """`degradation` makes the degraded photos, or is a dict of them by the references' names.

        `patch_size` is the side of the reference patch; `channels=1` keeps the luminance alone.
        """
        self.seed, self.augment, self.channels, self.degradation = seed, augment, channels, degradation
        is_given = isinstance(degradation, dict)
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
            if isinstance(self.degradation, dict):
                pair = self.degradation[name], mod_crop(reference, self.scale)
            else:
                pair = photo_pairs({name: reference}, self.degradation, seed=self.seed)[name]
            self.pairs[index] = tuple(_planes(image, self.channels) for image in pair)
        return self.pairs[index]

    @property
    def provenance(self) -> dict:
        """What patches are cut from and how, differing where the photos or what is done to them differ."""
        made = "photos of their own" if isinstance(self.degradation, dict) else repr(self.degradation)
        photos = {"photos": len(self), "crc": f"{self.checksum:08x}", "degraded": made, "scale": self.scale}
        return photos | {"patch_size": self.reference_side, "augment": self.augment, "seed": self.seed}

    @property
    def made_by(self) -> list[type]:
        """The classes and functions that degrade."""
        if isinstance(self.degradation, dict):
            return []
        steps = getattr(self.degradation, "steps", ())
        return [each if isfunction(each) else type(each) for each in (self.degradation, *steps)]

    def __len__(self) -> int:
        return len(self.references)

    def batch(self, number: int, size: int, *, part: slice = slice(None)) -> tuple[Tensor, Tensor, list[str]]:
        """Batch `number` (or a `part` of it): degraded (b c p p), reference (b c s·p s·p) in [0, 1], photo names."""
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
                small, large = self._fresh(photo, y, x, np.random.default_rng([self.seed, number, position]))
            else:
                small, large = self._made(index, y, x)
            degraded.append(_turn(small, turns[position]))
            reference.append(_turn(large, turns[position]))
            names.append(name)
        return _stack(degraded), _stack(reference), names

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


def _scale(references: dict[str, np.ndarray], degraded: dict[str, np.ndarray]) -> int:
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
    """uint8 H x W x 3 -> C x H x W: uint8 RGB, or unrounded luminance as float32 in [0, 1]."""
    if channels == 3:
        return np.ascontiguousarray(image.transpose(2, 0, 1))
    return luminance(to_tensor(image))[0].numpy()


def _turn(patch: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight symmetries of the square: 0-3 quarter turns, 4-7 the same mirrored."""
    if turn % 4 >= 2:
        patch = patch[:, ::-1, ::-1]
    if turn % 2:
        patch = patch[:, :, ::-1].swapaxes(1, 2)
    return patch[:, :, ::-1] if turn >= 4 else patch


def _stack(patches: list[np.ndarray]) -> Tensor:
    batch = torch.from_numpy(np.stack(patches))
    return batch.float() / 255 if batch.dtype == torch.uint8 else batch
