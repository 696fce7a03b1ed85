"""What DVC's committed files say of every machine: no stage has run yet, and the photos have these bytes."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from clones import run

from rvlib.study.fetch import fetch

ROOT = Path(__file__).parent.parent
LOCKS = run(["git", "ls-files", "dvc.lock", "profiles/*/dvc.lock"], ROOT).stdout.split()


def md5(folder):
    """What DVC records of a folder: the list of its files with their hashes."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    entries = [{"md5": hashlib.md5(files[name].read_bytes()).hexdigest(), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_committed_lock_is_empty(lock):
    """What one machine made is not the project's; that of this machine may stand in its place (`make report`)."""
    committed = run(["git", "show", f":{lock}"], ROOT).stdout
    assert yaml.safe_load(committed) == {"schema": "2.0", "stages": {}}


def test_the_sample_photos_are_those_that_are_pinned(tmp_path):
    fetch(["samples"], tmp_path, progress=False)
    (pinned,) = yaml.safe_load((ROOT / "data.dvc").read_text())["deps"]
    assert md5(tmp_path) == pinned["md5"]
