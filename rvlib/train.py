"""One training loop for every method: what is minimised comes in as a function, the rest is here.

Batch k, the learning rate at step k and the random numbers of step k are functions of k, so a run that was stopped
anywhere resumes exactly: bit for bit on a CPU, and on a GPU where `Settings.deterministic` asks for it, since cuDNN and
NCCL add numbers in changing order otherwise. `rvlib.runs` keeps a run in its folder, `rvlib.processes` has what several
processes need.
"""

import copy
import json
import math
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from rvlib import runs
from rvlib.errors import UserError
from rvlib.fingerprint import code
from rvlib.models import builder
from rvlib.models.base import RestorationModel
from rvlib.pairs import Ahead, Patches, to_unit
from rvlib.processes import Accelerator, check_together, gather, mean_of_all, share, synchronise
from rvlib.runs import Run
from rvlib.settings import OPTIMIZERS, Batch, Objective, Settings, stated

FIRST_SAVE = 20.0
"""Seconds after which a run is saved for the first time, so that there are weights to look at in the first minute."""

SAVE_EVERY = 600.0
"""Seconds between two savings at most, however long it is to the next validation."""

TRIED = 5
"""Steps before a GPU's work is recorded, in which cuDNN tries its ways to compute."""

LOST = ("DataLoader worker (pid", "shared memory(shm)", "in pin memory thread")
"""How torch says that a process that cuts batches died, or could not hand one over."""


class Outcome(NamedTuple):
    """What a step gave, the same in all processes but for the photos."""

    values: dict[str, float]  # of the objective, means over the batch
    photos: list[str]
    wishes: dict[str, bool]  # whether any process wants to stop, to save
    numbers: dict[str, float]  # for a proof, where they were asked for


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
            _groups(model),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=accelerator.device.type == "cuda" or None,
        )
        self.part = share(settings.batch_size, accelerator)
        size = self.part.stop - self.part.start
        if size % settings.accumulate:
            raise UserError(
                f"each of {accelerator.num_processes} processes has {size} of {settings.batch_size} pairs, which "
                f"cannot be cut into {settings.accumulate} equal parts: choose another accumulate"
            )
        self.prepared, self.batches = None, self._cut
        is_alone = accelerator.num_processes == 1
        is_cuda = accelerator.device.type == "cuda"
        self.can_be_recorded = is_cuda and is_alone and getattr(objective, "can_be_recorded", False)
        self.tried, self.recorded = 0, None

    def step(self, number: int, *, measure: bool = False, wishes: dict[str, bool] | None = None) -> Outcome:
        """Train on batch `number`; a loss that is not finite, in whatever process, changes no weight.

        The numbers for a proof (`measure=True`) are the means of both images, the loss, the norm of the gradient, the
        learning rate and the distance of the averaged weights.
        """
        settings, device = self.settings, self.accelerator.device
        if self.prepared is None:
            self.prepared = self.accelerator.prepare(self.model)
        self.prepared.train()
        # no two (seed, step, process) share a number, for fewer than 1,000,003 steps and 1,009 processes
        _seed((settings.seed * 1_000_003 + number) * 1_009 + self.accelerator.process_index, device)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(number) * group["factor"]
        *pair, names = self.batches(number)
        degraded, reference = (to_unit(each.to(device, non_blocking=True)) for each in pair)
        images = (each.to(memory_format=self.layout) for each in (degraded, reference))
        with _kernels(settings, device):
            values, wishes = self._together(self._backward(Batch(*images, number)), wishes or {})
            if not math.isfinite(values["loss"]):
                return Outcome(values, names, wishes, {})
            largest = math.inf if settings.clip_norm is None else settings.clip_norm
            if measure or settings.clip_norm is not None:
                gradient = self.accelerator.clip_grad_norm_(self.prepared.parameters(), largest)
            self.optimizer.step()
        if self.recorded is None:  # what is replayed writes its gradients anew
            self.optimizer.zero_grad()
        self._follow(number)
        if not measure:
            return Outcome(values, names, wishes, {})
        numbers = {"degraded": float(degraded.mean()), "reference": float(reference.mean())}
        numbers |= {"loss": values["loss"], "gradient": float(gradient), "learning_rate": settings.rate(number)}
        return Outcome(values, names, wishes, numbers | {"average": self._distance()})

    def _cut(self, number: int) -> tuple[Tensor, Tensor, list[str]]:
        return self.patches.cut(number, self.settings.batch_size, part=self.part)

    def _together(self, values: dict, wishes: dict[str, bool]) -> tuple[dict[str, float], dict[str, bool]]:
        """The values as means over all processes, and the wishes of any of them."""
        asked = {f"wish {name}": float(wish) for name, wish in wishes.items()}
        found = mean_of_all(values | asked, self.accelerator)
        return {name: found[name] for name in values}, {name: found[f"wish {name}"] > 0 for name in wishes}

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Gradients of one batch; returns the values of the objective as numbers."""
        if self.can_be_recorded and self.recorded is None and self.tried == TRIED:
            self.recorded = Recorded(self._gradients, batch)
        self.tried += 1
        names, parts = (self.recorded or self._gradients)(batch)
        numbers = parts.cpu().tolist()  # waits for a GPU once
        return {name: sum(part[index] / len(numbers) for part in numbers) for index, name in enumerate(names)}

    def _gradients(self, batch: Batch) -> tuple[list[str], Tensor]:
        """Gradients of one batch, in `accumulate` parts; the objective's names, and its values (parts, names)."""
        values, parts = [], self.settings.accumulate
        for small, large in zip(batch.degraded.chunk(parts), batch.reference.chunk(parts), strict=True):
            with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.settings.bf16):
                terms = self.objective(self.prepared, Batch(small, large, batch.step))
            self.accelerator.backward(terms["loss"] / parts)
            values.append(torch.stack([value.detach() for value in terms.values()]))
        return list(terms), torch.stack(values)

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


