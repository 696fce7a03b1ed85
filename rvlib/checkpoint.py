"""Weights in files: rvlib's own safetensors, and the methods' officially published checkpoints.

Nothing in a file is ever executed: safetensors holds tensors alone, and pickles are read with torch's
`weights_only` reader, which builds tensors and plain containers and refuses everything else.
"""

import hashlib
import json
import os
import stat
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rvlib.errors import UserError
from rvlib.files import is_zip, sha256, write_atomically
from rvlib.models import METHODS, create
from rvlib.models.base import WRAPPERS, RestorationModel, unwrapped
from rvlib.models.keys import Recognised

PLACES = [Path(__file__).resolve().parent / "weights", Path(__file__).resolve().parent.parent / "weights"]
WEIGHTS = next((place for place in PLACES if place.is_dir()), PLACES[-1])
"""The released weights, `<name>.safetensors`, and their cards: in an installed package, or in a checkout."""

RENAMED = {"swinir-light-x4": "swinir-small-x4"}
"""Released names of earlier versions, and what they are called now."""

LARGEST_FILE = 4 * 2**30  # bytes; the largest official checkpoint (NAFNet SIDD width 64) takes 0.5 GB
LARGEST_SIZES = 10_000  # sum of all sizes that metadata may ask for before a model is built; SwinIR-L asks for 400
LARGEST_BUFFERS = 2**28  # numbers that a model may hold beside what its file brings
# the first that a file has is taken: averaged before raw weights
DICTIONARIES = ("params_ema", "params", "ema_state_dict", "state_dict_ema", "state_dict")
PREFIXES = tuple(f"{wrapper}." for wrapper in WRAPPERS)  # left by DataParallel and by torch.compile


def save(model: RestorationModel, path: str | Path, *, half: bool = False, **details) -> None:
    """Write a model's weights as safetensors, atomically; the metadata get its name, arguments, method and `details`.

    `half=True` stores parameters in half precision, which halves the file. A hash of everything is in the metadata too:
    safetensors itself would not notice a flipped bit. Raises UserError for a name without `.safetensors`, and for
    details that would take the place of these.
    """
    model, path = unwrapped(model), Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: weights are written as safetensors: choose a name that ends in .safetensors")
    taken = details.keys() & {"name", "arguments", "sha256"}
    if taken:
        raise UserError(f"{', '.join(sorted(taken))}: that is written anyway: call the detail something else")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if half:  # statistics and schedules stay as they are: a network reacts to them more than to a weight
        state |= {key: state[key].half() for key, _ in model.named_parameters()}
    method = {} if model.method is None else {"method": model.method}
    described = json.loads(json.dumps({**model.spec, **method, **details}))  # as it is read again: tuples become lists
    described["sha256"] = _digest(state, described)
    metadata = {"rvlib": json.dumps(described, sort_keys=True)}  # one key alone: several come in random order

    def write(temporary: str) -> None:
        mode = stat.S_IMODE(os.stat(temporary).st_mode)
        save_file(state, temporary, metadata=metadata)  # which puts a file of its own there
        os.chmod(temporary, mode)

    write_atomically(path, write)


def released() -> list[str]:
    """Names of the weights that ship with the project, as `load` takes them."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def load(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    scale: int | None = None,
    local: bool | None = None,
    train_size: tuple[int, int] | None = None,
    img_range: float | None = None,
) -> RestorationModel:
    """Build the model that a file of weights belongs to, with those weights, in eval mode.

    `source` is a released name, the name of official weights ("official/swinir-light-x4"), which are fetched on first
    use, an rvlib `.safetensors` file, the folder of a training run, an ONNX file of `export` or an official checkpoint.
    `device` is a name of torch's, or "auto": a GPU where there is one, else the CPU. The hints are for what weights
    cannot tell: `scale` (FSRCNN, SRCNN; default 4), `local` and `train_size` (NAFNet's and Baseline's test-time local
    converter), `img_range` (SwinIR). Official weights by name need none: they restore as they were published.
    Raises UserError, naming what is wrong, for everything else, also for a hint that contradicts the file or that its
    network has no use for.
    """
    known = _official(source)
    if known is not None:
        if scale not in (None, known.scale):
            raise UserError(
                f"{known.name} holds weights for scale {known.scale}, not for scale {scale!r}: leave the scale out"
            )
        scale = known.scale
        if local is None and known.local:
            local = True
    path = _find(source) if known is None else known.fetch()
    hints = {"local": local, "train_size": train_size, "img_range": img_range}
    hints = {name: value for name, value in hints.items() if value is not None}
    if path.suffix == ".onnx":
        return _onnx(path, hints if scale is None else hints | {"scale": scale}, device)
    state, described = _read(path)
    if described is None:
        name, arguments, state = _recognise(path, state, hints if scale is None else hints | {"scale": scale})
    else:
        name, arguments = described["name"], described["arguments"]
        if hints:
            raise UserError(f"{path} says itself what it is: load it without {', '.join(hints)}")
    try:
        if _sum_of_sizes(arguments) > LARGEST_SIZES + len(state):
            raise ValueError("its sizes are far too large")
        with torch.device("meta"):  # shapes first, memory after: a wrong file costs nothing
            blueprint = create(name, **arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError) as error:
        raise UserError(
            f"{path} describes a model that cannot be built ({error}): get it again, or take another file"
        ) from None
    if scale is not None and blueprint.scale != scale:
        raise UserError(
            f"{path} holds weights for scale {blueprint.scale}, not for scale {scale!r}: leave the scale out"
        )
    _compare(path, name, blueprint.state_dict(), state)
    if sum(buffer.numel() for buffer in blueprint.buffers()) > LARGEST_BUFFERS:
        raise UserError(f"{path} describes a model that does not fit into memory: get it again")
    model = create(name, **arguments)
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise UserError(f"{path} holds numbers of a kind that {name} cannot take: get it again") from None
    for key, value in model.state_dict().items():
        if not value.isfinite().all():
            raise UserError(
                f"{path} holds numbers that are not finite (in {key}), as a failed training does: get it again"
            )
    model.method = _method(described)
    licence = "Apache-2.0" if path.parent == WEIGHTS else ""
    if known is not None:
        model.method, model.task, licence = known.method, known.task, known.licence
    model.source = {"file": path.name, "sha256": sha256(path), "licence": licence}
    return _on(model, device).eval()


def _onnx(path: Path, hints: dict, device: str | torch.device) -> RestorationModel:
    """The network of an ONNX file, which says itself what it is, and which onnxruntime's CPU computes."""
    from rvlib.edge import OnnxModel  # here: what restores is imported after what loads

    if hints:
        raise UserError(f"{path} says itself what it is: load it without {', '.join(hints)}")
    if str(device).partition(":")[0] not in ("auto", "cpu"):
        raise UserError(f"{path} is computed by the CPU, not by {device}: choose auto or cpu")
    return OnnxModel(path).eval()


