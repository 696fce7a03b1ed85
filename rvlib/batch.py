"""Which photos a command restores, to which files, and how one of them becomes the other."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from rvlib import originals, photos
from rvlib.degrade import resize_photo
from rvlib.errors import UserError
from rvlib.files import make_ready
from rvlib.memory import within_memory
from rvlib.restore import Size, restore, scale_of


class Batch:
    """The pairs (photo, target) of one command, in order, in `jobs`.

    `faults` names folders that may not be read, `notes` what of them is left out.

    One photo goes to a file if `output` has a suffix; everything else to a folder, where the folders below a given one
    are kept, and names keep their suffix, unless `kind` ("png") is asked for or theirs is of a format that is not
    written. What an earlier run of the same command wrote into its own source is no photo to restore. Raises UserError
    for a target that is an input, that two photos share, or whose format is not written.
    """

    def __init__(
        self,
        sources: list[Path],
        output: Path,
        *,
        recursive: bool = False,
        suffix: str = "",
        compare: bool = False,
        kind: str = "",
    ):
        if "/" in suffix or "\0" in suffix:
            raise UserError(f"suffix {suffix!r} must not hold a slash: it becomes a part of the file's name")
        if str(output) == "-":
            raise UserError("results are not written to the standard output: name a file or a folder")
        kind = kind.lower()
        self.faults: list[str] = []
        self.notes: list[str] = []
        is_one = len(sources) == 1 and not os.path.isdir(sources[0])
        if is_one and output.suffix and not os.path.isdir(output):
            if suffix:
                raise UserError(
                    f"--suffix is added to names in a folder, and {output} is a file: leave one of them out"
                )
            if kind and f".{kind}" != output.suffix.lower():
                raise UserError(f"--format {kind} is for a folder, and {output} is a file: leave one of them out")
            self.jobs = [(sources[0], output)]
        else:
            if kind and f".{kind}" not in originals.SUFFIXES:
                known = ", ".join(sorted(suffix[1:] for suffix in originals.SUFFIXES))
                raise UserError(f"{kind} is not written: choose --format among {known}")
            is_named_as_photo = output.suffix.lower() in originals.SUFFIXES and not os.path.isdir(output)
            if os.path.isfile(output) or is_named_as_photo:
                raise UserError(f"{output} is a file's name, and several photos go to a folder: choose another output")
            found = [pair for source in dict.fromkeys(sources) for pair in self._photos(source, output, recursive)]
            jobs = [(photo, output / inside.parent / _name(photo, suffix, kind)) for photo, inside in found]
            written = {_same(target) for _, target in jobs} if suffix else set()
            written |= {_same(compared(target)) for _, target in jobs} if compare else set()
            named = {_same(source) for source in sources}
            self.jobs = [job for job in jobs if _same(job[0]) not in written - named]
        targets: dict[Path, Path] = {}
        for photo, target in self.jobs:
            try:
                originals.format_of(target)
            except UserError as error:
                raise UserError(f"{error}{', or make a folder of that name first' if is_one else ''}") from None
            for place in (target, compared(target)) if compare else (target,):
                if place in targets and _same(targets[place]) != _same(photo):
                    raise UserError(
                        f"{photo} and {targets[place]} would both become {place}: rename one, or restore each alone"
                    )
                targets[place] = photo
        places = {_same(place): place for place in targets}
        for photo, _ in self.jobs:
            if _same(photo) in places and os.path.exists(photo):
                raise UserError(f"{photo} would be overwritten by its restored version: choose another output")

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
        inner = [] if recursive or not found else os.scandir(source)
        folders = [each for each in inner if each.is_dir(follow_symlinks=False) and not each.name.startswith(".")]
        left = [each for each in folders if _same(each) not in (own, *own.parents)]
        if left:
            self.notes.append(f"the folders in {source} ({len(left)}) are left out: --recursive looks into them")
        return [(photo, photo.relative_to(source)) for photo in found]


def restore_photo(
    model: nn.Module | Sequence[nn.Module],
    photo: Path,
    target: Path,
    *,
    size: Size | None = None,
    compare: bool = False,
    quality: int | None = None,
    made_by: str = "",
    **options,
) -> list[str]:
    """Restore one photo into its target, and return what there is to say of it.

    `size` is the size of the result, `quality` that of JPEG and WebP, `made_by` is written into the file. Whatever
    photo, target or memory does is a UserError, and all that can be known before the work is said before.
    """
    original = originals.read(photo)
    chain = list(model) if isinstance(model, Sequence) else [model]
    factor = factor_of(original, photo, size or Size(), scale_of(chain))
    notes, odd = original.plan(target, factor), []
    for place in (target, compared(target)) if compare else (target,):
        make_ready(place)
    with within_memory(photo):
        seen = original.visible
        restored = restore(chain, seen, factor=factor, notes=odd, **options)
        original.write(target, restored, factor=factor, quality=quality, made_by=made_by)
        if compare:
            both = originals.side_by_side(resize_photo(seen, factor), restored)
            del restored
            originals.save(both, compared(target))
    return notes + [f"{photo}: {each}" for each in odd]


def factor_of(original: originals.Original, photo: Path, size: Size, scale: int) -> float:
    """How many times larger a photo is to become; raises UserError, which names it, where networks of `scale` end."""
    try:
        return size.of(*original.image.shape[:2], scale)
    except UserError as error:
        raise UserError(f"{photo}: {error}") from None


def compared(target: Path) -> Path:
    """Where before and after stand side by side."""
    return target.with_suffix(".compare.png")


def _same(path: Path) -> Path:
    """One path for one file, whatever it is called by."""
    return Path(os.path.realpath(path))


def _name(photo: Path, suffix: str, kind: str) -> str:
    kept = photo.suffix if photo.suffix.lower() in originals.SUFFIXES else ".png"
    return f"{photo.stem}{suffix}{f'.{kind}' if kind else kept}"