class Recorded:
    """What a GPU does for one batch, recorded and replayed: Python starts a small network's kernels too slowly.

    Objectives that allow it (`can_be_recorded`) differ between steps in the batch and in draws on the device alone.
    """

    def __init__(self, compute: Callable[[Batch], tuple[list[str], Tensor]], batch: Batch):
        self.batch = Batch(batch.degraded.clone(), batch.reference.clone(), batch.step)
        self.graph = torch.cuda.CUDAGraph()
        # by thread: another one takes pinned memory for the next batches meanwhile
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.names, self.values = compute(self.batch)

    def __call__(self, batch: Batch) -> tuple[list[str], Tensor]:
        """The names and values of the objective; the gradients lie where they lay when this was recorded."""
        self.batch.degraded.copy_(batch.degraded)
        self.batch.reference.copy_(batch.reference)
        self.graph.replay()
        return self.names, self.values


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
    """Train `model` in place and return the log; afterwards it holds the averaged weights, in eval mode, on the CPU.

    What is validated and saved is `model.restorer()`: the generator alone of SRGAN's `Adversaries`.
    A run in the folder `run` that was stopped is resumed, and a complete one is taken as it is (`rvlib.runs`). A
    different run in that folder is an error, or with `replace=True` is set aside; `facts` add to its identity.
    `validate(model) -> {"psnr...": ...}` gets the averaged weights; its first value chooses the best. Weights, curve
    and state are written after `FIRST_SAVE` seconds, then at each validation and at least every `SAVE_EVERY` seconds.
    Raises UserError if the loss stops being finite, with the step, the photos and the state to go back to, where
    memory does not suffice, and where another training is at work in that folder; and KeyboardInterrupt, with
    everything saved, on Ctrl-C and SIGTERM.
    """
    accelerator = Accelerator()
    if accelerator.device.type == "mps":  # which has no float64, and nothing here was tried on it
        raise UserError("Apple's GPU cannot train here: let the CPU do it (ACCELERATE_USE_CPU=true)")
    check_together(accelerator)
    alone = accelerator.num_processes == 1
    computed = identity(model, objective, patches, settings) | (facts or {})
    if not alone:
        synchronise(model)
    training = Training(model, objective, patches, settings, accelerator)
    if accelerator.device.type != "cpu":  # there, the cores that would cut the next batch compute this one
        training.batches = Ahead(training.batches, pin=accelerator.device.type == "cuda")
    state = Run(run, training.model, training.average, training.optimizer, is_main=accelerator.is_main_process)

    def replay(steps: int) -> list[dict[str, float]]:
        return [training.step(state.step + index, measure=True).numbers for index in range(steps)]

    try:
        with runs.alone(run) if state.is_main else nullcontext():
            with accelerator.main_process_first():  # the other processes wait until a replaced run is set aside
                state.open(computed, replace=replace, replay=replay if alone else None)
            _check_processes(state, accelerator)
            goal = state.step if state.is_ended else settings.steps
            trained = training.average.state_dict()
            if state.step < goal:
                stopped = _advance(training, state, goal, validate, on_log or _live_curve())
                trained = copy.deepcopy(trained)
                # steps past the end, for a later proof; a loss that is not finite there has no numbers
                for numbers in filter(None, replay(state.missing_numbers) if alone else []):
                    state.keep(numbers)
                if stopped:
                    raise KeyboardInterrupt(f"stopped at step {state.step}; started again, the run resumes there")
            elif state.is_main:  # its files may have been damaged or removed since
                state.publish()
            accelerator.wait_for_everyone()
            model.load_state_dict(trained)
            model.to("cpu").eval()  # where photos and the other networks are
            return pd.DataFrame(state.rows)
    finally:
        training.optimizer.zero_grad()  # else the model's next training would add to these gradients
        # a traceback, which a notebook keeps, would keep the processes that cut and a GPU's memory
        training.batches = training.recorded = None


