"""Committed locks of DVC are current: no stage is recorded with other files than those of this tree."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
LOCKS = sorted([ROOT / "dvc.lock", *ROOT.glob("profiles/*/dvc.lock")])


def md5(path):
    """What DVC records of a file or a folder: a folder is the list of its files with their hashes."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    entries = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries).encode()).hexdigest() + ".dir"


def stale(lock, root):
    """Stages of a lock whose dependencies in the tree are gone or are others than recorded, with the first of them."""
    found = {}
    for stage, record in (yaml.safe_load(lock.read_text()).get("stages") or {}).items():
        for each in record.get("deps", []):
            made = each["path"].startswith(("data/", "runs/", "reports/", "downloads/"))
            path = root / each["path"]
            if not made and (not path.exists() or md5(path) != each["md5"]):
                found.setdefault(stage, each["path"])
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_no_stage_of_a_committed_lock_is_stale(lock):
    assert stale(lock, ROOT) == {}


def test_a_stale_stage_is_found(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("1\n")
    (tmp_path / "b.py").write_text("2\n")
    paths = {"code": md5(tmp_path / "code"), "b.py": md5(tmp_path / "b.py")}
    stages = {name: {"deps": [{"path": name, "md5": value}]} for name, value in paths.items()}
    stages["gone"] = {"deps": [{"path": "gone.py", "md5": paths["b.py"]}]}
    lock = tmp_path / "dvc.lock"
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    assert stale(lock, tmp_path) == {"gone": "gone.py"}
    (tmp_path / "code/c.py").write_text("3\n")
    (tmp_path / "b.py").write_text("4\n")
    assert stale(lock, tmp_path) == {"gone": "gone.py", "code": "code", "b.py": "b.py"}


def test_folders_are_hashed_as_dvc_does():
    """The pinned photos, where they were fetched: DVC wrote their hash."""
    recorded = yaml.safe_load((ROOT / "data.dvc").read_text())["deps"][0]
    assert recorded["md5"].endswith(".dir")
    folder = ROOT / recorded["path"]
    if not folder.is_dir():
        pytest.skip("the laptop profile has not run here")
    assert md5(folder) == recorded["md5"]
