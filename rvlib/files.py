"""Files, written so that a kill or a full disk leaves the old one or the new one, never a half; and their hashes."""

import errno
import filecmp
import hashlib
import os
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from rvlib.errors import UserError

ADVICE = {
    errno.EACCES: "change the permissions or choose another folder",
    errno.EPERM: "change the permissions or choose another folder",
    errno.EROFS: "this place is read-only, choose another folder",
    errno.ENOENT: "choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of that name is a file, choose another folder",
    errno.EEXIST: "a part of that name is a file, choose another folder",
    errno.EISDIR: "it is a folder, choose another name",
    errno.ELOOP: "it is a link to itself, choose another name",
    errno.EILSEQ: "choose a name that this file system can hold",
    errno.EINVAL: "choose a name that this file system can hold",
    errno.EMFILE: "close other files or raise the limit (ulimit -n)",
}
"""What mends an error of the file system."""

SPACE = "free some space or choose another folder"
"""What mends every other error of writing."""


def write_atomically(path: str | Path, write: Callable[[str], object]) -> None:
    """Call `write(temporary path)` and put the file in its place in one step; raises UserError where the disk can't.

    A link is written through, an existing file keeps its permissions, and a new one has those that the user's mask
    leaves.
    """
    named, temporary = Path(path), None
    try:
        path, mode = _ready(named)
        temporary = str(path.parent / f".{path.name[:40]}.{secrets.token_hex(6)}.part")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        write(temporary)
        if mode is not None:
            os.chmod(temporary, mode)
        if not (path.is_file() and filecmp.cmp(temporary, path, shallow=False)):  # an unchanged file keeps its time
            os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _failure(named, error) from error.__cause__
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def alone(place: str | Path, refusal: str = "") -> Iterator[None]:
    """Let one process at a time work at a place: another one waits, or with a `refusal` raises it as UserError.

    The lock lies beside the place, which may be set aside meanwhile, and is removed: it would be kept with it.
    """
    place, is_ours = Path(os.path.realpath(place)), False
    lock = place.parent / f".{place.name}.lock"
    with ExitStack() as held:
        try:
            import fcntl  # which some systems do not have

            lock.parent.mkdir(parents=True, exist_ok=True)
            while not is_ours:
                file = held.enter_context(lock.open("a"))
                is_ours = True  # also where the file system has no locks, so that nobody holds one
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
                is_ours = False
                with suppress(FileNotFoundError):  # who held it has removed it, and another may have made one: again
                    is_ours = os.path.samestat(os.fstat(file.fileno()), os.stat(lock))
        except BlockingIOError:
            raise UserError(refusal) from None
        except (OSError, ImportError):  # nothing can be locked there
            pass
        try:
            yield
        finally:
            if is_ours:
                with suppress(OSError):
                    lock.unlink()


def _failure(named: Path, error: Exception) -> Exception:
    """What a user is told of a disk that took no file; what `write` ran into while it computed stays as it is."""
    if not isinstance(error, OSError | SafetensorError):  # safetensors has its own for a full disk
        return error
    return UserError(f"{named} could not be written {reason_of(error, SPACE)}")


def write_text(path: str | Path, text: str) -> None:
    """Write a text to a file as `write_atomically` does."""
    write_atomically(path, lambda temporary: Path(temporary).write_text(text))


def make_ready(path: str | Path) -> None:
    """Make the folder of a file that is to be written; raises UserError, before the work, where it could not be.

    Whether there is enough space only the writing shows.
    """
    try:
        place, _ = _ready(Path(path))
        if not os.access(place.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"{path} could not be written {reason_of(error, SPACE)}") from None


def _ready(path: Path) -> tuple[Path, int | None]:
    """Where a file is to be written, links followed, and the permissions that it has; its folder is made."""
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    place.parent.mkdir(parents=True, exist_ok=True)
    return place, _permissions(place)


def _permissions(path: Path) -> int | None:
    """The mode of a file, None without one; raises IsADirectoryError for a folder, UserError for a device or a pipe."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        raise UserError(f"{path} is a device or a pipe: choose the name of a file")
    return stat.S_IMODE(found)


def reason_of(error: Exception, otherwise: str = "check the disk") -> str:
    """An error of the file system as the end of a sentence: what it is, and what mends it."""
    reason = getattr(error, "strerror", None) or error
    return f"({reason}): {ADVICE.get(getattr(error, 'errno', None), otherwise)}"


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, whole or damaged: by its first bytes, as torch looks, or by its end."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return True
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, ValueError):  # some releases of Python raise for damaged ones
        return True


def sha256(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
