"""A GPU for machines without one: tensors that compute on the CPU, say that they are elsewhere, and refuse to mix.

What `tests/test_gpu.py` starts. `torch` lets a Python class stand for a device (PrivateUse1); here each tensor of it
holds one on the CPU, every operation is looked at before it runs, and one that meets both devices fails as CUDA's
would. It shows where tensors are left behind, and nothing of bf16, cuDNN, NCCL, memory or speed.
"""

import contextlib
import json
import os
import signal
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("gpu")
torch.inference_mode = torch.no_grad  # under which each operation is seen; before rvlib takes it as a decorator
torch.autocast = lambda *_, **__: contextlib.nullcontext()

OPERATIONS = torch.ops.aten
MOVES = {OPERATIONS._to_copy.default, OPERATIONS.copy_.default}
INDEXING = {
    getattr(OPERATIONS, name).__getattr__(kind)
    for name, kind in [
        ("index", "Tensor"),
        ("index_put", "default"),
        ("index_put_", "default"),
        ("_index_put_impl_", "default"),
    ]
}
"""Operations that CUDA lets take positions from the CPU, in their second argument."""


class OnGpu(torch.Tensor):
    """A tensor that says it is on gpu:0."""

    @staticmethod
    def __new__(cls, value: torch.Tensor):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=torch.device("gpu:0"),
            requires_grad=value.requires_grad,
        )
        made.value = value
        return made

    def __repr__(self):
        return f"OnGpu({self.value})"

    def new_tensor(self, values):
        """torch makes it of bytes that this device has none of."""
        return OnGpu(self.value.new_tensor(values))

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), named=None):
        return run(operation, arguments, named or {})


class Watch(TorchDispatchMode):
    """Sees the operations whose inputs are on the CPU alone, such as those that move or make a tensor."""

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        return run(operation, arguments, named or {})


def run(operation, arguments, named):
    """Compute on the CPU; the result is where its inputs are, or where `device` asks for it."""
    inputs = tensors((arguments, named))
    here = any(isinstance(each, OnGpu) for each in inputs)
    if operation not in MOVES and here:
        checked = tensors((arguments[0], arguments[2:])) if operation in INDEXING else inputs
        if any(not isinstance(each, OnGpu) and each.dim() for each in checked):
            raise RuntimeError(f"{operation}: tensors of two devices, gpu:0 and cpu")
    asked = named.get("device")
    plain = tree_map(lambda each: each.value if isinstance(each, OnGpu) else each, (arguments, named))
    if asked is not None:
        plain[1]["device"] = torch.device("cpu")
    result = operation(*plain[0], **plain[1])
    if operation is OPERATIONS._local_scalar_dense.default:
        return result
    if asked is not None:
        stays = torch.device(asked).type == "gpu"
    else:
        stays = isinstance(arguments[0], OnGpu) if operation in MOVES else here
    if stays:
        result = tree_map(lambda each: OnGpu(each) if type(each) is torch.Tensor else each, result)
    if operation is OPERATIONS._to_copy.default or not (stays or here):
        return result
    return return_and_correct_aliasing(operation, arguments, named, result)


def tensors(tree) -> list[torch.Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, torch.Tensor)]


class Accelerator:
    """What `rvlib.train` asks of accelerate, for one process with this GPU."""

    device, num_processes, process_index, is_main_process = torch.device("gpu:0"), 1, 0, True

    def main_process_first(self):
        return contextlib.nullcontext()

    def wait_for_everyone(self):
        pass

    def prepare(self, model):
        return model

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, largest):
        return torch.nn.utils.clip_grad_norm_(list(parameters), largest)


def install():
    """From here on rvlib trains on the emulated GPU."""
    from rvlib import complexity, train

    def save(content, path):
        content = {key: dict(value) if hasattr(value, "items") else value for key, value in content.items()}
        write(tree_map(lambda each: each.detach().cpu() if isinstance(each, OnGpu) else each, content), path)

    write, torch.save = torch.save, save  # which would look for the bytes of a tensor that has none
    train.Accelerator = Accelerator
    complexity.peak_memory = lambda model, *inputs: (model(*inputs), 1000 * inputs[0].numel())[1]
    Watch().__enter__()


def recipes_on_gpu(methods: str, run: str) -> None:
    """Train each method on the CPU, on the GPU, and on the GPU with a stop in between."""
    import small
    from two_processes import SMALL

    from rvlib import recipes

    photos = small.photos()
    facts = {"steps": 6, "validate_every": 3, "patch_size": 32, "batch_size": 4, "validation": photos, "accumulate": 2}

    def stop(log):
        if log["step"].iloc[-1] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    for place in ("cpu", "gpu", "parts", "parts"):
        if place == "gpu":
            install()
        for method in methods.split(","):
            start = small.before(method)
            told = {"on_log": stop} if place == "parts" else {}
            arguments = {**SMALL[method], "stage": 1} if method == "diffir-s1" else SMALL[method]
            try:
                model, _ = recipes.train(
                    method, photos, run=f"{run}/{place}/{method}", start=start, arguments=arguments, **facts, **told
                )
            except KeyboardInterrupt:
                continue
            for each in (model, start or model):
                assert {parameter.device.type for parameter in each.parameters()} == {"cpu"}
    try:
        torch.ones(2, device="gpu:0") + torch.ones(2)
    except RuntimeError as error:
        assert "two devices" in str(error)
        print(json.dumps({"mixing": "refused"}))


def notebook_on_gpu(name: str, runs: str) -> None:
    """Run the training cells of a notebook on the GPU, two steps of each; what they leave behind is on the CPU."""
    from pathlib import Path

    from rvlib import recipes, study
    from rvlib.study import notebooks

    def two_steps(method, references, **settings):
        return train(method, references, **settings | {"steps": 2, "validate_every": 2, "batch_size": 2})

    train, recipes.train = recipes.train, two_steps
    study.run_folder = lambda profile, run: Path(runs) / run
    install()
    left, trained = {}, 0
    for cell in notebooks.read_twin(name).cells:
        if {"training", "parameters"} & set(cell.metadata.get("tags", [])):
            exec(compile(cell.source, name, "exec"), left)
    for each in [one for value in left.values() for one in (value.values() if isinstance(value, dict) else [value])]:
        for part in each if isinstance(each, tuple) else [each]:
            if isinstance(part, torch.nn.Module):
                trained += 1
                assert {parameter.device.type for parameter in part.parameters()} == {"cpu"}, name
    assert trained, f"{name} leaves no network"
    print(json.dumps({"networks": trained}))


if __name__ == "__main__":
    {"recipes": recipes_on_gpu, "notebook": notebook_on_gpu}[sys.argv[1]](*sys.argv[2:])