def _advance(
    training: Training,
    state: Run,
    goal: int,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    on_log: Callable[[pd.DataFrame], None] | None,
) -> bool:
    """Take steps up to `goal`, with all that is validated, shown and saved meanwhile; whether it was stopped before."""
    settings, accelerator = training.settings, training.accelerator
    device, alone = accelerator.device, accelerator.num_processes == 1
    state.note_resumed(device=_device(device), threads=torch.get_num_threads(), processes=accelerator.num_processes)
    # on a CPU, what the core gave to this training: other programs beside it add nothing
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    # where nobody looks, each line of the bar would be kept
    seen = sys.stderr.isatty() or "JPY_SESSION_NAME" in os.environ
    bar = tqdm(
        total=settings.steps,
        initial=state.step,
        desc=state.folder.name,
        unit="step",
        disable=not state.is_main,
        mininterval=0.1 if seen else 60,
    )
    stopped, due = False, time.monotonic() + FIRST_SAVE
    with bar, _stop_requested() as stop:
        while state.step < goal and not (stopped or (alone and stop.is_set())):
            started = clock()
            wishes = {"stop": stop.is_set(), "save": state.is_main and time.monotonic() > due}
            outcome = _step(training, state.step, measure=alone and state.wants_numbers, wishes=wishes)
            if not math.isfinite(outcome.values["loss"]):
                photos = sorted({name for names in gather(outcome.photos, accelerator) for name in names})
                raise UserError(
                    f"the loss is {outcome.values['loss']} at step {state.step + 1}, on patches of "
                    f"{', '.join(photos)}; the last good state is that of step {state.saved_step}: "
                    f"lower learning_rate or set clip_norm"
                )
            if outcome.numbers:
                state.keep(outcome.numbers)
            state.advance(outcome.values, clock() - started)
            stopped = outcome.wishes["stop"]
            bar.set_postfix_str(_shown(state), refresh=False)
            bar.update()
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                _check_weights(training.model, state)
                scores = validate(state.weights) if validate is not None else {}
                rate = settings.rate(state.step - 1)
                state.log({"learning_rate": rate, "seconds": round(state.seconds, 2)}, scores)
                bar.set_postfix_str(_shown(state))
                if on_log is not None:
                    on_log(pd.DataFrame(state.rows))
                due = time.monotonic() + SAVE_EVERY
            elif outcome.wishes["save"]:
                _check_weights(training.model, state)
                state.publish()
                state.save()
                due = time.monotonic() + SAVE_EVERY
        stopped = stopped or (alone and stop.is_set())
        if stopped:
            _check_weights(training.model, state)
            state.publish()
            state.save()
    return stopped


