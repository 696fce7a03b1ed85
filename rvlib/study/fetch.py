"""Fetching: the manifest says which bytes, the sources say where from, the hash decides what is kept.

A photo goes to `<target>/<set>/<split>/<role>/<file>`, so that degraded and reference photos match by name. An archive
is unpacked to the same places and removed. Where the manifest has no hash (nobody publishes one), the hash of what came
first is recorded in `<target>/checksums.csv` and holds from then on.
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from functools import partial
from io import StringIO
from pathlib import Path

import pandas as pd
from PIL import Image
from pooch import file_hash
from tqdm import tqdm

from rvlib.download import CHUNK, Downloads, SourceError, is_right, mirrored
from rvlib.errors import UserError
from rvlib.files import SPACE, alone, is_zip, reason_of, write_text
from rvlib.photos import in_package

MANIFEST = Path(__file__).parent / "manifest.csv"
GITHUB = "https://raw.githubusercontent.com"
TEXTS = ["set", "split", "role", "source", "path", "members", "file", "licence"]
COLUMNS = [*TEXTS, "size", "sha256"]
NAME = r"[\w-][\w. -]*"
ALLOWED = {"set": NAME, "file": NAME, "split": "train|validation|test", "role": "reference|degraded",
           "source": "wheel|github|url"}  # fmt: skip
PARALLEL = 8
GROWTH = 10  # an archive of photos, compressed already, hardly grows: one that grows more than this is a bomb


def manifest() -> pd.DataFrame:
    """One row per file: set, split, role, source, path, members, file, licence, size in bytes, sha256.

    `members` is empty but for archives: the pattern of the files that one row takes out of it, their new name being the
    groups of the pattern, joined. Size and sha256 are missing where they are not known.
    """
    try:
        listed = pd.read_csv(MANIFEST, dtype={"size": "Int64", "sha256": str} | dict.fromkeys(TEXTS, str))[COLUMNS]
        listed = listed.assign(members=listed["members"].fillna(""))
        listed["members"].map(re.compile)
        is_sound = [listed[column].str.fullmatch(pattern) for column, pattern in ALLOWED.items()]
        if listed[TEXTS].isna().any(axis=None) or not all(each.all() for each in is_sound):
            raise ValueError
        if not MANIFEST.read_bytes().endswith(b"\n"):  # cut off: the last row may have lost its hash
            raise ValueError
    except (ValueError, LookupError, OverflowError, TypeError, re.error, OSError):
        raise UserError(f"{MANIFEST} is damaged: install again, or restore it with git") from None
    return listed


def fetch(sets: list[str], target: str | Path, *, progress: bool = True) -> None:
    """Bring whole sets to `<target>/<set>/<split>/<role>/<file>`; what is there and right is kept.

    Sources in their order: the mirror in the environment variable RV_MIRROR (a folder, relative to the repository's
    root, or an address), then the original. Raises UserError for an unknown set, for a file that no source gives with
    its hash, for an unsafe archive, for a strange photo in a set's folder and for a full disk; what arrived stays, and
    fetching again goes on from there. A second process that fetches into the same folder waits for the first.
    """
    listed = manifest()
    unknown = [name for name in sets if name not in set(listed["set"])]
    if unknown:
        known = ", ".join(dict.fromkeys(listed["set"]))
        raise UserError(f"unknown set {', '.join(map(repr, unknown))}: choose among {known}")
    with alone(Path(target) / "fetch"):  # inside: what a folder is mounted in may not be writable
        _fetch(sets, _Jobs(Path(target), listed), progress)


def _fetch(sets: list[str], jobs: "_Jobs", progress: bool) -> None:
    listed = jobs.listed
    wanted = [
        list(rows.itertuples()) for _, rows in listed[listed["set"].isin(sets)].groupby(["set", "path"], sort=False)
    ]
    wanted = [rows for rows in wanted if not jobs.are_there(rows)]
    total = sum(rows[0].size for rows in wanted if not pd.isna(rows[0].size))
    progress = progress and bool(wanted)
    with tqdm(total=total, desc="fetching", unit="B", unit_scale=True, disable=not progress) as jobs.bar:
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            for job in as_completed([pool.submit(jobs.get, rows) for rows in wanted]):
                job.result()
        finally:  # the first error stops the others, whose parts stay to be gone on with
            jobs.stop.set()
            pool.shutdown(cancel_futures=True)
    for name in sets:
        jobs.clear(name)


class _Jobs(Downloads):
    """One call of fetch: what the downloads share."""

    def __init__(self, target: Path, listed: pd.DataFrame):
        super().__init__()
        self.target, self.listed = target, listed
        self.checksums = target / "checksums.csv"
        # file below the target -> (size, sha256, the archive it came out of)
        self.recorded: dict[str, tuple[int, str, str]] = {}
        try:
            if self.checksums.is_file():
                columns = ["file", "size", "sha256", "archive"]
                text = self.checksums.read_text()
                digest, _, listed_below = text.partition("\n")
                if digest.startswith("# "):  # a list of before has none
                    if digest != _digest(listed_below):
                        raise ValueError
                    text = listed_below
                rows = pd.read_csv(StringIO(text), usecols=columns, dtype={"size": int}, keep_default_na=False)
                self.recorded = {r.file: (r.size, r.sha256, r.archive) for r in rows.itertuples()}
        except (ValueError, AttributeError):
            raise UserError(f"{self.checksums} is damaged: remove it, then fetch again") from None

    def are_there(self, rows: list) -> bool:
        """Whether a file, or all that an archive holds, is there with the right bytes."""
        name, (size, sha256) = self.name(rows[0]), self.expected(rows[0])
        if not rows[0].members:
            return sha256 is not None and is_right(self.target / name, size, sha256)
        if name not in self.recorded or self.recorded[name][1] != sha256:
            return False
        members = {file: known for file, known in self.recorded.items() if known[2] == name}
        return bool(members) and all(is_right(self.target / file, *known[:2]) for file, known in members.items())

    def name(self, row) -> str:
        """Where a row's file stands below the target."""
        return f"{row.set}/{row.file}" if row.members else f"{row.set}/{row.split}/{row.role}/{row.file}"

    def expected(self, row) -> tuple[int | None, str | None]:
        """Size and sha256 of the manifest, else those recorded at the first download, else None."""
        size, sha256, _ = self.recorded.get(self.name(row), (None, None, ""))
        return (size if pd.isna(row.size) else row.size), (sha256 if pd.isna(row.sha256) else row.sha256)

    def get(self, rows: list) -> None:
        """Get one file or archive into its place."""
        row, name = rows[0], self.name(rows[0])
        place = self.target / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            size, sha256 = self.expected(row)
            if not (sha256 and is_right(place, size, sha256)):  # an archive may be there, not unpacked yet
                self.find(row, place)
            if row.members or pd.isna(row.sha256):
                self.record({name: (place.stat().st_size, file_hash(str(place)), "")}, name)
            if row.members:
                folders = {each.members: f"{each.set}/{each.split}/{each.role}" for each in rows}
                self.record({name: self.recorded[name]} | self.unpack(place, folders, name), name)
                place.unlink()
        except SourceError as error:
            self.record({}, name)
            place.unlink(missing_ok=True)
            raise UserError(f"{row.file} of {row.set} was not unpacked: {error}. Fetch it again") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk is full ({place}): free some space, then fetch again to go on") from None
            raise UserError(f"{place} could not be written {reason_of(error, SPACE)}") from None

    def record(self, found: dict, name: str) -> None:
        """Replace what is recorded of a file or archive and of what came out of it."""
        with self.lock:
            kept = {file: known for file, known in self.recorded.items() if name not in (file, known[2])}
            self.recorded = dict(sorted((kept | found).items()))
            lines = [f"{file},{','.join(map(str, known))}\n" for file, known in self.recorded.items()]
            text = "".join(["file,size,sha256,archive\n", *lines])
            write_text(self.checksums, f"{_digest(text)}\n{text}")

    def unpack(self, archive: Path, folders: dict[str, str], name: str) -> dict[str, tuple[int, str, str]]:
        """Take the files that match a pattern out of an archive: all of them, or none where one is unsafe."""
        staged = archive.with_name(f"{archive.name}.unpacked")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        total, found = 0, {}
        try:
            for member, size, is_plain, opened in _members(archive):
                self.update(0)
                if not is_plain or re.search(r"^/|(^|/)\.\.(/|$)|[\\:\0]", member):
                    raise SourceError(f"{member!r} in it is unsafe")
                opened().close()  # compares the two names that a zip has for a file: a wrong one would hide a photo
                matches = ((folder, re.fullmatch(pattern, member)) for pattern, folder in folders.items())
                for folder, match in ((folder, match) for folder, match in matches if match):
                    file = f"{folder}/{'_'.join(match.groups())}"
                    total += size
                    if file in found or total > GROWTH * archive.stat().st_size:
                        raise SourceError(f"{member!r} is in it twice" if file in found else "it is far too large")
                    part = staged / str(len(found))
                    with opened() as old, part.open("wb") as new:
                        shutil.copyfileobj(old, new, CHUNK)
                    found[file] = (part.stat().st_size, file_hash(str(part)), name)
            if {file.rpartition("/")[0] for file in found} != set(folders.values()):
                raise SourceError("it does not hold the expected photos")
            for index, file in enumerate(found):
                (self.target / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / str(index), self.target / file)
        except (SourceError, CancelledError, MemoryError):
            raise
        except Exception as error:  # the readers raise many types for damaged bytes
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # of the disk; that number stands for a place outside of the archive, too
            raise SourceError(f"it is no archive or damaged ({error})") from None
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return found

    def clear(self, name: str) -> None:
        """Remove from a set's folder what an older manifest put there; a photo of someone else is an error."""
        ours = set(self.listed["sha256"].dropna()) | {known[1] for known in self.recorded.values()}
        rows = list(self.listed[self.listed["set"] == name].itertuples())
        right = {self.name(row) for row in rows if not row.members}
        right |= {file for file, known in self.recorded.items() if known[2] in {self.name(row) for row in rows}}
        for path in sorted(self.target.glob(f"{name}/*/*/*")):
            if path.relative_to(self.target).as_posix() in right or path.suffix == ".part":
                continue
            if not (path.is_file() and file_hash(str(path)) in ours):
                raise UserError(f"{path} is not a part of {name} and would be taken for one: move it elsewhere")
            path.unlink()

    def find(self, row, place: Path) -> None:
        """Put a file in its place, from the first source that gives the right bytes."""
        size, sha256 = self.expected(row)
        try:
            self.bring(_sources(row), place, size=size, verify=partial(_verify, row=row, sha256=sha256))
        except SourceError as error:
            hint = f" (the hash is the one in {self.checksums})" if sha256 and pd.isna(row.sha256) else ""
            raise UserError(
                f"{row.file} of {row.set} could not be fetched: {error}{hint}. "
                "Check the internet connection and fetch again, or set RV_MIRROR to a place that has the file"
            ) from None


