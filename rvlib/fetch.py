"""Fetching: the manifest says which bytes, the sources say where from, the hash decides what is kept."""

import hashlib
import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pandas as pd
import requests
from tqdm import tqdm

from rvlib.errors import UserError

MANIFEST = Path(__file__).parent / "manifest.csv"
GITHUB = "https://raw.githubusercontent.com"
ATTEMPTS = 4
PARALLEL = 8
CHUNK = 2**16


class _WrongBytesError(Exception):
    """A source answered, but not with the file of the manifest."""


def manifest() -> pd.DataFrame:
    """One row per file: set, split, role, source, path, file, licence, size in bytes, sha256."""
    return pd.read_csv(MANIFEST)


def fetch(sets: list[str], target: str | Path, *, progress: bool = True) -> None:
    """Bring whole sets to `<target>/<set>/<split>/<role>/<file>`; what is there and right is kept.

    Raises UserError for an unknown set, for a file that no source gives with the manifest's hash, and for a full disk;
    files that arrived stay, so fetching again goes on from there.
    """
    listed = manifest()
    unknown = [name for name in sets if name not in set(listed["set"])]
    if unknown:
        known = ", ".join(dict.fromkeys(listed["set"]))
        raise UserError(f"unknown set {', '.join(map(repr, unknown))}: choose among {known}")
    target = Path(target)
    rows = [row for row in listed[listed["set"].isin(sets)].itertuples() if not _is_there(_place(target, row), row)]
    total = sum(row.size for row in rows)
    bar = tqdm(total=total, desc="fetching", unit="B", unit_scale=True, disable=not (progress and rows))
    with bar, ThreadPoolExecutor(PARALLEL) as pool:
        jobs = [pool.submit(_get, row, _place(target, row)) for row in rows]
        try:
            for job in as_completed(jobs):
                bar.update(job.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _place(target: Path, row) -> Path:
    return target / row.set / row.split / row.role / row.file


def _is_there(path: Path, row) -> bool:
    return path.is_file() and path.stat().st_size == row.size and _sha256(path) == row.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sources(row) -> Iterator[str]:
    """Where a file can come from, the mirror first."""
    if row.source == "wheel":
        package, _, inside = row.path.partition("/")
        yield str(Path(importlib.util.find_spec(package).origin).parent / inside)
        return
    mirror = os.environ.get("RV_MIRROR")
    if mirror:
        is_web = mirror.startswith(("http://", "https://"))
        yield f"{mirror.rstrip('/')}/{row.path}" if is_web else str(MANIFEST.parent.parent / mirror / row.path)
    yield f"{GITHUB}/{row.path}"


def _get(row, place: Path) -> int:
    """Get one file from the first source that gives the right bytes; returns its size."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        problems = []
        for source in _sources(row):
            try:
                _download(source, part, row.size)
                found = _sha256(part)
                if found != row.sha256:
                    part.unlink()
                    raise _WrongBytesError(f"wrong bytes (sha256 {found[:12]}… instead of {row.sha256[:12]}…)")
                os.replace(part, place)
                return row.size
            except (_WrongBytesError, requests.RequestException, FileNotFoundError) as error:
                problems.append(f"{source}: {_reason(error)}")
    except OSError as error:
        raise UserError(
            f"{place} could not be written ({error.strerror or error}): free some space, then go on"
        ) from None
    raise UserError(
        f"{row.file} of {row.set} could not be fetched: {'; '.join(problems)}. Check the network, or set RV_MIRROR"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, requests.HTTPError):
        return f"status {error.response.status_code}"
    return str(error) if isinstance(error, _WrongBytesError) else "no connection"


def _download(source: str, part: Path, size: int) -> None:
    """Copy or download into `part`, going on where it ends; dropped connections and 5xx are tried again."""
    if not source.startswith(("http://", "https://")):
        shutil.copyfile(source, part)
        return
    for attempt in range(ATTEMPTS):
        there = part.stat().st_size if part.exists() else 0
        if there > size:
            part.unlink()
            there = 0
        try:
            headers = {"Range": f"bytes={there}-"} if there else {}
            with requests.get(source, headers=headers, stream=True, timeout=20) as answer:
                if answer.status_code == 416:  # nothing after what is there
                    return
                answer.raise_for_status()
                mode = "ab" if answer.status_code == 206 else "wb"  # a server may ignore the range
                with part.open(mode) as file:
                    for chunk in answer.iter_content(CHUNK):
                        file.write(chunk)
                        if file.tell() > size:
                            raise _WrongBytesError(f"more than the {size} bytes of the manifest")
            if part.stat().st_size >= size:
                return
            raise requests.ConnectionError("the connection ended early")
        except requests.HTTPError as error:
            if error.response.status_code < 500 or attempt == ATTEMPTS - 1:
                raise
        except requests.RequestException:
            if attempt == ATTEMPTS - 1:
                raise
        time.sleep(0.5 * 2**attempt)
