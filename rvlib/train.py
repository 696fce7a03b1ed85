"""One training loop for every method: what is minimised comes in as a function, the rest is here.

Batch k, the learning rate at step k and the random numbers of step k are functions of k, so a run that was stopped
anywhere resumes exactly. `rvlib.runs` keeps a run in its folder, `rvlib.processes` starts several processes.
"""

import copy
import json
import math
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from inspect import isfunction
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from rvlib.errors import UserError
from rvlib.fingerprint import code
from rvlib.models import builder
from rvlib.models.base import RestorationModel
from rvlib.pairs import Patches
from rvlib.processes import share
from rvlib.runs import Run
from rvlib.settings import OPTIMIZERS, Batch, Objective, Settings


class Training:
    """What a run computes: the weights, their average and the optimizer, and how a step changes them."""

    def __init__(
        self,
        model: RestorationModel,
        objective: Objective,
        patches: Patches,
        settings: Settings,
        accelerator: Accelerator,
    ):
        self.objective, self.patches, self.settings, self.accelerator = objective, patches, settings, accelerator
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(accelerator.device, memory_format=self.layout)
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = OPTIMIZERS[settings.optimizer](
            _groups(model), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self.part = share(settings.batch_size, accelerator)
        self.prepared = None

    def step(self, number: int, *, measure: bool = False) -> tuple[dict[str, float], list[str], dict[str, float]]:
        """Train on batch `number`: the values of the objective, the names of its photos, and numbers for a proof.

        A loss that is not finite changes no weight. The numbers (`measure=True`) are the means of both images, the
        loss, the norm of the gradient, the learning rate and the distance of the averaged weights.
        """
        settings, device = self.settings, self.accelerator.device
        if self.prepared is None:
            self.prepared = self.accelerator.prepare(self.model)
        self.prepared.train()
        _seed((settings.seed * 1_000_003 + number) * 1_009 + self.accelerator.process_index, device)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(number) * group["factor"]
        degraded, reference, names = self.patches.batch(number, settings.batch_size, part=self.part)
        images = (each.to(device, memory_format=self.layout) for each in (degraded, reference))
        values = self._backward(Batch(*images, number))
        if not math.isfinite(values["loss"]):
            return values, names, {}
        largest = math.inf if settings.clip_norm is None else settings.clip_norm
        if measure or settings.clip_norm is not None:
            gradient = self.accelerator.clip_grad_norm_(self.prepared.parameters(), largest)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._follow(number)
        if not measure:
            return values, names, {}
        numbers = {"degraded": float(degraded.mean()), "reference": float(reference.mean())}
        numbers |= {"loss": values["loss"], "gradient": float(gradient), "learning_rate": settings.rate(number)}
        return values, names, numbers | {"average": self._distance()}

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Gradients of one batch, in `accumulate` parts; returns the values of the objective as numbers."""
        values, parts = {}, self.settings.accumulate
        for small, large in zip(batch.degraded.chunk(parts), batch.reference.chunk(parts), strict=True):
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.settings.bf16):
                terms = self.objective(self.prepared, Batch(small, large, batch.step))
            self.accelerator.backward(terms["loss"] / parts)
            for name, value in terms.items():
                values[name] = values.get(name, 0.0) + float(value.detach()) / parts
        return values

    @torch.no_grad()
    def _follow(self, number: int) -> None:
        """θ̄ ← β θ̄ + (1 - β) θ, where β = min(decay, (1 + k) / (10 + k)) forgets the start faster."""
        beta = min(self.settings.ema, (1 + number) / (10 + number))
        # one call for all tensors: a loop over hundreds of small ones takes longer than a small network's step
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - beta)
        for mean, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
            mean.copy_(now)  # running statistics are averages already

    @torch.no_grad()
    def _distance(self) -> float:
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        return math.sqrt(sum(float((mean - now).double().square().sum()) for mean, now in pairs))


def fit(
    model: RestorationModel,
    objective: Objective,
    patches: Patches,
    settings: Settings,
    *,
    run: str | Path,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    facts: dict | None = None,
    replace: bool = False,
    on_log: Callable[[pd.DataFrame], None] | None = None,
) -> pd.DataFrame:
    """Train `model` in place and return the log; afterwards it holds the averaged weights, in eval mode.

    What is validated and saved is `model.restorer()`: the generator alone of SRGAN's `Adversaries`.
    A run in the folder `run` that was stopped is resumed, and a complete one is taken as it is (`rvlib.runs`). A
    different run in that folder is an error, or with `replace=True` is set aside; `facts` add to its identity.
    `validate(model) -> {"psnr...": ...}` gets the averaged weights; its first value chooses the best. Raises UserError
    if the loss stops being finite, with the step, the photos and the state to go back to, and KeyboardInterrupt, with
    everything saved, on Ctrl-C and SIGTERM.
    """
    accelerator = Accelerator()
    training = Training(model, objective, patches, settings, accelerator)
    state = Run(run, training.model, training.average, training.optimizer, is_main=accelerator.is_main_process)

    def replay(steps: int) -> list[dict[str, float]]:
        return [training.step(state.step + index, measure=True)[2] for index in range(steps)]

    alone = accelerator.num_processes == 1
    with accelerator.main_process_first():  # the other processes wait until a replaced run is set aside
        identity = _identity(model, objective, patches, settings) | (facts or {})
        state.open(identity, replace=replace, replay=replay if alone else None)
    is_complete = state.step >= settings.steps
    if is_complete and state.is_main:  # its files may have been damaged or removed since
        state.publish()
    if not is_complete:
        threads, device = torch.get_num_threads(), accelerator.device
        state.note_resumed(device=_device(device), threads=threads, processes=accelerator.num_processes)
    bar = tqdm(total=settings.steps, initial=state.step, desc=state.folder.name, unit="step", disable=not state.is_main)
    on_log = on_log or _live_curve()
    with bar, _stop_requested() as stop:
        while state.step < settings.steps and not stop.is_set():
            started = time.perf_counter()
            values, names, numbers = training.step(state.step, measure=state.wants_numbers)
            if not math.isfinite(values["loss"]):
                raise UserError(
                    f"the loss is {values['loss']} at step {state.step + 1}, on patches of "
                    f"{', '.join(sorted(set(names)))}; the last good state is that of step {state.saved_step}: "
                    f"lower learning_rate or set clip_norm"
                )
            if numbers:
                state.keep(numbers)
            state.advance(values, time.perf_counter() - started)
            bar.update()
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                scores = validate(state.weights) if validate is not None else {}
                rate = settings.rate(state.step - 1)
                state.log({"learning_rate": rate, "seconds": round(state.seconds, 2)}, scores)
                bar.set_postfix({name: f"{value:.4g}" for name, value in state.rows[-1].items() if name != "step"})
                if on_log is not None:
                    on_log(pd.DataFrame(state.rows))
        if stop.is_set():
            state.save()
    trained = copy.deepcopy(training.average.state_dict())
    if not is_complete and alone:
        for numbers in replay(state.missing_numbers):  # steps past the end or the stop, for a later proof
            state.keep(numbers)
    if stop.is_set():
        raise KeyboardInterrupt(f"stopped at step {state.step}; started again, the run resumes there")
    accelerator.wait_for_everyone()
    model.load_state_dict(trained)
    model.eval()
    return pd.DataFrame(state.rows)


def _identity(model: RestorationModel, objective: Objective, patches: Patches, settings: Settings) -> dict:
    """What a run computes: network, settings, objective with its fields, photos, and the code of all of them."""
    spec = model.restorer().spec
    functions = [objective if isfunction(objective) or isinstance(objective, partial) else type(objective)]
    described, more = _describe(objective)
    networks = {type(module) for module in model.modules() if type(module).__module__.partition(".")[0] != "torch"}
    roots = [Training, Patches, *patches.made_by, *networks, builder(spec["name"]), *functions, *more]
    return {
        "model": spec,
        "settings": asdict(settings),
        "objective": described,
        "data": patches.provenance,
        "code": code(*roots),
    }


def _describe(objective: Objective) -> tuple[dict, list]:
    """The name and the fields of an objective, and the functions among the fields."""
    if isinstance(objective, partial):
        values, name = {**objective.keywords, "arguments": list(objective.args)}, objective.func.__qualname__
    elif is_dataclass(objective):
        values = {field.name: getattr(objective, field.name) for field in fields(objective)}
        name = type(objective).__qualname__
    else:
        values, name = {}, getattr(objective, "__qualname__", type(objective).__qualname__)
    functions = [value for value in values.values() if isfunction(value)]
    return {"name": name, **{key: _plain(value) for key, value in values.items()}}, functions


def _plain(value: object) -> object:
    if isinstance(value, nn.Module):
        return f"weights {checksum(value)}"
    if isfunction(value):
        return value.__qualname__
    return json.loads(json.dumps(value, default=repr))


def checksum(model: nn.Module | None) -> str:
    """A checksum of a model's weights in half precision: a file in half precision holds the same model."""
    values = model.state_dict().values() if model is not None else ()
    whole = (value.half() if value.is_floating_point() else value for value in values)
    return f"{zlib.crc32(b''.join(value.cpu().numpy().tobytes() for value in whole)):08x}"


def _seed(number: int, device: torch.device) -> None:
    """What `torch.manual_seed` does for the devices in use, without the traceback that it notes for the others."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def _groups(model: RestorationModel) -> list[dict]:
    """Parameter groups with the factor on their learning rate: a model may name parameters that learn at a tenth."""
    slow = model.slow_parameters()
    chosen = {id(parameter) for parameter in slow}
    usual = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [{"params": usual, "factor": 1.0}, {"params": slow, "factor": 0.1}]
    return [group for group in groups if group["params"]]


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _live_curve() -> Callable[[pd.DataFrame], None] | None:
    if "JPY_SESSION_NAME" not in os.environ:  # set for kernels that a person's notebook has started
        return None
    from rvlib.study.figures import live_curve

    return live_curve()


@contextmanager
def _stop_requested():
    """Ctrl-C and SIGTERM set the event that this yields instead of killing the step they fall into."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield stop
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