def automatic_device() -> torch.device:
    """The GPU of this process, Apple's where there is one of those, and else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type != "cuda":
        return found or torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())  # one each


def _on(model: RestorationModel, device: str | torch.device) -> RestorationModel:
    """Move a model to a device, or to the `automatic_device`; raises UserError where there is none of that name."""
    if str(device).partition(":")[0] == "meta":
        raise UserError("the device meta holds no numbers: choose auto or cpu")
    try:
        return model.to(automatic_device() if str(device) == "auto" else torch.device(device))
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # each backend has its own
        reason = (str(error).strip() or "not available").splitlines()[0][:120]
        if reason.startswith("Expected one of"):  # a list of all that torch could be built for
            reason = "unknown"
        raise UserError(f"there is no device {str(device)!r} here ({reason}): choose auto or cpu") from None


def is_released(source: str | Path) -> bool:
    """Whether `load` takes this for the name of released weights: a file that is called so goes before."""
    return str(source) in (*released(), *RENAMED) and not os.path.exists(source)


def signature(source: str | Path) -> str:
    """What a result says of the weights that made it: their name, or a file's with the beginning of its SHA-256."""
    if is_released(source) or (str(source).startswith("official/") and not os.path.exists(source)):
        return RENAMED.get(str(source), str(source))
    name = f"{Path(source).name} ({sha256(_find(source))[:8]})".replace(";", ",")
    return name.encode("ascii", "replace").decode()


def _official(source: str | Path):
    """What is known of official weights that `load` was asked for by name, or None."""
    if not str(source).startswith("official/"):
        return None
    from rvlib import official  # here, since a library for downloads takes a third of a second to import

    return official.find(source)


def _find(source: str | Path) -> Path:
    """The file that `load` was asked for: a released name has neither folders nor a suffix."""
    if not str(source):  # of "a+" in a list of models, say
        raise UserError(f"a model without a name: give one of {', '.join(released())}, or a file of weights")
    path = Path(source)
    if os.path.isdir(path) and str(source) not in released():  # of a run
        return path / "last.safetensors"
    if os.path.isfile(path) or path.suffix or len(path.parts) > 1:
        return path
    name = path.name
    if name in RENAMED and name not in released():
        warnings.warn(f"{name} is called {RENAMED[name]} now", stacklevel=3)
        name = RENAMED[name]
    if name not in released():
        known = ", ".join(released()) or "none yet"
        raise UserError(f"no released weights are called {str(source)!r}: there are {known}; or give a file")
    return WEIGHTS / f"{name}.safetensors"


def _method(described: dict | None) -> str | None:
    """The method that trained a file's weights; files from before that was stored name the recipe of their training."""
    described = described or {}
    training = described.get("training")
    recipe = training.get("method") if isinstance(training, dict) else None
    for key, method in METHODS.items():
        if key == described.get("method") or recipe in list(method.recipes):
            return key
    return None


