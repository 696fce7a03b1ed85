"""A shelf: decoded photos in one file, which all processes of a machine map into memory once."""

import json
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from rvlib.errors import UserError
from rvlib.files import alone, reason_of, write_text
from rvlib.processes import Accelerator

PATIENCE = 600  # seconds for one photo


class Shelf(Mapping):
    """Photos (uint8 H x W x 3) by name, read from their file where they are looked at, and handed on as its path."""

    def __init__(self, file: Path):
        """`file` is what `write` made."""
        self.file = Path(file)
        self.places = json.loads(_index(self.file).read_text())
        self.bytes = np.memmap(self.file, np.uint8, mode="r") if self.file.stat().st_size else np.empty(0, np.uint8)

    def __getitem__(self, name: str) -> np.ndarray:
        start, shape = self.places[name]
        return self.bytes[start : start + int(np.prod(shape))].reshape(shape).view(np.ndarray)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __reduce__(self):
        return Shelf, (self.file,)


def write(photos: Iterable[tuple[str, np.ndarray]], file: Path) -> Shelf:
    """Put photos onto a shelf, one after the other, so that no more than one of them is in memory."""
    places, position = {}, 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # a training that has it mapped keeps its photos
        with open(file, "wb") as shelf:
            for name, photo in photos:
                places[name] = (position, photo.shape)
                shelf.write(np.ascontiguousarray(photo, np.uint8).data)
                position += photo.size
        write_text(_index(file), json.dumps(places))
    except OSError as error:
        raise UserError(f"{file} could not be written {reason_of(error, 'its disk must hold all photos')}") from None
    return Shelf(file)


def place(run: str | Path) -> Path:
    """The folder beside a run where this machine's processes share what they read; `clear` removes it."""
    run = Path(run).absolute()
    return run.parent / f".{run.name}.shared-{socket.gethostname()}"


def clear(run: str | Path) -> None:
    """Remove a run's shelves, but not those of a training that is at work; what is mapped stays readable."""
    if place(run).exists():
        with suppress(UserError), alone(run, "in use"):
            shutil.rmtree(place(run), ignore_errors=True)


def shared(photos: Iterable[tuple[str, np.ndarray]], run: str | Path, name: str) -> Mapping[str, np.ndarray]:
    """Photos by name: in memory for one process, on a shelf that one process of each machine fills for several."""
    accelerator = Accelerator()
    if accelerator.num_processes == 1:
        return dict(photos)
    first = accelerator.process_index - accelerator.local_process_index  # who fills it: two machines may share a name
    file = place(run) / f"{name}-{first}.u8"
    if accelerator.is_local_main_process:
        with suppress(OSError):  # what is wrong there, `write` says
            _index(file).unlink()  # of a run that was killed
    accelerator.wait_for_everyone()
    if accelerator.is_local_main_process:
        return write(photos, file)
    grew = time.time()
    while not _index(file).exists():  # a barrier would give up before all photos are decoded
        with suppress(OSError):  # before its first photo
            grew = max(grew, file.stat().st_mtime)
        if time.time() - grew > PATIENCE:
            raise UserError(
                f"{file} has not grown for {PATIENCE} seconds, the process that fills it has died: start again"
            )
        time.sleep(0.1)
    return Shelf(file)


def _index(file: Path) -> Path:
    return file.with_suffix(".json")
