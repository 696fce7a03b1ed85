"""Fetching: the manifest says which bytes, the sources say where from, the hash decides what is kept.

A photo goes to `<target>/<set>/<split>/<role>/<file>`, so that degraded and reference photos match by name. An archive
is unpacked to the same places and removed. Where the manifest has no hash (nobody publishes one), the hash of what came
first is recorded in `<target>/checksums.csv` and holds from then on.
"""

import errno
import fcntl
import importlib.util
import os
import re
import shutil
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pandas as pd
import requests
from PIL import Image
from pooch import file_hash
from tqdm import tqdm

import rvlib
from rvlib.errors import UserError
from rvlib.files import write_atomically

MANIFEST = Path(__file__).parent / "manifest.csv"
GITHUB = "https://raw.githubusercontent.com"
TEXTS = ["set", "split", "role", "source", "path", "members", "file", "licence"]
COLUMNS = [*TEXTS, "size", "sha256"]
NAME = r"[\w-][\w. -]*"
ALLOWED = {"set": NAME, "file": NAME, "split": "train|validation|test", "role": "reference|degraded",
           "source": "wheel|github|url"}  # fmt: skip
PARALLEL = 8
ATTEMPTS = 4  # requests in a row that bring no new byte
BACK_OFF = 0.5  # seconds, doubled with each of them
TIMEOUT = (10, 30)  # seconds to connect, and of silence
CHUNK = 2**14  # a lost connection loses the chunk it was in
TRY_AGAIN = {408, 429, 500, 502, 503, 504}
GROWTH = 10  # an archive of photos, compressed already, hardly grows: one that grows more than this is a bomb


