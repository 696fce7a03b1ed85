"""Temporary clones of the project, in which tests run the pipeline at tiny size."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def environment(folder):
    """Variables for what runs in a clone: the programs of this Python, and the rvlib of the clone."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder)}


def run(command, folder, **variables):
    """Run a command and return it; its output is shown where it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder) | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def commit(folder, message):
    for words in (["add", "-A"], ["commit", "-qm", message]):
        run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], folder)


def make_clone(folder, *, every_method=True):
    """A git clone of the files as they stand, with parameters for a minute, without the slowest released networks.

    every_method: otherwise the profile has one method for each task, and no released network of another method.
    """
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for absent in ("swinir", "diffir", *(() if every_method else ("srresnet", "srgan"))):
        for path in (folder / "weights").glob(f"{absent}-*"):
            path.unlink()
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    methods = parameters["methods"]
    methods["fsrcnn"] |= {"steps": 2000, "experiment_steps": 40, "patch_size": 48, "validate_every": 1000}
    methods["diffir"] |= {"ablation_timesteps": [1, 4]}
    methods["swinir"] |= {"experiment_seeds": [0]}
    methods["self_supervised"] |= {
        "zero_shot_steps": 4,
        "adapt_steps": 2,
        "denoise_steps": 4,
        "seeds": [0],
        "denoise_seeds": [0],
    }
    parameters["compare_deblurring"] |= {"lengths": [15]}
    parameters["cost"] = {"side": 16, "repeats": 1, "sides": [16, 24]}
    parameters["edge"] = {"precisions": {"fsrcnn-x4": ["fp32"]}, "frames": {"fsrcnn-x4": [16, 24]}, "repeats": 1}
    parameters["video"] = {"test_photos": ["chelsea", "coffee"], "side": 128, "frames": 3, "lengths": [12]}
    tiny = {"steps": 8, "batch_size": 2, "patch_size": 32, "validate_every": 4}
    for section in methods.values():
        for key in section:
            if isinstance(section[key], dict) and "steps" in section[key]:
                section[key] |= tiny
    if not every_method:
        parameters["methods"] = {name: methods[name] for name in ("fsrcnn", "nafnet")}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    run(["git", "init", "-q"], folder)
    commit(folder, "tiny")


def repro(folder, *options):
    """Names of the stages that a `dvc repro` in a clone runs.

    Python writes bytecode there as it does for most users, whatever this machine has set: DVC must not mind it.
    """
    done = run(["dvc", "repro", *options], folder, PYTHONDONTWRITEBYTECODE="")
    return re.findall(r"Running stage '([^']+)'", done.stdout + done.stderr)
