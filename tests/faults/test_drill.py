"""The long drill: kills at random moments of the tiny pipeline and of training, then one plain run must be as ever.

`make drill` runs it. What was done is kept in runs/drill/, so that a stopped drill goes on; `rm -r runs/drill` begins
anew. RV_DRILL_KILLS (30) says how many kills, RV_DRILL_STAGES which stages in the place of the whole pipeline.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib

import pandas as pd
import psutil
import pytest
from clones import ROOT, environment, make_clone, run
from conftest import FOLDER, damaged, small_disk

KILLS = int(os.environ.get("RV_DRILL_KILLS", 30))
STAGES = os.environ.get("RV_DRILL_STAGES", "").split()
PER_ROUND = 10  # kills before the run that must go through
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # sums in one order, so that equal runs give equal numbers
KINDS = [(name, scope) for name in SIGNALS for scope in ("everything", "dvc alone")]
KINDS.remove(("SIGINT", "dvc alone"))  # DVC ignores it and goes on; a terminal's Ctrl-C reaches everything
RUNTIMES = re.compile(r"second|minute|hour|bytes|time", re.I)
TIMED = ("cost", "edge/speed")  # tables of nothing else
WHEN = {"commit", "date"}  # of a row's measurement

# a shell's background jobs ignore Ctrl-C, and so would everything that this starts
signal.signal(signal.SIGINT, signal.default_int_handler)

pytestmark = pytest.mark.drill


def start(folder, log, stages=STAGES):
    variables = environment(folder) | ONE_THREAD
    return subprocess.Popen(
        ["dvc", "repro", *stages], cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
    )


def reset(folder):
    """As it was cloned: without data, runs, reports and DVC's cache."""
    run(["git", "checkout", "-q", "--", "."], folder)
    run(["git", "clean", "-fdxq"], folder)