class _SourceError(Exception):
    """A source that does not give the file of the manifest; the next one is asked."""


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
    with _alone(Path(target)):
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from fetching into the same folder: two would write into each other's parts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): choose another folder") from None
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class _Jobs:
    """One call of fetch: what the downloads share."""

    def __init__(self, target: Path, listed: pd.DataFrame):
        self.target, self.listed = target, listed
        self.stop, self.lock = threading.Event(), threading.Lock()
        self.bar = None
        self.checksums = target / "checksums.csv"
        # file below the target -> (size, sha256, the archive it came out of)
        self.recorded: dict[str, tuple[int, str, str]] = {}
        try:
            if self.checksums.is_file():
                columns = ["file", "size", "sha256", "archive"]
                rows = pd.read_csv(self.checksums, usecols=columns, dtype={"size": int}, keep_default_na=False)
                self.recorded = {r.file: (r.size, r.sha256, r.archive) for r in rows.itertuples()}
        except (ValueError, AttributeError):
            raise UserError(f"{self.checksums} is damaged: remove it, then fetch again") from None

    def are_there(self, rows: list) -> bool:
        """Whether a file, or all that an archive holds, is there with the right bytes."""
        name, (size, sha256) = self.name(rows[0]), self.expected(rows[0])
        if not rows[0].members:
            return sha256 is not None and _is(self.target / name, size, sha256)
        if name not in self.recorded or self.recorded[name][1] != sha256:
            return False
        members = {file: known for file, known in self.recorded.items() if known[2] == name}
        return bool(members) and all(_is(self.target / file, *known[:2]) for file, known in members.items())

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
            if not (sha256 and _is(place, size, sha256)):  # an archive may be there, not unpacked yet
                self.bring(row, place)
            if row.members or pd.isna(row.sha256):
                self.record({name: (place.stat().st_size, file_hash(str(place)), "")}, name)
            if row.members:
                folders = {each.members: f"{each.set}/{each.split}/{each.role}" for each in rows}
                self.record({name: self.recorded[name]} | self.unpack(place, folders, name), name)
                place.unlink()
        except _SourceError as error:
            self.record({}, name)
            place.unlink(missing_ok=True)
            raise UserError(f"{row.file} of {row.set} was not unpacked: {error}. Fetch it again") from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"the disk is full ({place}): free some space, then fetch again to go on") from None
            raise UserError(f"{place} could not be written ({error.strerror or error})") from None

    def record(self, found: dict, name: str) -> None:
        """Replace what is recorded of a file or archive and of what came out of it."""
        with self.lock:
            kept = {file: known for file, known in self.recorded.items() if name not in (file, known[2])}
            self.recorded = dict(sorted((kept | found).items()))
            lines = [f"{file},{','.join(map(str, known))}\n" for file, known in self.recorded.items()]
            text = "".join(["file,size,sha256,archive\n", *lines])
            write_atomically(self.checksums, lambda path: Path(path).write_text(text))

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
                    raise _SourceError(f"{member!r} in it is unsafe")
                matches = ((folder, re.fullmatch(pattern, member)) for pattern, folder in folders.items())
                for folder, match in ((folder, match) for folder, match in matches if match):
                    file = f"{folder}/{'_'.join(match.groups())}"
                    total += size
                    if file in found or total > GROWTH * archive.stat().st_size:
                        raise _SourceError(f"{member!r} is in it twice" if file in found else "it is far too large")
                    part = staged / str(len(found))
                    with opened() as old, part.open("wb") as new:
                        shutil.copyfileobj(old, new, CHUNK)
                    found[file] = (part.stat().st_size, file_hash(str(part)), name)
            if {file.rpartition("/")[0] for file in found} != set(folders.values()):
                raise _SourceError("it does not hold the expected photos")
            for index, file in enumerate(found):
                (self.target / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staged / str(index), self.target / file)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, RuntimeError) as error:
            raise _SourceError(f"it is no archive or damaged ({error})") from None
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

    def bring(self, row, place: Path) -> None:
        """Put a file in its place, from the first source that gives the right bytes."""
        size, sha256 = self.expected(row)
        part, problems = place.with_name(f"{place.name}.part"), []
        for source in _sources(row):
            try:
                if source.startswith(("http://", "https://")):
                    self.download(source, part, size)
                    _verify(part, row, sha256)
                    return os.replace(part, place)
                if not Path(source).is_file():
                    raise _SourceError("no such file")
                write_atomically(place, lambda copy, old=source: _verify(shutil.copyfile(old, copy), row, sha256))
                return self.update(_length(place))
            except _SourceError as error:
                part.unlink(missing_ok=True)
                problems.append(f"{source}: {error}")
            except requests.RequestException as error:
                status = error.response.status_code if error.response is not None else None
                problems.append(f"{source}: {f'status {status}' if status else 'no connection'}")
        hint = f" (the hash is the one in {self.checksums})" if sha256 and pd.isna(row.sha256) else ""
        raise UserError(
            f"{row.file} of {row.set} could not be fetched: {'; '.join(problems)}{hint}. "
            "Check the network and fetch again, or set RV_MIRROR to a place that has the file"
        )

    def download(self, url: str, part: Path, size: int | None) -> None:
        """Download a file, going on where an earlier try ended; lost connections and 5xx are tried again."""
        most, fruitless = _length(part), 0
        while True:
            try:
                return self.request(url, part, size)
            except requests.RequestException as error:
                if isinstance(error, requests.HTTPError) and error.response.status_code not in TRY_AGAIN:
                    raise
                fruitless = 0 if _length(part) > most else fruitless + 1
                most = max(most, _length(part))
                if fruitless == ATTEMPTS:
                    raise
            if self.stop.wait(BACK_OFF * 2**fruitless):
                raise CancelledError

    def request(self, url: str, part: Path, size: int | None) -> None:
        """Ask once for what is missing of a file; returns if the file is complete then."""
        there = _length(part)
        if there and there == size:
            return
        headers = {"Accept-Encoding": "identity"}  # ranges count the bytes as they are sent
        if there:  # a file that changed since its first half came must not get the second half of another
            since = formatdate(part.stat().st_mtime, usegmt=True)
            headers |= {"Range": f"bytes={there}-", "If-Unmodified-Since": since}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            ranges = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if answer.status_code == 416 and ranges and ranges[2] == str(there):
                return  # nothing is missing
            is_other = answer.status_code == 206 and not (ranges and ranges[1] == str(there))
            if answer.status_code in (412, 416) or is_other:
                part.unlink(missing_ok=True)
                raise requests.ConnectionError("there is no such range: once more from the start")
            answer.raise_for_status()
            there = there if answer.status_code == 206 else 0  # a server may ignore the range
            total = ranges[2] if ranges else answer.headers.get("Content-Length", "")
            total = int(total) if total.isdigit() else size
            if size is not None and total != size:
                raise _SourceError(f"wrong bytes, {total} of them instead of {size}")
            with part.open("ab" if there else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    there += len(chunk)
                    self.update(len(chunk))
        if total is not None and there != total:
            raise requests.ConnectionError("the connection ended early")

    def update(self, count: int) -> None:
        """Move the progress bar, which grows by what is got twice or was not known; raises where all is to stop."""
        if self.stop.is_set():
            raise CancelledError
        with self.lock:
            self.bar.total = max(self.bar.total or 0, self.bar.n + count)
            self.bar.update(count)


def _sources(row) -> Iterator[str]:
    """Where a file can come from, the mirror first."""
    if row.source == "wheel":
        package, _, inside = row.path.partition("/")
        yield str(Path(importlib.util.find_spec(package).origin).parent / inside)
        return
    # a mirror repeats GitHub's paths, and other addresses with their host
    path = row.path if row.source == "github" else row.path.partition("://")[2]
    mirror = os.environ.get("RV_MIRROR")
    if mirror:
        is_web = mirror.startswith(("http://", "https://"))
        yield f"{mirror.rstrip('/')}/{path}" if is_web else str(rvlib.ROOT / mirror / path)
    yield f"{GITHUB}/{path}" if row.source == "github" else row.path


def _verify(part: str | Path, row, sha256: str | None) -> None:
    """Whether a complete file is the right one; without a hash, whether it is a photo at all."""
    found = file_hash(str(part))
    if sha256 and found != sha256:
        raise _SourceError(f"wrong bytes, sha256 {found} instead of {sha256}")
    if not sha256 and not row.members:
        try:
            with Image.open(part) as image:
                image.verify()
        except Exception:  # Pillow raises whatever a strange file runs it into
            raise _SourceError("wrong bytes, no photo") from None


def _members(archive: Path) -> Iterator[tuple]:
    """Name, size, whether it is a plain file and how to open it, for all but the folders of an archive."""
    if zipfile.is_zipfile(archive):
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


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is(path: Path, size: int | None, sha256: str) -> bool:
    return path.is_file() and size in (None, path.stat().st_size) and file_hash(str(path)) == sha256
