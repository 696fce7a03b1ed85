"""Which photos a command restores, and to which files."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rvlib import originals, photos
from rvlib.errors import UserError
from rvlib.files import make_ready
from rvlib.restore import restore


class Batch:
    """The pairs (photo, target) of one command, in order, in `jobs`.

    `faults` names folders that may not be read, `notes` what they hold that no reader here knows.

    One photo goes to a file if `output` has a suffix; everything else to a folder, where names keep their lossless
    suffix or get .png, and the folders below a given one are kept. What an earlier run of the same command wrote into
    its own source is no photo to restore. Raises UserError for a target that is an input, that two photos share, or
    whose format is not written.
    """

    def __init__(
        self, sources: list[Path], output: Path, *, recursive: bool = False, suffix: str = "", compare: bool = False
    ):
        if "/" in suffix or "\0" in suffix:
            raise UserError(f"suffix {suffix!r} must not hold a slash: it becomes a part of the file's name")
        self.faults: list[str] = []
        self.notes: list[str] = []
        is_one = len(sources) == 1 and not os.path.isdir(sources[0])
        if is_one and output.suffix and not os.path.isdir(output):
            if suffix:
                raise UserError(
                    f"--suffix is added to names in a folder, and {output} is a file: leave one of them out"
                )
            self.jobs = [(sources[0], output)]
        else:
            if os.path.isfile(output):
                raise UserError(f"{output} is a file, and no folder to restore into: choose another output")
            found = [pair for source in dict.fromkeys(sources) for pair in self._photos(source, output, recursive)]
            jobs = [(photo, output / inside.parent / _name(photo, suffix)) for photo, inside in found]
            written = {_same(target) for _, target in jobs} if suffix else set()
            written |= {_same(compared(target)) for _, target in jobs} if compare else set()
            named = {_same(source) for source in sources}
            self.jobs = [job for job in jobs if _same(job[0]) not in written - named]
        targets: dict[Path, Path] = {}
        for photo, target in self.jobs:
            originals.format_of(target)
            for place in (target, compared(target)) if compare else (target,):
                if place in targets and _same(targets[place]) != _same(photo):
                    raise UserError(f"{photo} and {targets[place]} would both become {place}: restore them one by one")
                targets[place] = photo
        places = {_same(place): place for place in targets}
        for photo, _ in self.jobs:
            if _same(photo) in places and os.path.exists(photo):
                raise UserError(f"{photo} would be overwritten by its restored version: choose another output")

    @staticmethod
    def restore(model: nn.Module, photo: Path, target: Path, *, compare: bool = False, **options) -> list[str]:
        """Restore one photo into its target; returns what the target's format does not hold of it, in words.

        Whatever photo, target or memory does is a UserError, and all that can be known before the work is said before.
        """
        original = originals.read(photo)
        notes = original.plan(target, model.scale)
        for place in (target, compared(target)) if compare else (target,):
            make_ready(place)
        try:
            seen = original.visible
            restored = restore(model, seen, **options)
            original.write(target, restored)
            if compare:
                before, after = (_eight_bits(image) for image in (seen, restored))
                before = originals.enlarge(before, model.scale)
                photos.write(compared(target), np.concatenate([before, after], axis=1))
        except MemoryError:
            raise UserError(f"{photo} does not fit into memory: give a smaller --tile") from None
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise UserError(f"{photo} does not fit into memory: give a smaller --tile") from None
            raise
        return notes

    def _photos(self, source: Path, output: Path, recursive: bool) -> list[tuple[Path, Path]]:
        """The photos of a source, each with its place inside the source."""
        if not os.path.isdir(source):
            return [(source, Path(source.name))]
        found, faults = photos.walk(source, recursive=recursive)
        self.faults += faults
        own = _same(output)
        if own != _same(source):
            found = [photo for photo in found if own not in _same(photo).parents]
        if not found and not faults:
            raise UserError(photos.no_photos(source, recursive=recursive))
        told = photos.passed_over(source, recursive=recursive)
        self.notes += [told] if told else []
        return [(photo, photo.relative_to(source)) for photo in found]


def compared(target: Path) -> Path:
    """Where before and after stand side by side."""
    return target.with_suffix(".compare.png")


def _same(path: Path) -> Path:
    """One path for one file, whatever it is called by."""
    return Path(os.path.realpath(path))


def _eight_bits(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)


def _name(photo: Path, suffix: str) -> str:
    kept = photo.suffix if photo.suffix.lower() in originals.LOSSLESS else ".png"
    return f"{photo.stem}{suffix}{kept}"
