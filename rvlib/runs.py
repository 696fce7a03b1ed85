"""A training run in its folder: what it computes (identity), what happened to it (history), and how far it is (state).

    run.json            identity and history
    state.pt            everything to resume from
    replay.json         numbers of the first steps after that state (loss, gradient), which changed code must give again
    last.safetensors    the averaged weights, and best.safetensors those with the best score
    log.csv             the learning curve

Two runs are the same if they compute the same: model, settings, objective, photos, and the code of all of them. A run
may be lengthened, and it may be carried over a change of its code by proof: a few steps from its state, computed by the
new code, must give the numbers that the old code gave. Its history says so. A run that is replaced is set aside under a
new name, never deleted.
"""

import copy
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

import rvlib
from rvlib import files
from rvlib.checkpoint import WEIGHTS, check_archive, read_metadata, read_saved, save
from rvlib.errors import UserError
from rvlib.files import write_atomically, write_text
from rvlib.models.base import RestorationModel

REPLAYED = 3
"""Steps after each saved state whose numbers are kept, for the proof that changed code computes the same."""

SOURCES = ("rvlib", "notebooks/text", "params.yaml", "profiles/*/params.yaml", "weights/*.safetensors")
"""What numbers come from: the files that a checkout must not have changed for its commit to say how to get them."""

ENDED, GOING_ON = "ended", ("begun", "resumed", "lengthened")
"""How the events of a history begin that end a run before its schedule does, and those that take it up."""