def _check_weights(model: nn.Module, state: Run) -> None:
    """Raise UserError where weights are not finite, before they take the place of good ones on the disk.

    A gradient can be not finite though the loss is, and nothing says so until the next step.
    """
    finite = [parameter.isfinite().all() for parameter in model.parameters()]
    if not torch.stack(finite).all():  # waits for a GPU once
        raise UserError(
            f"the weights are not finite after step {state.step}, though the loss was: the last good state is that of "
            f"step {state.saved_step}: lower learning_rate or set clip_norm"
        )


def _step(training: Training, number: int, **options) -> Outcome:
    """A step, or what to do where it takes more memory than there is."""
    try:
        with _heard_later():
            return training.step(number, **options)
    except torch.OutOfMemoryError:
        pass  # raised below: the error in hand would keep the memory of the step that it fell into
    except (RuntimeError, OSError, EOFError) as error:
        if not any(lost in str(error) for lost in LOST):
            raise
        raise UserError(
            f"a process that cuts batches was lost ({error}): memory may not suffice, or in a container /dev/shm "
            f"(--shm-size); started again, the run resumes from what it saved last"
        ) from None
    parts, size = training.settings.accumulate, training.part.stop - training.part.start
    pairs = size // parts
    advice = "lower --patch-size" if pairs == 1 else "lower --patch-size or --batch-size"
    if pairs % 2 == 0:
        advice = f"cut the batch into more parts (--set accumulate={2 * parts})"
    less = "" if training.settings.bf16 else ", or give --set bf16=true"
    raise UserError(
        f"the GPU's memory does not suffice for {pairs} pair{'' if pairs == 1 else 's'} at a time: {advice}{less}"
    )


def _check_processes(state: Run, accelerator: Accelerator) -> None:
    """Raise UserError where the processes would not train the same run from the same step."""
    mine = (state.step, zlib.crc32(json.dumps(state.identity, sort_keys=True).encode()), state.exists)
    found = gather(mine, accelerator)
    if not all(exists for _, _, exists in found) or len({step for step, _, _ in found}) > 1:
        steps = ", ".join(str(step) if exists else "none" for step, _, exists in found)
        raise UserError(
            f"the processes find {state.folder} at different steps ({steps}): the run folder must lie on a disk that "
            f"all machines share"
        )
    if len(set(found)) > 1:
        raise UserError("the processes train different runs: photos, settings and code must be alike on all machines")


def _shown(state: Run) -> str:
    """What the progress bar says: the mean loss since the last row of the log, and the last scores."""
    now = {"loss": state.sums["loss"] / state.sums["count"]} if state.sums else {"loss": state.rows[-1]["loss"]}
    return ", ".join(f"{name}={value:.4g}" for name, value in {**now, **state.scores}.items())


@contextmanager
def _kernels(settings: Settings, device: torch.device):
    """The GPU's way to compute that the settings ask for; what was set before comes back."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        exact = settings.deterministic
        options = {"benchmark": not exact, "deterministic": exact, "allow_tf32": settings.tf32}
        with torch.backends.cudnn.flags(enabled=True, **options):  # not given, it would be off
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.use_deterministic_algorithms(before[1])


def is_complete(
    model: RestorationModel, objective: Objective, patches: Patches, settings: Settings, *, run: str | Path, facts: dict
) -> bool:
    """Whether `fit` would have nothing to train for this run."""
    return runs.is_complete(run, identity(model, objective, patches, settings) | facts)


def identity(model: RestorationModel, objective: Objective, patches: Patches, settings: Settings) -> dict:
    """What a run computes: network, settings, objective with its fields, photos, and the code of all of them."""
    spec = model.restorer().spec
    functions = [objective if isfunction(objective) or isinstance(objective, partial) else type(objective)]
    described, more = _describe(objective)
    networks = {type(module) for module in model.modules() if type(module).__module__.partition(".")[0] != "torch"}
    roots = [Training, Patches, *patches.made_by, *networks, builder(spec["name"]), *functions, *more]
    return {
        "model": spec,
        "settings": stated(settings),
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


@contextmanager
def _heard_later():
    """Let signals wait for the end of a step; processes forked meanwhile, which cut the batches, never hear them.

    `timeout`, batch systems and notebooks send them to every process of a job, and without those that cut a training
    could not end its step.
    """
    if not hasattr(signal, "pthread_sigmask"):  # nothing is forked there
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
