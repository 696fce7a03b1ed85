"""Golden vectors of the official implementations: what they compute from weights and inputs that a rule makes.

The rule is an exact integer hash, so weights need not be stored: `u01(seed, n)` gives n numbers in [0, 1), each key of
a state_dict is filled from its own seed, and the stored outputs are the official code's, evaluated in float64.
"""

import json
import lzma
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parent / "goldens"


@cache
def _index() -> dict[str, dict]:
    return {entry["id"]: entry for entry in json.loads((FOLDER / "index.json").read_text())["entries"]}


def entry(name: str) -> dict:
    """One golden by its id."""
    return _index()[name]


def tensors(name: str) -> dict[str, Tensor]:
    """The stored tensors of a golden: in.*, out.*, mid.*, buf.*, w.*."""
    return load_file(FOLDER / entry(name)["file"])


@cache
def official() -> dict[str, dict]:
    """The full-size official configurations: key lists, parameter counts and samples of the output."""
    return json.loads(lzma.decompress((FOLDER / "official.json.xz").read_bytes()))


def u01(seed: int, count: int) -> np.ndarray:
    """Rule v1: float64 numbers in [0, 1) from an integer hash of their position."""
    mask = np.uint64(0xFFFFFFFF)
    h = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) & mask
    h = h + np.uint64((seed * 40503 + 12345) % 2**32) & mask
    for _ in range(2):
        h ^= h >> np.uint64(16)
        h = h * np.uint64(0x45D9F3B) & mask
    h ^= h >> np.uint64(16)
    return h.astype(np.float64) / 2**32


def made_input(shape: tuple[int, ...], seed: int) -> Tensor:
    """An input image by the rule: float32 in [0, 1)."""
    return torch.from_numpy(u01(seed, int(np.prod(shape))).astype(np.float32).reshape(shape))


def made_noise(batch: int, seed: int) -> Tensor:
    """Noise by the rule: float32 (batch, 256), uniform with variance 1."""
    return torch.from_numpy((np.sqrt(3) * (2 * u01(seed, batch * 256) - 1)).astype(np.float32).reshape(batch, 256))


KINDS = {
    "weight": lambda u, shape: u * np.sqrt(3 / (u.size // shape[0])),
    "bias": lambda u, shape: 0.2 * u,
    "norm": lambda u, shape: 1 + 0.2 * u,
    "prelu": lambda u, shape: 0.25 + 0.1 * u,
    "rmean": lambda u, shape: 0.1 * u,
    "rvar": lambda u, shape: 1 + 0.5 * u,
    "layerscale": lambda u, shape: 0.3 + 0.2 * u,
    "temperature": lambda u, shape: 2 + u,
    "rpb": lambda u, shape: 0.5 * u,
}


def weights(keys: list, salt: int = 0) -> dict[str, Tensor]:
    """The rule's weights for keys [name, shape, dtype, kind, j]; derived buffers and aliases are not filled."""
    state = {}
    for name, shape, _, kind, j in keys:
        if kind in KINDS:
            u = 2 * u01(j + 1000 * salt, int(np.prod(shape))) - 1
            state[name] = torch.from_numpy(KINDS[kind](u, shape).astype(np.float32).reshape(shape))
    return state


def assert_equal_to_golden(model: torch.nn.Module, name: str) -> None:
    """The model, with the golden's weights, computes the golden's outputs within its tolerance."""
    golden, stored = entry(name), tensors(name)
    with torch.no_grad():
        for each in golden["inputs"]:
            restored = model(stored[each["key"]])
            error = (restored - stored[each["out"]]).abs().max()
            assert error <= golden["atol"], f"{name} {each['key']}: {error} > {golden['atol']}"


def assert_gradients_equal_to_golden(model: torch.nn.Module, name: str) -> None:
    """The gradient of mean |model(in.0) - target| has the golden's loss and norms, per parameter."""
    golden = entry(name)
    first = tensors(name)["in.0"].double().requires_grad_()
    model = model.double()
    restored = model(first)
    loss = (restored - made_input(tuple(restored.shape), 9001).double()).abs().mean()
    loss.backward()
    expected = golden["grad"]
    np.testing.assert_allclose(loss.item(), expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(first.grad.norm().item(), expected["input_grad_norm"], rtol=1e-4)
    found = {key: parameter.grad.norm().item() for key, parameter in model.named_parameters()}
    assert found.keys() == expected["norms"].keys()
    for key, norm in expected["norms"].items():
        np.testing.assert_allclose(found[key], norm, rtol=1e-3, atol=1e-7, err_msg=key)
