"""The pipeline: consistent with the notebooks, and whole, at tiny size in a temporary clone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rvlib.study.fetch import manifest

pytestmark = pytest.mark.timeout(1500)  # the whole pipeline runs once, on whatever machine
ROOT = Path(__file__).parent.parent
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# what every run imports but no result depends on: the runner of notebooks, the command line, the import workaround
PLUMBING = {"__init__", "__main__", "cli", "errors", "files", "notebooks", "study", "torchvision_ops"}

TRACE = """
import json, os, pathlib, sys

def _trace(*_):
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("rvlib")]
    files = [getattr(module, "__file__", None) for module in modules]
    target = pathlib.Path(os.environ["RV_TRACE"], os.environ["DVC_STAGE"].split(":")[-1])
    target.write_text(json.dumps(sorted(filter(None, files))))

get_ipython().events.register("post_run_cell", _trace)
"""


def run(command, folder, **environment):
    """Run a command and return it; its output is shown where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path} | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def make_clone(folder):
    """A git clone of the files as they stand, with parameters for a minute."""
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    parameters["04_fsrcnn"] |= {"steps": 2000, "experiment_steps": 40, "patch_size": 48, "validate_every": 1000}
    parameters["08_diffir"] |= {"ablation_timesteps": [1, 4]}
    parameters["11_cost"] = {"side": 16, "repeats": 1, "sides": [16, 24]}
    tiny = {"steps": 8, "batch_size": 2, "patch_size": 32, "validate_every": 4}
    for section in (section for section in parameters.values() if isinstance(section, dict)):
        for key in section:
            if isinstance(section[key], dict) and "steps" in section[key]:
                section[key] |= tiny
            if key == "experiment_steps" and "training" in section:
                section[key] = 4
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "tiny"],
    ):
        run(["git", *words], folder)


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A tiny clone after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    make_clone(folder)
    startup = folder.parent / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00-trace.py").write_text(TRACE)
    (folder.parent / "trace").mkdir(exist_ok=True)
    repro(folder)
    return folder


def repro(folder, *options):
    """`dvc repro` in a clone; returns what it said."""
    places = {"IPYTHONDIR": str(folder.parent / "ipython"), "RV_TRACE": str(folder.parent / "trace")}
    done = run(["dvc", "repro", *options], folder, **places)
    return done.stdout + done.stderr


def ran(said):
    """Names of the stages that a `dvc repro` ran."""
    return re.findall(r"Running stage '([^']+)'", said)


@pytest.mark.pipeline
def test_ends_with_a_report_in_which_fsrcnn_is_ahead(clone):
    page = (clone / "reports/laptop/index.html").read_text()
    assert page.count("<img") >= 6
    assert 'src="data:image/png;base64,' in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "the page must need no other file"
    summary = json.loads((clone / "reports/laptop/04_fsrcnn/summary.json").read_text())
    assert summary["gain_db"]["samples"] > 0
    for table in ("04_fsrcnn/means", "09_compare_super_resolution/table", "02_degradations/bicubic", "01_data/sets"):
        assert (clone / f"reports/laptop/{table}.csv").stat().st_size > 40
        assert (clone / f"reports/laptop/{table}.md").read_text().startswith("|")


@pytest.mark.pipeline
def test_every_stage_depends_on_what_its_notebook_uses(clone):
    traces = {path.name: json.loads(path.read_text()) for path in (clone.parent / "trace").iterdir()}
    assert set(traces) == {name for name, stage in STAGES.items() if "rvlib notebook" in stage["cmd"]}
    for name, files in traces.items():
        used = {Path(file).relative_to(clone).as_posix() for file in files}  # fails for a library of another place
        used = {file for file in used if Path(file).stem not in PLUMBING or "models" in file}
        missing = used - set(STAGES[name]["deps"])
        assert not missing, f"stage {name} does not depend on {sorted(missing)}"


@pytest.mark.pipeline
def test_a_second_run_does_nothing(clone):
    assert ran(repro(clone)) == []


@pytest.mark.pipeline
def test_editing_a_figure_does_not_train_again(clone):
    file = clone / "rvlib/study/figures.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n# another look\n")
        stages = ran(repro(clone, "--dry"))
    finally:
        file.write_text(before)
    assert "04_fsrcnn" in stages
    assert not [name for name in stages if name.startswith("train_")]


@pytest.mark.pipeline
def test_saving_a_notebook_runs_nothing(clone):
    notebook = clone / "notebooks/04_fsrcnn.ipynb"
    content = json.loads(notebook.read_text())
    content["cells"][1]["execution_count"] = 99
    content["metadata"]["widgets"] = {"state": {}}
    notebook.write_text(json.dumps(content))
    assert ran(repro(clone)) == []


def test_each_notebook_has_a_stage_of_its_name():
    notebooks = {path.stem for path in (ROOT / "notebooks" / "text").glob("*.py")}
    assert notebooks <= set(STAGES)
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == notebooks
    for name in notebooks:
        assert f"notebooks/text/{name}.py" in STAGES[name]["deps"]


def test_stages_depend_on_files_that_exist():
    for name, stage in STAGES.items():
        for file in stage["deps"]:
            assert "${" in file or (ROOT / file).exists(), f"{name} depends on {file}, which does not exist"


@pytest.mark.parametrize("profile", ["laptop", "release", "paper"])
def test_every_profile_has_a_section_for_every_notebook_and_its_own_pin(profile):
    folder = ROOT if profile == "laptop" else ROOT / "profiles" / profile
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    assert parameters["profile"] == profile
    assert (folder / parameters["root"]).resolve() == ROOT.resolve()
    assert (ROOT / parameters["params"]).resolve() == (folder / "params.yaml").resolve()
    sections = [section for section in parameters.values() if isinstance(section, dict)]
    sets = {name for section in sections for key in section if key.endswith("sets") for name in section[key]}
    assert sets <= set(manifest()["set"])
    assert {name for name in sets if name != "samples"} <= set(parameters["fetch"]["sets"])
    assert set(STAGES) - set(parameters) <= {name for name in STAGES if name.startswith("train_")}
    assert (folder / "dvc.yaml").resolve() == (ROOT / "dvc.yaml").resolve()
    pin = yaml.safe_load((folder / "data.dvc").read_text())
    assert [each["path"] for each in pin["outs"]] == [f"data/{profile}"]
    assert [each["path"] for each in pin["deps"]] == [f"downloads/{profile}"]
    assert not pin.get("frozen")


def test_nothing_names_a_path_of_one_machine():
    listed = run(["git", "ls-files", "-z"], ROOT).stdout.split("\0")
    home = str(Path.home())
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.suffix in (
            ".py",
            ".md",
            ".yaml",
            ".yml",
            ".toml",
            ".ipynb",
            ".cff",
            ".dvc",
            ".lock",
        ):
            text = path.read_text()
            assert f"{home}/" not in text and f"{ROOT}/" not in text, f"{name} names a path of this machine"
