"""The papers' own weights by name: fetched on first use, checked before anything reads them, kept in the user's cache.

`official.csv` says what is known of each file. Cache and downloads are those of `rvlib.download`.
"""

import csv
import difflib
import sys
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Thread
from time import monotonic

from tqdm import tqdm

from rvlib.download import Downloads, SourceError, length, mirrored, user_cache
from rvlib.errors import UserError
from rvlib.files import alone, is_zip, sha256, write_text
from rvlib.measures import TASKS
from rvlib.models import METHODS

TABLE = Path(__file__).parent / "official.csv"
PREFIX = "official/"
PATIENCE = 8  # seconds for the first byte, whichever source it comes from
ELSEWHERE = "choose another cache with the environment variable XDG_CACHE_HOME"


@dataclass(frozen=True)
class Official:
    """What is known of an official file: a row of the table."""

    name: str
    """As `rvlib.load` takes it: "official/swinir-light-x4"."""

    file: str
    """Its name in the cache and in a mirror's folder `official`."""

    method: str
    task: str
    scale: int
    local: bool
    """Whether its published results were measured with the test-time local converter."""

    trained_on: str
    size: int | None
    """In bytes; None where nobody publishes it."""

    sha256: str
    """Its digits, or the first of them, as far as they are published."""

    urls: tuple[str, ...]
    """Addresses of the file; none where it lies in a folder of a drive or where none is known."""

    page: str
    licence: str
    note: str

    @property
    def place(self) -> Path:
        """Where it lies in the cache, once it is there."""
        return cache() / self.file

    @property
    def record(self) -> Path:
        """The hash that its first download had, for a file without a published one; as `sha256sum` writes it."""
        return cache() / f"{self.file}.sha256"

    @property
    def expected(self) -> str:
        """The published hash, or the one that its first download had, or nothing."""
        if len(self.sha256) < 64 and self.record.is_file():
            return self.record.read_text().split(" ")[0]
        return self.sha256

    @property
    def is_cached(self) -> bool:
        """Whether it is in the cache, by its size where that is known: `fetch` looks at every byte."""
        return self.place.is_file() and self.size in (None, length(self.place))

    def fetch(self) -> Path:
        """The file in the cache, which is brought there first where it is missing or damaged.

        Sources in their order: `official/<file>` in the mirror of the environment variable RV_MIRROR, then the
        addresses. Size and hash are checked, also those of a file that was there. A file without a published hash is
        held to the one of its first download. Raises UserError, with the file, where it was looked for and its place in
        the cache, where no source gives the right bytes, within ten seconds where none answers at all.
        """
        if self.task not in TASKS:
            raise UserError(f"{self.name} is listed, but not read: {self.task} is not part of the study")
        if _is_there(self):
            return self.place
        try:
            cache().mkdir(parents=True, exist_ok=True)
            with alone(self.place):
                if not _is_there(self):  # another process may have fetched it in the meantime
                    _bring(self)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"{self.place} could not be written ({reason}): free some space, or {ELSEWHERE}") from None
        return self.place


def cache() -> Path:
    """The folder that official files are kept in, below the user's cache."""
    return user_cache() / "official"


@lru_cache
def _read(table: Path) -> dict[str, Official]:
    known = {}
    try:
        with table.open(newline="") as lines:
            for row in csv.DictReader(lines):
                size = int(row["size"]) if row["size"] else None
                texts = {"local": row["local"] == "yes", "urls": tuple(row.pop("url").split())}
                known[row["name"]] = Official(**row | texts | {"scale": int(row["scale"]), "size": size})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{table} is damaged: install again, or restore it with git") from None
    return known


def listed() -> dict[str, Official]:
    """All that is known of official files, by name."""
    return _read(TABLE)