def read_saved(path: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors that `save` wrote into a file, and its metadata; raises UserError where it is damaged."""
    state, described = _read_safetensors(path)
    return state, described or {}


def read_metadata(path: Path) -> dict:
    """The metadata of `read_saved` alone."""
    return read_saved(path)[1]


def _recognise(path: Path, state: dict[str, Tensor], hints: dict) -> Recognised:
    tried = set()  # the methods of a family share a function
    for method in METHODS.values():
        if method.recognise in tried:
            continue
        tried.add(method.recognise)
        try:
            found = method.recognise(state, **{name: hints[name] for name in method.hints if name in hints})
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (ValueError, LookupError, ArithmeticError, RuntimeError, TypeError, StopIteration):
            name = method.title
            raise UserError(
                f"{path} is damaged, it has keys of {name} with shapes that no {name} has: get it again, or take "
                f"another file"
            ) from None
        if found is None:
            continue
        useless = hints.keys() - {"scale", *method.hints}  # a scale is compared with the network's
        if useless:
            raise UserError(
                f"{path} holds {found.name}, which has no use for {', '.join(sorted(useless))}: leave "
                f"{'it' if len(useless) == 1 else 'them'} out"
            )
        if "scale" in method.hints and "scale" not in hints:
            guessed = f"x{found.arguments['scale']}"
            warnings.warn(
                f"{path} does not tell its scale: {guessed} is assumed; to change it, give --scale (restore, evaluate, "
                f"export, adapt) or scale= in Python",
                stacklevel=3,
            )
        return found
    some = ", ".join(list(state)[:3])
    titles = ", ".join(method.title for method in METHODS.values())
    raise UserError(f"{path} holds no network of this study (first keys: {some}): take weights of {titles}")


def _sum_of_sizes(arguments: object) -> int:
    """Layers, channels and the like, summed: what building a model costs, before it is built."""
    if isinstance(arguments, dict | list | tuple):
        return sum(map(_sum_of_sizes, arguments.values() if isinstance(arguments, dict) else arguments))
    return abs(arguments) if isinstance(arguments, int) else 0


def _digest(state: dict[str, Tensor], described: dict) -> str:
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for key in sorted(state):
        digest.update(f"{key} {state[key].dtype} {tuple(state[key].shape)}".encode())
        digest.update(state[key].flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _compare(path: Path, name: str, expected: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    faults = [f"{key} is missing" for key in expected if key not in state]
    faults += [f"{key} is not part of {name}" for key in state if key not in expected]
    faults += [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    faults += [f"{key} holds {value.dtype} numbers" for key, value in state.items() if value.is_complex()]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(
            f"{path} does not fit {name}: {'; '.join(faults[:3])}{more}. Get it again, or take another file"
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    """State of a file and, for rvlib's own files, what its metadata say about it."""
    if not os.path.isfile(path):
        raise UserError(f"{path} does not exist: give a file of weights or one of {', '.join(released()) or '(none)'}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read: change its permissions")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(
            f"{path} is larger than {LARGEST_FILE / 2**30:.0f} GiB, and no checkpoint of this study is: take another "
            f"file"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _unwrap(path, _read_pickle(path)), None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict | None]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
        described = json.loads(metadata["rvlib"]) if "rvlib" in metadata else None
        if described is not None and not (
            isinstance(described["name"], str) and isinstance(described["arguments"], dict)
        ):
            raise TypeError
        if described is None and any('"arguments"' in value for value in metadata.values()):
            raise KeyError  # ours, under a damaged name
        digest = described.pop("sha256", None) if described else None
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no readable safetensors file ({error}): it may be truncated, get it again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        raise UserError(f"{path} has damaged metadata: get it again") from None
    if digest is not None and digest != _digest(state, described):
        raise UserError(f"{path} is damaged, its hash is not the one it was written with: get it again")
    return (state, described) if described is not None else (_unwrap(path, state), None)


def _read_pickle(path: Path) -> object:
    if is_zip(path):
        check_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols, which no user can change
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the reader raises many types for damaged bytes, and one for what is no tensor
        raise UserError(
            f"{path} is damaged, truncated or no checkpoint of tensors alone: get it again (nothing in it was executed)"
        ) from None


def check_archive(path: Path) -> None:
    """Raise UserError for a bomb, and for a damaged member of an archive that torch wrote and reads unchecked."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            is_bomb = size > max(1.1 * path.stat().st_size, 2**20)  # torch stores, it never compresses
            damaged = None if is_bomb else archive.testzip()
    except Exception as error:  # the reader raises many types for damaged bytes
        raise UserError(f"{path} is a damaged archive ({error}): get it again") from None
    if is_bomb:
        raise UserError(
            f"{path} would unpack to {size / 2**20:.0f} MiB, and torch never writes such a file: take another file"
        )
    if damaged is not None:
        raise UserError(f"{path} is damaged ({damaged} has a wrong checksum): get it again")


def _unwrap(path: Path, content: object) -> dict[str, Tensor]:
    for _ in range(2):
        for name in DICTIONARIES:
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
                break
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no state_dict: give a file of weights")
    state = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UserError(
                f"{path} holds no state_dict ({key!r} is of type {type(value).__name__}): give a file of weights"
            )
        while key.startswith(PREFIXES):
            key = key.partition(".")[2]
        state[key] = value
    return state