def _sources(row) -> list[str]:
    """Where a file can come from, the mirror first."""
    if row.source == "wheel":
        return [str(in_package(row.path))]
    # a mirror repeats GitHub's paths, and other addresses with their host
    path = row.path if row.source == "github" else row.path.partition("://")[2]
    return [*mirrored(path), f"{GITHUB}/{path}" if row.source == "github" else row.path]


def _verify(part: Path, row, sha256: str | None) -> None:
    """Whether a complete file is the right one; without a hash, whether it is a photo at all."""
    found = file_hash(str(part))
    if sha256 and found != sha256:
        raise SourceError(f"wrong bytes, SHA-256 {found} instead of {sha256}")
    if not sha256 and not row.members:
        try:
            with Image.open(part) as image:
                image.verify()
        except Exception:  # Pillow raises whatever a strange file runs it into
            raise SourceError("wrong bytes, no photo") from None


def _digest(text: str) -> str:
    """The line above a list of checksums that shows whether it is as it was written."""
    return f"# sha256 {hashlib.sha256(text.encode()).hexdigest()}"


def _members(archive: Path) -> Iterator[tuple]:
    """Name, size, whether it is a plain file and how to open it, for all but the folders of an archive."""
    if is_zip(archive):
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                is_plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
                if not info.is_dir():
                    yield info.filename, info.file_size, is_plain, partial(opened.open, info)
        return
    with tarfile.open(archive) as opened:
        for info in opened:
            if not info.isdir():
                yield info.name.removeprefix("./"), info.size, info.isreg(), partial(opened.extractfile, info)