def differences(before: dict, now: dict) -> list[str]:
    """What differs between two identities, in words: `settings.steps (10 -> 20)`, `code of losses.l1`."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name == "code":
            old, new = old or {}, new or {}
            found += [f"code of {each}" for each in sorted(old.keys() | new.keys()) if old.get(each) != new.get(each)]
        elif isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name}.{each}" for each in differences(old, new)]
        else:
            found.append(f"{name} ({_short(old)} -> {_short(new)})")
    return found


def _short(value: object) -> str:
    text = json.dumps(value) if value is not None else "none"
    return text if len(text) <= 60 else f"{text[:57]}..."


def commit() -> str:
    """The commit of this checkout, marked where its `SOURCES` differ from it; "unknown" outside of a checkout."""
    git = ["git", "-C", str(rvlib.ROOT)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel", "HEAD"], capture_output=True, text=True, check=True)
        where, head = top.stdout.split("\n")[:2]
        if Path(where).resolve() != rvlib.ROOT.resolve():  # the package lies in somebody else's repository
            return "unknown"
        status = [*git, "status", "--porcelain", "--", *SOURCES]
        changed = subprocess.run(status, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return "unknown"
    return head + (" with changes" if changed.stdout.strip() else "")


class Run:
    """The folder of a run and everything that it needs to be resumed; only the main process writes to it."""

    def __init__(
        self,
        folder: str | Path,
        model: RestorationModel,
        average: RestorationModel,
        optimizer: torch.optim.Optimizer,
        *,
        is_main: bool = True,
    ):
        self.folder, self.is_main = Path(folder), is_main
        self.model, self.average, self.optimizer = model, average, optimizer
        self.step = self.saved_step = 0
        self.seconds = 0.0  # of training, without validation
        self.sums = {}  # values since the last row of the log
        self.rows = []
        self.scores = {}  # of the last validation
        self.replayed = []  # numbers of the steps since the state was saved
        self.identity, self.history = {}, []

    @property
    def exists(self) -> bool:
        """Whether this process sees the folder that the main process writes."""
        return (self.folder / "run.json").exists()

    @property
    def is_ended(self) -> bool:
        """Whether its owner declared it finished where it was stopped (`end`), and it was not taken up since."""
        return _is_ended(self.history)

    @property
    def weights(self) -> RestorationModel:
        """What is validated, saved and released: the averaged weights, of the generator alone where there is a game."""
        return self.average.restorer()

    def open(self, identity: dict, *, replace: bool = False, replay=None) -> None:
        """Take up the run in the folder, or begin one.

        A longer schedule lengthens the run, with a longer warm-up too. Where code alone differs, `replay()` must give
        the kept numbers again.
        Any other difference is an error that names it, or with `replace=True` sets the old run aside.
        """
        identity = json.loads(json.dumps(identity))  # as it is read again: tuples become lists
        self.identity = identity
        found = self._read()
        was_trained = any((self.folder / file).exists() for file in ("state.pt", "last.safetensors"))
        if found is None and was_trained:  # nothing says of which run these weights are
            self._set_aside({"identity": None})
        if found is None or not was_trained:  # a start that failed before its first state blocks nothing
            self._begin(identity)
            return
        self.history = found["history"]
        changes = differences(found["identity"], identity)
        longer = self._is_longer(found["identity"], identity)
        expected = ("code of ", "settings.steps ", "settings.warmup_steps ") if longer else ("code of ",)
        others = [each for each in changes if not each.startswith(expected)]
        parts = (self.model, self.average, self.optimizer)
        may_fail = replace and changes and not others  # with the old run's weights in the model
        fresh = [(part, copy.deepcopy(part.state_dict())) for part in parts] if may_fail else []
        reason = ""
        if not others:
            reason = self._take_up(found["identity"], changes, longer=longer, replay=replay)
            if reason is None:
                return
        if not replace:
            raise UserError(
                f"{self.folder} holds another run (different: {', '.join(changes)}){reason}: choose another folder, "
                f"or let the run in it be set aside (--replace)"
            )
        self._set_aside(found)
        for part, state in fresh:
            part.load_state_dict(state)
        self._begin(identity)

    def _begin(self, identity: dict) -> None:
        self.history = []
        record = find_record(identity)
        if record is not None:
            self._adopt(*record)
            return
        self._note("begun")
        self._write()

    def _take_up(self, before: dict, changes: list[str], *, longer: bool, replay) -> str | None:
        """Resume from the state; returns why that cannot be, or None where it was done."""
        code = [each for each in changes if each.startswith("code of ")]
        if not (self.folder / "state.pt").exists():
            if changes or not self._take_weights():
                return "; its state is gone, so it can be neither resumed nor compared"
            return None
        try:
            self.reload()
        except _OtherArchitectureError:
            if not code:
                raise
            return "; the network's code changed, and its saved state does not fit it any more"
        if code:
            reason = self._prove(replay, only_first=longer)
            if reason is not None:
                return f"; {reason}"
            self.reload()
            self._note("carried over changed code, whose numbers are the same", code=code)
        if longer:
            steps = before["settings"]["steps"], self.identity["settings"]["steps"]
            self._note(f"lengthened from {steps[0]:,} to {steps[1]:,} steps")
        if changes:
            self._write()
        return None

    def _prove(self, replay, *, only_first: bool) -> str | None:
        """Why changed code is not known to compute the same, or None where it does.

        Where the schedule changes too, the numbers of the first step up to its gradient are all that can be compared.
        """
        file = self.folder / "replay.json"
        kept = _read_json(file) if file.exists() else {}
        before = kept.get("numbers") if kept.get("step") == self.step else None
        # a step without numbers would agree with any
        if replay is None or not (before and _are_objects(before) and all(before)):
            return "no numbers were kept to compare the changed code with"
        before = before[:1] if only_first else before
        names = ("degraded", "reference", "loss", "gradient") if only_first else before[0]
        tolerance = 1e-3 if self.identity["settings"].get("bf16") else 1e-5
        for index, (old, new) in enumerate(zip(before, replay(len(before)), strict=True)):
            for name in names:
                allowed = 10 * tolerance if name in ("gradient", "average") else tolerance
                values = old.get(name, math.nan), new.get(name, math.nan)  # nan is close to nothing
                if not math.isclose(*values, rel_tol=allowed, abs_tol=1e-12):
                    where = f"step {self.step + index + 1}"
                    return f"the changed code gives {name} {new.get(name)} at {where} instead of {old.get(name)}"
        return None

    @staticmethod
    def _is_longer(before: dict, now: dict) -> bool:
        old, new = (each.get("settings", {}).get("steps") for each in (before, now))
        return isinstance(old, int) and isinstance(new, int) and new > old

    def _take_weights(self) -> bool:
        """Take the weights in the folder for the finished run, if they are its own, of its last step."""
        weights, metadata = read_saved(self.folder / "last.safetensors")
        if not (_is_over(metadata, self.identity, self.history) and _are_of(metadata, self.identity)):
            return False
        self.weights.load_state_dict(weights)
        self.model.restorer().load_state_dict(weights)
        self.step = self.saved_step = metadata["step"]
        self.scores = metadata.get("scores", {})
        log = self.folder / "log.csv"
        self.rows = pd.read_csv(log).to_dict("records") if log.exists() else []
        return True

    def _adopt(self, record: dict, weights: Path) -> None:
        """Take a committed record with its weights for the finished run that it tells of."""
        self.history = record["history"]
        if self.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / "last.safetensors", lambda path: shutil.copyfile(weights, path))
            table = pd.DataFrame(record["log"])
            write_atomically(self.folder / "log.csv", lambda path: table.to_csv(path, index=False))
        self._note(f"taken from the record of {weights.name}")
        self._write()
        self._take_weights()

    def _set_aside(self, found: dict) -> None:
        """Rename the folder after what it holds: how many steps, and a digest of its identity."""
        self.step = self.saved_step = 0
        self.rows, self.sums, self.scores, self.seconds = [], {}, {}, 0.0
        if not self.is_main:
            return
        step = 0
        with suppress(UserError):  # weights that are missing or damaged say nothing
            step = read_metadata(self.folder / "last.safetensors").get("step", 0)
        digest = _digest(found["identity"])[:8]
        aside = self.folder.with_name(f"{self.folder.name}.step-{step}-{digest}")
        number = 1
        while aside.exists():  # the same run, replaced before
            number += 1
            aside = aside.with_name(f"{self.folder.name}.step-{step}-{digest}-{number}")
        os.replace(self.folder, aside)
        tqdm.write(f"{self.folder} held another run: it is kept as {aside.name}", file=sys.stderr)

    def note_resumed(self, **machine) -> None:
        """Add to the history that training goes on, and on what."""
        if self.step:
            self._note("resumed", seconds=round(self.seconds, 2), **machine)
        else:
            self.history[-1] |= machine
        self._write()

    def _note(self, event: str, **details) -> None:
        self.history.append(_event(event, self.step, **details))

    def _read(self) -> dict | None:
        file = self.folder / "run.json"
        return _described(file) if file.exists() else None

    def _write(self) -> None:
        if not self.is_main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_described(self.folder / "run.json", {"identity": self.identity, "history": self.history})

    def reload(self) -> None:
        """Set model, average, optimizer and log to what `save` wrote."""
        file = self.folder / "state.pt"
        damaged = f"{file} is damaged: delete {self.folder} to start the run anew"
        try:
            check_archive(file)
            saved = torch.load(file, map_location="cpu", weights_only=True)
            states = [saved[name] for name in ("model", "average", "optimizer")]
            step, seconds, sums, rows = (saved[name] for name in ("step", "seconds", "sums", "rows"))
        except Exception:  # the reader raises many types for damaged bytes
            raise UserError(damaged) from None
        try:
            for part, state in zip((self.model, self.average, self.optimizer), states, strict=True):
                part.load_state_dict(state)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise _OtherArchitectureError(damaged) from None
        self.step, self.saved_step, self.seconds, self.sums, self.rows = step, step, seconds, sums, rows
        self.scores, self.replayed = saved.get("scores", {}), []

    def advance(self, values: dict[str, float], seconds: float) -> None:
        """Count one step, what its objective gave, and how long it took."""
        for name, value in {**values, "count": 1.0}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.step += 1
        self.seconds += seconds

    @property
    def missing_numbers(self) -> int:
        """How many steps after the saved state still have to give their numbers."""
        return REPLAYED - len(self.replayed) if self.saved_step else 0

    @property
    def wants_numbers(self) -> bool:
        """Whether the numbers of the next step are kept for a later proof."""
        return self.missing_numbers > 0

    def keep(self, numbers: dict[str, float]) -> None:
        """Keep the numbers of a step after the saved state; with the last of them, write all."""
        self.replayed.append(numbers)
        if len(self.replayed) == REPLAYED and self.is_main:
            write_text(self.folder / "replay.json", json.dumps({"step": self.saved_step, "numbers": self.replayed}))

    def log(self, columns: dict, scores: dict) -> None:
        """Add a row (means since the last one), write weights and state; keep the best by the first score."""
        count = self.sums.pop("count")
        row = {"step": self.step, **{name: total / count for name, total in self.sums.items()}, **columns, **scores}
        self.sums, self.scores = {}, scores
        self.rows.append(row)
        if scores and self.is_main:
            first = next(iter(scores))
            if row[first] == max(each.get(first, -math.inf) for each in self.rows):
                self._save_weights("best.safetensors")
        self.publish()
        self.save()

    def publish(self) -> None:
        """Write the averaged weights and the curve, whose last row may be that of a stretch that is under way."""
        if not self.is_main:
            return
        self._save_weights("last.safetensors")
        count = self.sums.get("count", 0.0)
        means = {name: total / count for name, total in self.sums.items() if name != "count"} if count else {}
        table = pd.DataFrame([*self.rows, {"step": self.step, **means}] if count else self.rows)
        write_atomically(self.folder / "log.csv", lambda path: table.to_csv(path, index=False))

    def save(self) -> None:
        """Write the state in one step: a kill leaves the one before or this one."""
        if self.is_main:
            state = {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                **{name: getattr(self, name) for name in ("step", "seconds", "sums", "rows", "scores")},
            }
            write_atomically(self.folder / "state.pt", partial(_write_state, state))
        self.saved_step, self.replayed = self.step, []

    def _save_weights(self, file: str) -> None:
        begun = [each for each in self.history if each["event"] in ("begun", "resumed")]
        trained = [each["commit"] for each in begun if "commit" in each]
        details = {"step": self.step, "scores": self.scores, "training": self.identity}
        save(self.weights, self.folder / file, commit=trained[-1] if trained else "unknown", **details)


class _OtherArchitectureError(UserError):
    """A state whose tensors do not fit the model: it is damaged, unless the network's code changed."""


