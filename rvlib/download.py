"""Downloads that are resumed, tried again and checked before anything reads them: photos of the study, and weights."""

import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from email.utils import formatdate
from pathlib import Path

import pooch
import requests
from tqdm import tqdm

import rvlib
from rvlib.files import sha256, write_atomically

ATTEMPTS = 4  # requests in a row that bring no new byte
BACK_OFF = 0.5  # seconds, doubled with each of them
TIMEOUT = (10, 30)  # seconds to connect, and of silence
CHUNK = 2**14  # a lost connection loses the chunk it was in
TRY_AGAIN = {408, 429, 500, 502, 503, 504}


class SourceError(Exception):
    """A source that does not give the file that is wanted; the next one is asked."""


class Downloads:
    """What the downloads of one call share: a progress bar, and a way to stop them all."""

    def __init__(self, *, at_first: int | None = None):
        """`at_first` is how often an address is asked in vain before the first byte from anywhere; None: ATTEMPTS."""
        self.at_first = at_first
        self.stop, self.heard, self.lock = threading.Event(), threading.Event(), threading.Lock()
        self.bar: tqdm | None = None

    def bring(self, sources: list[str], place: Path, *, size: int | None, verify: Callable[[Path], object]) -> None:
        """Put a file in its place, from the first source, an address or a file, that gives the right bytes.

        `verify` raises SourceError for a complete file that is not the right one. Raises SourceError with what was
        wrong with each source where none gives it; the part of a broken download stays to be gone on with.
        """
        part, problems = place.with_name(f"{place.name}.part"), []
        for source in sources:
            try:
                if source.startswith(("http://", "https://")):
                    self.download(source, part, size)
                    verify(part)
                    return os.replace(part, place)
                if not Path(source).is_file():
                    raise SourceError("no such file")
                self.heard.set()
                write_atomically(place, lambda copy, old=source: verify(Path(shutil.copyfile(old, copy))))
                return self.update(length(place))
            except SourceError as error:
                part.unlink(missing_ok=True)
                problems.append(f"{source}: {error}")
            except requests.RequestException as error:
                status = error.response.status_code if error.response is not None else None
                problems.append(f"{source}: {f'status {status}' if status else 'no connection'}")
        raise SourceError("; ".join(problems))

    def download(self, url: str, part: Path, size: int | None) -> None:
        """Download a file, going on where an earlier try ended; lost connections and 5xx are tried again."""
        most, fruitless = length(part), 0
        while True:
            try:
                return self._request(url, part, size)
            except requests.RequestException as error:
                if isinstance(error, requests.HTTPError) and error.response.status_code not in TRY_AGAIN:
                    raise
                fruitless = 0 if length(part) > most else fruitless + 1
                most = max(most, length(part))
                if fruitless == (ATTEMPTS if self.heard.is_set() or self.at_first is None else self.at_first):
                    raise
            if self.stop.wait(BACK_OFF * 2**fruitless):
                raise CancelledError

    def _request(self, url: str, part: Path, size: int | None) -> None:
        """Ask once for what is missing of a file; returns if the file is complete then."""
        there = length(part)
        if there and there == size:
            return
        headers = {"Accept-Encoding": "identity"}  # ranges count the bytes as they are sent
        if there:  # a file that changed since its first half came must not get the second half of another
            since = formatdate(part.stat().st_mtime, usegmt=True)
            headers |= {"Range": f"bytes={there}-", "If-Unmodified-Since": since}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            self.update(0)
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
                raise SourceError(f"wrong bytes, {total} of them instead of {size}")
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
        if count:
            self.heard.set()
        with self.lock:
            self.bar.total = max(self.bar.total or 0, self.bar.n + count)
            self.bar.update(count)


def user_cache() -> Path:
    """The folder that fetched weights are kept in: in the user's cache, or among the downloads of this checkout.

    The latter where the user has no such folder and none can be made, as in a home that is read-only. A place that
    the environment variable XDG_CACHE_HOME names is never left.
    """
    chosen = Path(pooch.os_cache("rvlib"))
    nearest = next(place for place in (chosen, *chosen.parents) if os.path.exists(place))
    if nearest == chosen or "XDG_CACHE_HOME" in os.environ or os.access(nearest, os.W_OK):
        return chosen
    return rvlib.ROOT / "downloads/cache"


def mirrored(path: str) -> list[str]:
    """Where a mirror has a file: below the folder (relative to the repository's root) or address in RV_MIRROR."""
    mirror = os.environ.get("RV_MIRROR")
    if not mirror:
        return []
    is_web = mirror.startswith(("http://", "https://"))
    return [f"{mirror.rstrip('/')}/{path}" if is_web else str(rvlib.ROOT / mirror / path)]


def length(path: Path) -> int:
    """The size of a file in bytes, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


def is_right(path: Path, size: int | None, expected: str) -> bool:
    """Whether a file is there with this size, where it is known, and this hash, or a hash that begins so."""
    return path.is_file() and size in (None, path.stat().st_size) and sha256(path).startswith(expected)