def find(source: str | Path) -> Official | None:
    """The official file of a name such as "official/swinir-light-x4"; None for what is not such a name, or is a file.

    Raises UserError, with names that look alike, for a name that is not listed.
    """
    name = Path(source).as_posix()
    if not name.startswith(PREFIX) or Path(source).suffix or Path(source).exists():
        return None
    if name not in listed():
        near = difflib.get_close_matches(name, listed(), n=4, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UserError(f"no official weights are called {name!r}: {hint}`rvlib models` lists them")
    return listed()[name]


def _is_there(official: Official) -> bool:
    """Whether the right bytes are in the cache; a file that was put there by hand is recorded when it is first seen."""
    if not official.place.is_file() or _fault(official.place, official):
        return False
    if not official.expected:
        with suppress(UserError, OSError):  # a cache that cannot be written keeps no record
            _record(official)
    return True


def _bring(official: Official) -> None:
    sources = [*mirrored(f"{PREFIX}{official.file}"), *official.urls]
    fault = _fault(official.place, official) if official.place.is_file() else ""
    if fault and sources:
        print(f"{official.place} is damaged: it is fetched again", file=sys.stderr)
    if sources:
        kind = f"{official.size / 1e6:.0f} MB" if official.size else "size not published"
        print(
            f"fetching {official.name} ({kind}; licence: {official.licence}; from {official.page})\n"
            f"cite: {METHODS[official.method].paper}",
            file=sys.stderr,
        )
    downloads, part = Downloads(at_first=2), official.place.with_name(f"{official.file}.part")
    verify = partial(_verify, official=official)
    bar = {"desc": official.name, "unit": "B", "unit_scale": True, "leave": False}
    try:
        with tqdm(total=official.size, initial=length(part), disable=not sources, **bar) as downloads.bar:
            _patiently(downloads, partial(downloads.bring, sources, official.place, size=official.size, verify=verify))
    except SourceError as error:
        raise UserError(_by_hand(official, str(error), fault)) from None
    if len(official.sha256) < 64:
        _record(official)
        print(f"no hash of {official.file} is published: {official.record} holds it to this one", file=sys.stderr)


def _patiently(downloads: Downloads, work: partial) -> None:
    """Do the work, but give up where nothing is heard: a name server or a firewall may stay silent for minutes."""
    outcome, started = Future(), monotonic()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        while not wait([outcome], timeout=0.1).done:
            if not downloads.heard.is_set() and monotonic() - started > PATIENCE:
                raise SourceError(f"{', '.join(work.args[0])}: no answer within {PATIENCE} seconds")
        outcome.result()
    except CancelledError:
        raise SourceError("it was stopped") from None
    finally:
        downloads.stop.set()


def _by_hand(official: Official, problem: str, fault: str) -> str:
    """What is wrong, and what someone can do about it who has a browser or another machine.

    problem: of the sources, if there are any; fault: of the file that is there, if one is.
    """
    wrong = f"{official.file} ({official.name}) could not be fetched: {problem}. " if problem else ""
    if fault and not problem:
        wrong = f"{official.place} is not {official.name}: wrong bytes, {fault}. "
    if not official.urls:
        wrong = wrong or f"{official.name} has no address of its own. "
    held = f" (or remove {official.record} if the file has changed for good)" if official.record.is_file() else ""
    again = "Check the internet connection and try again, set RV_MIRROR to a place that has it in its folder official, "
    again += "or get"
    return f"{wrong}{again if official.urls else 'Get'} it from {official.page} and put it at {official.place}{held}"


def _fault(path: Path, official: Official) -> str:
    """What is wrong with the bytes of a file that should be this one; empty where nothing is."""
    if official.size not in (None, length(path)):
        return f"{length(path)} of them instead of {official.size}"
    found, expected = sha256(path), official.expected
    if not found.startswith(expected):
        return f"SHA-256 {found} instead of {expected}"
    with path.open("rb") as file:  # torch writes an archive, or a pickle
        is_checkpoint = is_zip(path) or file.read(1) == b"\x80"
    return "" if is_checkpoint else "no checkpoint (a web page, perhaps)"


def _verify(part: Path, *, official: Official) -> None:
    fault = _fault(part, official)
    if fault:
        raise SourceError(f"wrong bytes, {fault}")


def _record(official: Official) -> None:
    write_text(official.record, f"{sha256(official.place)}  {official.file}\n")