def alone(folder: str | Path) -> AbstractContextManager:
    """Keep other trainings out of a run's folder; raises UserError where one is at work in it."""
    folder = Path(folder).resolve()
    return files.alone(folder, f"{folder} is being trained in: wait for that training, or choose another folder")


def end(folder: str | Path, reason: str) -> None:
    """Declare a stopped run finished as it is: its last weights count, and it is not resumed unless it is lengthened.

    Raises UserError where there is no stopped run, and where a training is at work in it.
    """
    file, weights = Path(folder) / "run.json", Path(folder) / "last.safetensors"
    if not (file.exists() and weights.exists()):
        raise UserError(f"{folder} holds no stopped run: train first, and stop it with Ctrl-C")
    with alone(folder):
        content = _described(file)
        content["history"].append(_event(f"{ENDED}: {reason}", read_metadata(weights)["step"]))
        _write_described(file, content)


def is_complete(folder: str | Path, identity: dict) -> bool:
    """Whether the run of this identity is in the folder and over, or is in the committed records."""
    identity = json.loads(json.dumps(identity))
    file, weights = Path(folder) / "run.json", Path(folder) / "last.safetensors"
    if not (file.exists() and weights.exists()):
        return find_record(identity) is not None
    found, metadata = _described(file), read_metadata(weights)
    if found["identity"] != identity:
        return find_record(identity) is not None  # `fit` takes the record's weights, or refuses the folder
    return _is_over(metadata, identity, found["history"]) and _are_of(metadata, identity)


