"""Which photos a command restores, and to which files."""

from pathlib import Path

import numpy as np
from torch import nn

from rvlib import originals, photos
from rvlib.degrade import imresize
from rvlib.errors import UserError
from rvlib.restore import restore


class Batch:
    """The pairs (photo, target) of one command, in order, in `jobs`.

    One photo goes to a file if `output` has a suffix; everything else to a folder, where names keep their lossless
    suffix or get .png, and the folders below a given one are kept. Raises UserError for a target that is an input, or
    that two photos share.
    """

    def __init__(self, sources: list[Path], output: Path, *, recursive: bool = False, suffix: str = ""):
        found = [pair for source in sources for pair in _photos(source, recursive)]
        if "/" in suffix:
            raise UserError(f"suffix {suffix!r} must not hold a slash: it becomes a part of the file's name")
        if len(found) == 1 and sources[0].is_file() and output.suffix and not output.is_dir():
            self.jobs = [(found[0][0], output)]
        else:
            self.jobs = [(photo, output / inside.parent / _name(photo, suffix)) for photo, inside in found]
        targets: dict[Path, Path] = {}
        for photo, target in self.jobs:
            if target in targets:
                raise UserError(f"{photo} and {targets[target]} would both become {target}: restore them one by one")
            targets[target] = photo
        for photo in dict(self.jobs):
            if photo.exists() and any(target.exists() and target.samefile(photo) for target in targets):
                raise UserError(f"{photo} would be overwritten by its restored version: choose another output")

    @staticmethod
    def restore(model: nn.Module, photo: Path, target: Path, *, compare: bool = False, **options) -> None:
        """Restore one photo into its target."""
        original = originals.read(photo)
        if target.exists() and target.is_dir():
            raise UserError(f"{target} is a folder: choose another output")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{target.parent} cannot be made ({error.strerror}): choose another output") from None
        restored = restore(model, original.image, **options)
        original.write(target, restored)
        if compare:
            eight = lambda image: image if image.dtype == np.uint8 else (image // 257).astype(np.uint8)  # noqa: E731
            before, after = eight(original.image), eight(restored)
            before = imresize(before, model.scale) if model.scale > 1 else before
            photos.write(target.with_suffix(".compare.png"), np.concatenate([before, after], axis=1))


def _photos(source: Path, recursive: bool) -> list[tuple[Path, Path]]:
    """The photos of a source, each with its place inside the source."""
    if not source.is_dir():
        return [(source, Path(source.name))]
    if not recursive:
        return [(photo, Path(photo.name)) for photo in photos.folder(source)]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in photos.SUFFIXES and path.is_file())
    if not found:
        raise UserError(f"{source} and its folders hold no photos ({', '.join(sorted(photos.SUFFIXES))})")
    return [(path, path.relative_to(source)) for path in found]


def _name(photo: Path, suffix: str) -> str:
    kept = photo.suffix if photo.suffix.lower() in originals.LOSSLESS else ".png"
    return f"{photo.stem}{suffix}{kept}"
