"""One training loop for every method: what is minimised comes in as a function, everything else is here.

A run lives in a folder: `run.json` says what is trained on what, `state.pt` holds everything to go on from,
`last.safetensors` and `best.safetensors` the averaged weights, `log.csv` the curve. Batch k, the learning rate at
step k and the random numbers of step k are functions of k, so a run that was stopped anywhere goes on exactly.
"""

import ast
import copy
import json
import math
import os
import shutil
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial, update_wrapper
from inspect import getsource, isfunction
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch
from tqdm import tqdm

from rvlib.checkpoint import check_archive, save
from rvlib.errors import UserError
from rvlib.files import write_atomically
from rvlib.pairs import Patches


class Batch(NamedTuple):
    """What an objective sees: patches (b c p p) and (b c s·p s·p) in [0, 1], and the number of the step from 0."""

    degraded: Tensor
    reference: Tensor
    step: int


Objective = Callable[[nn.Module, Batch], dict[str, Tensor]]
"""(model, batch) -> {"loss": what is minimised, any other name: what is logged beside it}."""

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how fast to train; the defaults are Adam with a cosine schedule."""

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0  # where the cosine ends
    milestones: tuple[int, ...] = ()  # where given, the rate is halved at each of these steps instead
    warmup_steps: int = 0  # linear from zero
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float | None = None  # largest norm of the whole gradient
    ema: float = 0.999  # decay of the averaged weights, which are what is validated and saved
    bf16: bool = False  # forward in bfloat16; float16 overflows in attention models
    channels_last: bool = False  # memory layout in which convolutions are faster
    accumulate: int = 1  # parts that a batch is cut into where memory is short
    validate_every: int = 1000
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "validate_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"{name} must be a whole number of at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 10:
            raise UserError(f"learning_rate must lie between 0 and 10, not {self.learning_rate}")
        if self.batch_size % self.accumulate:
            raise UserError(f"batch_size {self.batch_size} cannot be cut into {self.accumulate} equal parts")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0.

        cosine  η(k) = η_end + (η - η_end) · (1 + cos(π k / K)) / 2        steps  η(k) = η / 2^(milestones passed)
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.milestones:
            return self.learning_rate * 0.5 ** sum(step >= milestone for milestone in self.milestones)
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine


def fit(
    model: nn.Module,
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

    What is kept of a model with a `generator` (SRGAN's adversaries) is that: it is validated and its weights saved.
    Goes on where a run in the folder `run` was stopped, and returns at once where it is complete. A different run in
    that folder is an error, or is started anew with `replace=True`; `facts` add to what makes it this run.
    `validate(model) -> {"psnr...": ...}` gets the averaged weights; its first value chooses the best. Raises UserError
    if the loss stops being finite, with the step, the photos and the checkpoint to go back to, and KeyboardInterrupt,
    all saved, on Ctrl-C and SIGTERM.
    """
    accelerator = Accelerator()
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    model.to(accelerator.device, memory_format=layout)
    optimizer = OPTIMIZERS[settings.optimizer](
        _groups(model), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    on_log = on_log or live_curve()
    state = RunState(Path(run), model, optimizer, is_main=accelerator.is_main_process)
    with accelerator.main_process_first():  # what a run that is replaced leaves is not for the other processes
        state.open(_identity(model, objective, patches, settings) | (facts or {}), replace=replace)
    if state.step == settings.steps and state.is_main:  # a complete run's files may have been damaged or removed since
        names = list(state.rows[-1])
        state.publish({name: state.rows[-1][name] for name in names[names.index("seconds") + 1 :]})
    trained = accelerator.prepare(model)
    trained.train()
    part = _part(settings.batch_size, accelerator)
    started = time.perf_counter() - state.seconds
    bar = tqdm(total=settings.steps, initial=state.step, desc=state.run.name, unit="step", disable=not state.is_main)
    with bar, _stop_requested() as stop:
        while state.step < settings.steps:
            if stop:
                state.save()
                raise KeyboardInterrupt(f"stopped at step {state.step}; started again, the run goes on from there")
            step = state.step
            _seed((settings.seed * 1_000_003 + step) * 1_009 + accelerator.process_index, accelerator.device)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step) * group["factor"]
            degraded, reference, names = patches.batch(step, settings.batch_size, part=part)
            images = (each.to(accelerator.device, memory_format=layout) for each in (degraded, reference))
            batch = Batch(*images, step)
            values = _backward(accelerator, trained, objective, batch, settings)
            if not math.isfinite(values["loss"]):
                raise UserError(
                    f"the loss is {values['loss']} at step {step + 1}, on patches of {', '.join(sorted(set(names)))}; "
                    f"the last good state is that of step {state.saved_step}: lower learning_rate or set clip_norm"
                )
            if settings.clip_norm is not None:
                accelerator.clip_grad_norm_(trained.parameters(), settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            state.advance(values, settings.ema)
            bar.update()
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                state.seconds = time.perf_counter() - started
                scores = validate(state.kept) if validate is not None else {}
                state.log({"learning_rate": settings.rate(step), "seconds": round(state.seconds, 2)}, scores)
                bar.set_postfix({name: f"{value:.4g}" for name, value in state.rows[-1].items() if name != "step"})
                if on_log is not None:
                    on_log(pd.DataFrame(state.rows))
    accelerator.wait_for_everyone()
    model.load_state_dict(state.average.state_dict())
    model.eval()
    return pd.DataFrame(state.rows)


def in_processes(number: int, function: Callable, *arguments, **named) -> None:
    """Call a function that trains in `number` processes of this machine, a GPU each where there are any.

    What `accelerate launch` does for a command, for a notebook: fresh interpreters, so that the function and what it is
    called with must be picklable. Raises UserError where one of them fails; what it said is on its standard error.
    """
    threads = max(1, (os.cpu_count() or 1) // number)
    facts = {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": str(not torch.cuda.is_available()).lower()}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port
        run_id=function.__name__,
        max_restarts=0,
        start_method="spawn",
    )
    try:
        with patch_environment(**facts):
            elastic_launch(config, update_wrapper(partial(function, **named), function))(*arguments)
    except ChildFailedError as error:
        said = error.get_first_failure()[1].message
        said = said["message"] if isinstance(said, dict) else said
        raise UserError(f"training in {number} processes failed: {said}") from None


def live_curve() -> Callable[[pd.DataFrame], None] | None:
    """In JupyterLab, draw the loss in place whenever a row is logged; nowhere else, where nobody would see it."""
    if "JPY_SESSION_NAME" not in os.environ:  # set for kernels that a person's notebook has started
        return None
    import matplotlib.pyplot as plt
    from IPython.display import display

    shown = display(display_id=True)

    def draw(log: pd.DataFrame) -> None:
        axis = log.plot(x="step", y="loss", marker="o", figsize=(5, 2.2), legend=False, ylabel="loss")
        shown.update(axis.figure)
        plt.close(axis.figure)

    return draw


class RunState:
    """Everything that a run needs to go on: weights, their average, the optimizer, the step and the log so far."""

    def __init__(self, run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, *, is_main: bool):
        self.run, self.model, self.optimizer, self.is_main = run, model, optimizer, is_main
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.kept = getattr(self.average, "generator", self.average)
        self.step = self.saved_step = 0
        self.seconds = 0.0
        self.sums, self.rows = {}, []  # what was averaged since the last row; the rows of the log
        self.identity = {}

    def open(self, identity: dict, *, replace: bool) -> None:
        """Take up the run in the folder, or begin one; raises UserError if the folder holds a different run."""
        self.identity = identity = json.loads(json.dumps(identity))  # as it is read again: tuples become lists
        file = self.run / "run.json"
        if file.exists():
            before = _read_json(file)
            changed = sorted(key for key in identity | before if identity.get(key) != before.get(key))
            if changed and not replace:
                raise UserError(
                    f"{self.run} holds another run (different: {', '.join(changed)}): choose another folder, "
                    f"or delete it to start anew"
                )
            if changed and self.is_main:
                shutil.rmtree(self.run)
        if (self.run / "state.pt").exists() and file.exists():
            self.restore()
        elif self.is_main:
            self.run.mkdir(parents=True, exist_ok=True)
            write_atomically(file, lambda path: Path(path).write_text(json.dumps(identity, indent=1, sort_keys=True)))

    def restore(self) -> None:
        """Set model, average, optimizer and log to what `save` wrote."""
        file = self.run / "state.pt"
        try:
            check_archive(file)
            saved = torch.load(file, map_location="cpu", weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step = self.saved_step = saved["step"]
            self.seconds, self.sums, self.rows = saved["seconds"], saved["sums"], saved["rows"]
        except Exception:  # the reader raises many types for damaged bytes
            raise UserError(f"{file} is damaged: delete {self.run} to start the run anew") from None

    @torch.no_grad()
    def advance(self, values: dict[str, float], decay: float) -> None:
        """Count one step: θ̄ ← β θ̄ + (1 - β) θ, where β = min(decay, (1 + k) / (10 + k)) forgets the start faster."""
        beta = min(decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - beta)
        for mean, now in zip(self.average.buffers(), self.model.buffers(), strict=True):
            mean.copy_(now)  # running statistics are averages already
        for name, value in {**values, "count": 1.0}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.step += 1

    def log(self, facts: dict, scores: dict) -> None:
        """Add a row (means since the last one), write weights and state; keep the best by the first score."""
        count = self.sums.pop("count")
        row = {"step": self.step, **{name: total / count for name, total in self.sums.items()}, **facts, **scores}
        self.sums = {}
        self.rows.append(row)
        if not self.is_main:
            return
        if scores:
            first = next(iter(scores))
            if row[first] == max(each[first] for each in self.rows):
                self._save_weights("best.safetensors", scores)
        self.publish(scores)
        self.save()

    def publish(self, scores: dict) -> None:
        """Write the averaged weights and the curve."""
        self._save_weights("last.safetensors", scores)
        table = pd.DataFrame(self.rows)
        write_atomically(self.run / "log.csv", lambda path: table.to_csv(path, index=False))

    def save(self) -> None:
        """Write the state in one step: a kill leaves the one before or this one."""
        if not self.is_main:
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in ("step", "seconds", "sums", "rows")},
        }
        write_atomically(self.run / "state.pt", lambda path: torch.save(state, path))
        self.saved_step = self.step

    def _save_weights(self, file: str, scores: dict) -> None:
        facts = {"step": self.step, "scores": scores, "training": self.identity}
        save(self.kept, self.run / file, **facts)


def _seed(number: int, device: torch.device) -> None:
    """What `torch.manual_seed` does for the devices in use, without the traceback that it notes for the others."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def _backward(
    accelerator: Accelerator, model: nn.Module, objective: Objective, batch: Batch, settings: Settings
) -> dict:
    """Gradients of one batch, in `accumulate` parts; returns the values of the objective as numbers."""
    values = {}
    degraded, reference = batch.degraded.chunk(settings.accumulate), batch.reference.chunk(settings.accumulate)
    for small, large in zip(degraded, reference, strict=True):
        with torch.autocast(accelerator.device.type, dtype=torch.bfloat16, enabled=settings.bf16):
            parts = objective(model, Batch(small, large, batch.step))
        accelerator.backward(parts["loss"] / settings.accumulate)
        for name, value in parts.items():
            values[name] = values.get(name, 0.0) + float(value.detach()) / settings.accumulate
    return values


def _groups(model: nn.Module) -> list[dict]:
    """Parameter groups with the factor on their learning rate: a model may name parameters that learn at a tenth."""
    slow = list(model.slow_parameters()) if hasattr(model, "slow_parameters") else []
    chosen = {id(parameter) for parameter in slow}
    usual = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    groups = [{"params": usual, "factor": 1.0}, {"params": slow, "factor": 0.1}]
    return [group for group in groups if group["params"]]


def _part(batch_size: int, accelerator: Accelerator) -> slice:
    """The part of each batch that this process computes: the processes share a batch, they do not multiply it."""
    processes = accelerator.num_processes
    if batch_size % processes:
        raise UserError(f"batch_size {batch_size} cannot be shared equally by {processes} processes")
    share = batch_size // processes
    return slice(accelerator.process_index * share, (accelerator.process_index + 1) * share)


def _identity(model: nn.Module, objective: Objective, patches: Patches, settings: Settings) -> dict:
    """What makes a run this run: the model, settings that are no default, data and objective."""
    fields = Settings.__dataclass_fields__
    chosen = {name: value for name, value in asdict(settings).items() if value != fields[name].default}
    formula = ast.parse(getsource(objective if isfunction(objective) else type(objective)).strip())
    return {
        "model": getattr(model, "generator", model).recipe,
        "settings": chosen,
        "data": patches.data,
        "patches": {name: getattr(patches, name) for name in ("patch_size", "scale", "augment", "seed")},
        "objective": f"{zlib.crc32(ast.dump(formula).encode()):08x}",
    }


def _read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except ValueError:
        raise UserError(f"{file} is damaged: delete {file.parent} to start the run anew") from None


@contextmanager
def _stop_requested():
    """Ctrl-C and SIGTERM fill the list that this yields instead of killing the step they fall into."""
    stop: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield stop
        return
    handlers = {
        number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