def _is_over(metadata: dict, identity: dict, history: list[dict]) -> bool:
    """Whether weights are the last of their run: those of its last step, or of where it was ended (`end`)."""
    return metadata.get("step", 0) >= identity["settings"]["steps"] or _is_ended(history)


def _are_of(metadata: dict, identity: dict) -> bool:
    """Whether the run of an identity saved these weights; its code may have been carried over since."""
    return {**metadata.get("training", identity), "code": {}} == {**identity, "code": {}}


def _is_ended(history: list[dict]) -> bool:
    telling = [each["event"] for each in history if each["event"].startswith((*GOING_ON, ENDED))]
    return bool(telling) and telling[-1].startswith(ENDED)


def record(folder: str | Path) -> dict:
    """What a finished run's weights are committed with: identity, history and learning curve."""
    content = _described(Path(folder) / "run.json")
    log = pd.read_csv(Path(folder) / "log.csv")
    return {**content, "log": json.loads(log.to_json(orient="records"))}


def read_record(file: Path) -> dict:
    """A committed record; empty where there is none. Raises UserError where it is damaged: restore it with git."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text())
    except ValueError:
        content = None
    if not (_is_sound(content) and isinstance(content.get("log"), list) and _are_objects(content.get("before", []))):
        raise UserError(f"{file} is damaged: restore it with git")
    return content


def parts(record: dict) -> list[dict]:
    """The trainings of a record in their order: those that it continued from, then its own."""
    return [*record.get("before", []), record]


def find_record(identity: dict) -> tuple[dict, Path] | None:
    """The committed record with this identity, and its weights, where there are both."""
    for file in sorted(WEIGHTS.glob("*.json")):
        weights = file.with_suffix(".safetensors")
        if weights.exists() and (content := read_record(file)).get("identity") == identity:
            return content, weights
    return None


def earlier_start(name: str, identity: dict, folder: str | Path) -> str | None:
    """The checksum of the start of released weights that continue an earlier release of theirs by this identity.

    Whoever trains on from such weights by the settings that made them has nothing to do: their run is over. So is the
    folder's run, where it was a part on the way to them (DiffIR's stage 1). None for other weights and settings.
    """
    known = read_record(WEIGHTS / f"{name}.json")
    if not known:
        return None
    file = Path(folder) / "run.json"
    has_run = file.exists() and file.with_name("last.safetensors").exists()  # else it would train from today's weights
    found = _described(file)["identity"] if has_run else None
    made = [part["identity"] for part in parts(known) if "identity" in part]
    identity = json.loads(json.dumps(identity))
    for each in (known["identity"], *([found] if found in made else [])):
        if {**identity, "start": each.get("start")} == each:
            return each.get("start")
    return None


def _write_state(state: dict, path: str) -> None:
    """Write what `reload` reads; raises OSError where the disk is full."""
    with open(path, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # with which torch, closing the file, may cover what the system said
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _event(event: str, step: int, **details) -> dict:
    """An entry of a history: what happened, at which step, when, and at which commit."""
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    return {"event": event, "step": step, "date": date, "commit": commit(), **details}


def _write_described(file: Path, content: dict) -> None:
    """Write a run.json with a digest of what it says: a commit with a flipped bit looks like another commit."""
    content = json.loads(json.dumps(content))  # as it is read again
    write_text(file, json.dumps({**content, "digest": _digest(content)}, indent=1, sort_keys=True))


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text())
    except (ValueError, RecursionError):
        raise _damaged(file) from None
    if not isinstance(content, dict):
        raise _damaged(file)
    return content


def _damaged(file: Path) -> UserError:
    return UserError(f"{file} is damaged: delete {file.parent} to start the run anew")


def _described(file: Path) -> dict:
    """What a run.json says, with identity and history; raises UserError where it is damaged."""
    content = _read_json(file)
    has_digest = "digest" in content  # a file of before has none
    digest = content.pop("digest", None)
    if not (has_digest or content.keys() & {"identity", "history"}):  # written before runs knew their code
        content = {"identity": content, "history": []}
    if content.keys() != {"identity", "history"} or not _is_sound(content):
        raise _damaged(file)
    if has_digest and digest != _digest(content):
        raise UserError(
            f'{file} is damaged, or was edited: remove its line "digest" if you know what it says, or delete '
            f"{file.parent} to start the run anew"
        )
    return content


def _is_sound(content: object) -> bool:
    """Whether identity and history are there, of the kinds that all who read them count on."""
    if not isinstance(content, dict):
        return False
    identity, history = content.get("identity"), content.get("history")
    if not (isinstance(identity, dict) and _are_objects(history)):
        return False
    inner = [identity.get(name, {}) for name in ("settings", "code")]
    return _are_objects(inner) and all(isinstance(each.get("event"), str) for each in history)


def _are_objects(values: object) -> bool:
    """Whether this is a list of JSON's objects."""
    return isinstance(values, list) and all(isinstance(each, dict) for each in values)