def metrics(folder):
    """Everything that was measured, without runtimes and when that was."""
    found = {}
    for path in sorted((folder / "reports/laptop").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(each in name for each in TIMED):
            continue
        if path.suffix == ".csv":
            table = pd.read_csv(path)
            kept = [column for column in table if not RUNTIMES.search(column) and column not in WHEN]
            found[name] = table[kept].to_csv(index=False)
        elif path.suffix == ".json" and path.name == "summary.json":
            found[name] = json.loads(path.read_text())
    return found


def sources():
    files = sorted([*ROOT.glob("rvlib/**/*.py"), *ROOT.glob("notebooks/text/*.py"), ROOT / "dvc.yaml"])
    return zlib.crc32(b"".join(file.read_bytes() for file in files) + " ".join(STAGES).encode())


@pytest.fixture(scope="module")
def pipeline():
    """The tiny clone, what an undisturbed run of it measures, and how long it takes."""
    folder, file = FOLDER / "clone", FOLDER / "undisturbed.json"
    if file.exists() and json.loads(file.read_text())["sources"] != sources():
        for name in ("undisturbed.json", "kills.jsonl"):  # what was measured with other sources does not count
            (FOLDER / name).unlink(missing_ok=True)
    if not file.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_clone(folder)
        began = time.monotonic()
        repro(folder)
        facts = {"seconds": time.monotonic() - began, "metrics": metrics(folder), "sources": sources()}
        file.write_text(json.dumps(facts))
    facts = json.loads(file.read_text())
    assert facts["metrics"]
    return folder, facts["metrics"], facts["seconds"]


def repro(folder, stages=STAGES):
    with (FOLDER / "log").open("w") as log:
        process = start(folder, log, stages)
        process.wait()
    said = (FOLDER / "log").read_text()
    assert process.returncode == 0, said[-3000:]
    assert "Traceback" not in said
    return re.findall(r"Running stage '([^']+)'", said)


def strike(folder, rng, seconds):
    """Start the pipeline and kill it at a random moment; says what was hit."""
    name, scope = rng.choice(KINDS)
    with (FOLDER / "log").open("w") as log:
        process = start(folder, log)
        try:
            process.wait(rng.uniform(0.01, 0.15) * seconds)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None  # it was through before
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(SIGNALS[name])
        for child in below if scope == "everything" else []:
            try:
                child.send_signal(SIGNALS[name])
            except psutil.NoSuchProcess:
                continue
        process.wait(300)
    assert process.returncode, f"{name} stopped nothing"
    said = (FOLDER / "log").read_text()
    stage = re.findall(r"Running stage '([^']+)'|Importing '([^']+)'", said)
    return {"signal": name, "scope": scope, "stage": next(filter(None, stage[-1])) if stage else "start",
            "traceback": "Traceback" in said, "below": [child.pid for child in below]}  # fmt: skip


def test_a_killed_pipeline_ends_with_the_same_metrics(pipeline, tally):
    folder, expected, seconds = pipeline
    file = FOLDER / "kills.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    done = [json.loads(line) for line in lines]
    while sum(len(each["strikes"]) for each in done) < KILLS:
        rng = random.Random(len(done))
        reset(folder)
        strikes = []
        for _ in range(min(PER_ROUND, KILLS - sum(len(each["strikes"]) for each in done))):
            struck = strike(folder, rng, seconds)
            if struck is not None:
                strikes.append(struck)
        stages = repro(folder)
        found = metrics(folder)
        wrong = [name for name in expected if found.get(name) != expected[name]]
        alive = [pid for each in strikes for pid in each.pop("below") if psutil.pid_exists(pid)]
        done.append({"strikes": strikes, "repeated": stages, "wrong": wrong, "left running": len(alive)})
        with file.open("a") as log:
            log.write(json.dumps(done[-1]) + "\n")
    print(f"\n{'signal':8} {'sent to':11} {'during':28} then one plain run")
    for each in done:
        for struck in each["strikes"]:
            after = f"wrong: {', '.join(each['wrong'])}" if each["wrong"] else "same metrics"
            print(f"{struck['signal']:8} {struck['scope']:11} {struck['stage']:28} {after}")
            tally(f"pipeline: {struck['signal']} to {struck['scope']}", after)
    assert not [each["wrong"] for each in done if each["wrong"]]
    assert not sum(each["left running"] for each in done)


def test_two_pipelines_at_once_end_with_the_same_metrics(pipeline, tally):
    folder, expected, _ = pipeline
    reset(folder)
    logs = [(FOLDER / f"log-{number}").open("w+") for number in range(2)]
    both = [start(folder, log) for log in logs]
    for process, log in zip(both, logs, strict=True):
        process.wait()
        log.seek(0)
        said = log.read()
        log.close()
        assert "Traceback" not in said
        refused = re.search("lock|busy", said)
        assert process.returncode == 0 or refused, said[-2000:]
        tally("two pipelines at once", "went through" if process.returncode == 0 else "told that another one runs")
    repro(folder)
    assert metrics(folder) == expected


def test_bits_flipped_in_what_dvc_keeps(pipeline, tally):
    """In a photo, a table, weights, a cached file: the next plain run mends it, or says which file is damaged."""
    folder, expected, _ = pipeline
    repro(folder)
    kinds = ["data/laptop/**/*.png", "reports/laptop/**/*.csv", "reports/laptop/**/summary.json",
             "runs/laptop/**/last.safetensors", "runs/laptop/**/log.csv", "runs/laptop/**/state.pt",
             "downloads/laptop/**/*.png", ".dvc/cache/files/**/*"]  # fmt: skip
    for kind in kinds:
        files = sorted(path for path in folder.glob(kind) if path.is_file() and "cost" not in str(path))
        path = random.Random(kind).choice(files)
        right = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(next(damaged(right, 1, seed=len(kind)))[1])
        with (FOLDER / "log").open("w") as log:
            process = start(folder, log)
            process.wait()
        said = (FOLDER / "log").read_text()
        assert "Traceback" not in said
        if process.returncode == 0:
            assert metrics(folder) == expected, f"{path} was used though it is damaged"
            tally(f"bit flipped: {kind}", "repaired or without effect, same metrics")
        else:
            assert path.name in said, said[-2000:]
            tally(f"bit flipped: {kind}", "refused")
            path.write_bytes(right)
            repro(folder)


def test_a_full_disk_under_dvcs_cache(pipeline, tally):
    """DVC names each file that it could not keep; what training made stays, and the next plain run is as ever."""
    folder, expected, _ = pipeline
    reset(folder)
    with small_disk(folder / ".dvc/cache", "64k"), (FOLDER / "log").open("w") as log:
        process = start(folder, log, ["train@fsrcnn"])
        process.wait()
    said = (FOLDER / "log").read_text()
    assert "No space left" in said
    assert "Traceback" not in said
    repro(folder, ["method@fsrcnn"])
    found = metrics(folder)
    assert any("fsrcnn" in name for name in found)
    assert found == {name: expected[name] for name in found}
    tally("disk full under DVC's cache", "refused, files named; then the same metrics")


PROGRAM = """
import sys
from rvlib import recipes
from rvlib.photos import sample
photos = {"coffee": sample("coffee")[:96, :128]}
recipes.train("fsrcnn", photos, run=sys.argv[1], steps=600, validate_every=20, patch_size=32, batch_size=4)
"""


def test_killed_training_ends_with_the_same_weights(tmp_path, tally):
    def begin(name):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / name)]
        variables = environment(ROOT) | ONE_THREAD
        return subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True)

    began = time.monotonic()
    assert begin("undisturbed").wait() == 0
    seconds = time.monotonic() - began
    expected = (tmp_path / "undisturbed/last.safetensors").read_bytes()
    rng, kills, number = random.Random(0), 0, 0
    while kills < KILLS:
        name = rng.choice(list(SIGNALS))
        process = begin(f"run-{number}")
        try:
            process.communicate(timeout=rng.uniform(0.3, 1) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(SIGNALS[name])
            process.communicate()
        if process.returncode:
            kills += 1
            tally(f"training: {name}", "went on")
            continue
        assert (tmp_path / f"run-{number}/last.safetensors").read_bytes() == expected
        tally("training killed, then through", "same weights, bit by bit")
        number += 1
    process = begin(f"run-{number}")
    assert process.wait() == 0
    assert (tmp_path / f"run-{number}/last.safetensors").read_bytes() == expected
    tally("training killed, then through", "same weights, bit by bit")
