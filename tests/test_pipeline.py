"""The pipeline: consistent with the notebooks, and whole, at tiny size in a temporary clone."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from rvlib.study import notebooks
from rvlib.study.fetch import manifest

pytestmark = pytest.mark.timeout(1500)  # the whole pipeline runs once, on whatever machine
ROOT = Path(__file__).parent.parent
PIPELINE = (ROOT / "dvc.yaml").read_text()
STAGES = {name: stage.get("do", stage) for name, stage in yaml.safe_load(PIPELINE)["stages"].items()}
PROFILES = sorted(path.name for path in (ROOT / "profiles").iterdir() if (path / "params.yaml").exists())


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
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    methods = parameters["methods"]
    methods["fsrcnn"] |= {"steps": 2000, "experiment_steps": 40, "patch_size": 48, "validate_every": 1000}
    methods["diffir"] |= {"ablation_timesteps": [1, 4]}
    parameters["cost"] = {"side": 16, "repeats": 1, "sides": [16, 24]}
    tiny = {"steps": 8, "batch_size": 2, "patch_size": 32, "validate_every": 4}
    for section in methods.values():
        for key in section:
            if isinstance(section[key], dict) and "steps" in section[key]:
                section[key] |= tiny
            if key == "experiment_steps" and "training" in section:
                section[key] = 4
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "tiny"]):
        run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *words], folder)


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A tiny clone after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    make_clone(folder)
    repro(folder)
    return folder


def repro(folder, *options):
    """`dvc repro` in a clone; returns what it said."""
    done = run(["dvc", "repro", *options], folder, PYTHONPATH=str(folder))
    return done.stdout + done.stderr


def ran(said):
    """Names of the stages that a `dvc repro` ran."""
    return re.findall(r"Running stage '([^']+)'", said)


@pytest.mark.pipeline
class TestTinyPipeline:
    def test_ends_with_a_report_in_which_fsrcnn_is_ahead(self, clone):
        reports = clone / "reports/laptop"
        page = (reports / "index.html").read_text()
        assert page.count("<img") >= 6
        assert 'src="data:image/png;base64,' in page
        assert not re.search(r'(src|href)="(?!data:|#)', page), "the page must need no other file"
        summary = json.loads((reports / "methods/fsrcnn/summary.json").read_text())
        assert summary["gain_db"]["samples"] > 0
        for table in ("methods/fsrcnn/means", "compare_super_resolution/table", "degradations/bicubic", "data/sets"):
            assert (reports / f"{table}.csv").stat().st_size > 40
            assert (reports / f"{table}.md").read_text().startswith("|")

    def test_leaves_the_checkout_as_it_was(self, clone):
        command = ["git", "update-index", "--skip-worktree", "dvc.lock"]
        assert " ".join(command) in (ROOT / "Makefile").read_text()
        run(command, clone)
        assert run(["git", "status", "--porcelain"], clone).stdout == ""

    def test_a_second_run_does_nothing(self, clone):
        assert ran(repro(clone)) == []

    def test_dvc_shows_metrics_curves_and_parameters(self, clone):
        shown = run(["dvc", "metrics", "show"], clone).stdout
        assert re.search(r"means/super_resolution/samples/fsrcnn.json\s+[\d.]+", shown)
        assert max(map(len, shown.splitlines())) < 120
        assert {"PSNR", "SSIM", "LPIPS"} <= set(shown.splitlines()[0].split())
        for command in (["metrics", "diff", "HEAD"], ["params", "diff", "HEAD"], ["plots", "show"], ["dag"]):
            run(["dvc", *command], clone)

    def test_saving_a_notebook_runs_nothing(self, clone):
        notebook = clone / "notebooks/04_fsrcnn.ipynb"
        before = notebook.read_text()
        content = json.loads(before)
        content["cells"][1]["execution_count"] = 99
        content["metadata"]["widgets"] = {"state": {}}
        notebook.write_text(json.dumps(content))
        assert ran(repro(clone)) == []
        notebook.write_text(before)

    @pytest.mark.parametrize(
        ("file", "old", "new", "expected"),
        [
            ("rvlib/losses.py", '"""Mean |x - y| (', '"""The mean of |x - y| (', set()),
            ("notebooks/text/06_swinir.py", "# %% [markdown]\n# ", "# %% [markdown]\n# Prose. ", set()),
            ("rvlib/study/figures.py", '"savefig.dpi": 200', '"savefig.dpi": 150', set()),
            ("notebooks/text/04_fsrcnn.py", 'ylabel="', 'ylabel="another ', set()),
            ("rvlib/models/nafnet.py", "def forward(self", "def forward(self, *, unused=0", {"nafnet"}),
            (
                "rvlib/settings.py",
                "ema: float = 0.999",
                "ema: float = 0.99",
                {"fsrcnn", "srgan", "swinir", "nafnet", "diffir"},
            ),
        ],
    )
    def test_only_what_a_training_computes_names_its_stage(self, clone, file, old, new, expected):
        path = clone / file
        before = path.read_text()
        assert old in before
        try:
            path.write_text(before.replace(old, new))
            repro(clone, "-s", "cells")
            changed = json.loads(run(["dvc", "status", "--json"], clone).stdout)
            names = {name.partition("@")[2] for name in changed if name.startswith("train@")}
        finally:
            path.write_text(before)
            repro(clone, "-s", "cells")
        assert names == expected

    def test_a_sixth_method_is_a_file_a_notebook_and_a_section(self, clone):
        """The last test of the class, since it leaves the method in the clone."""
        for name, text in TOY.items():
            (clone / name).write_text(text)
        table = clone / "rvlib/models/__init__.py"
        text = table.read_text().replace("import diffir, ", "import toy, diffir, ")
        table.write_text(
            text.replace("        diffir.DIFFIR_METHOD,\n", "        diffir.DIFFIR_METHOD,\n        toy.TOY_METHOD,\n")
        )
        parameters = yaml.safe_load((clone / "params.yaml").read_text())
        parameters["methods"]["toy"] = {"releases": {"toy-x4": "toy"}, "train_sets": ["samples"], "steps": 8}
        (clone / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
        for stage in ("cells", "train@toy", "method@toy", "compare_super_resolution", "weights", "report"):
            assert stage in ran(repro(clone, "-s", stage))
        reports = clone / "reports/laptop"
        rows = pd.read_csv(reports / "compare_super_resolution/rows.csv")
        assert "toy" in set(rows["method"])
        assert "Toy" in (reports / "index.html").read_text()
        assert "## toy-x4" in (reports / "weights/README.md").read_text()
        assert json.loads((reports / "weights/toy-x4.json").read_text())["identity"]["method"] == "toy"
        rows.assign(set="Set5").to_csv(
            reports / "compare_super_resolution/rows.csv", index=False
        )  # the README shows this set
        program = (
            "from pathlib import Path; import rvlib; from rvlib.study import report;"
            "report.write_results(Path('README.md'), Path('reports/laptop'));"
            "model = rvlib.load('reports/laptop/weights/toy-x4.safetensors');"
            "assert rvlib.restore(model, rvlib.photos.sample('coffee')[:32, :32]).shape == (128, 128, 3)"
        )
        run([sys.executable, "-c", program], clone, PYTHONPATH=str(clone))
        assert "| Toy " in (clone / "README.md").read_text()


TOY = {
    "rvlib/models/toy.py": '''"""Three layers."""

from torch import nn

from rvlib.models.base import RestorationModel
from rvlib.models.method import Method
from rvlib.objectives import Pixelwise
from rvlib.settings import Recipe, Settings, alone


class Toy(RestorationModel):
    """Two convolutions and a pixel shuffle."""

    task = "super-resolution"

    def __init__(self, *, features: int = 8, scale: int = 4):
        super().__init__()
        self.scale = scale
        sizes = nn.Conv2d(3, features, 3, padding=1), nn.Conv2d(features, 3 * scale**2, 3, padding=1)
        self.layers = nn.Sequential(*sizes, nn.PixelShuffle(scale))

    def forward(self, degraded):
        """(b 3 h w) -> (b 3 scale·h scale·w)."""
        return self.layers(degraded)


RECIPE = Recipe(loss="l1", prepare=alone(Pixelwise), settings=Settings(steps=8, batch_size=2), patch_size=32)
TOY_METHOD = Method(
    key="toy", title="Toy", colour=7, tasks=("super-resolution",), builder=Toy,
    recognise=lambda state: None, recipes={"toy": RECIPE},
)
''',
    "notebooks/text/16_toy.py": """# %% tags=["training"]
from rvlib import evaluate, measures, photos, recipes, study
from rvlib.degrade import Bicubic
# %% tags=["parameters"]
profile = "demo"
train_sets = ["samples"]
steps = 8
# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
toy, _ = recipes.train("toy", train_photos, run=study.run_folder(profile, "toy/toy"), steps=steps, replace_run=True)
# %%
chosen = measures.for_task("super-resolution", 4)
restorers = {("toy", "this run"): evaluate.with_model(toy)}
rows = evaluate.sets(restorers, study.data(profile), ["samples"], Bicubic(4), chosen)
rows.to_csv(study.output(profile, "methods/toy") / "rows.csv", index=False)
""",
}


TABLES = """
import csv, hashlib, pathlib, torch
import rvlib

MODELS = {
    "official/swinir-light-x4": rvlib.create("swinir", embed=12, depths=(2,), heads=(2,)),
    "official/nafnet-gopro-w32": rvlib.create("nafnet", width=4, encoder=(1,), middle=1, decoder=(1,)),
}
table, shelf = pathlib.Path("rvlib/official.csv"), pathlib.Path("mirror/official")
shelf.mkdir(parents=True)
rows = list(csv.DictReader(table.open(newline="")))
for row in rows:
    if row["name"] in MODELS:
        torch.save({"params": MODELS[row["name"]].state_dict()}, shelf / row["file"])
        content = (shelf / row["file"]).read_bytes()
        row |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
with table.open("w", newline="") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
with pathlib.Path("rvlib/study/published.csv").open("a") as file:
    file.write("official/swinir-light-x4,samples,psnr_y_crop4,50,a toy\\n")
"""
"""Puts stand-ins with random weights on the mirror of a clone, and their hashes into its table."""


@pytest.fixture(scope="session")
def official_clone(tmp_path_factory):
    """A clone of the official profile on sample photos, with two stand-ins, after one `dvc repro` of its report."""
    folder = tmp_path_factory.mktemp("official")
    make_clone(folder)
    for path in (folder / "weights").iterdir():
        if path.stem not in ("fsrcnn-x4", "nafnet-deblur"):
            path.unlink()
    environment = {"PYTHONPATH": str(folder), "RV_MIRROR": "mirror", "XDG_CACHE_HOME": str(folder / "cache")}
    run([sys.executable, "-c", TABLES], folder, **environment)
    file = folder / "profiles/official/params.yaml"
    parameters = yaml.safe_load(file.read_text())
    for section in parameters.values():
        if isinstance(section, dict):
            section |= {key: ["samples"] for key in section if key.endswith("sets")}
    parameters["compare_super_resolution"]["official"] = ["official/swinir-light-x4", "official/diffir-gan-x4"]
    parameters["compare_deblurring"] |= {"official": ["official/nafnet-gopro-w32"], "lengths": [15]}
    parameters["cost"] = {"side": 16, "repeats": 1, "sides": [16, 24]}
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))
    run(["dvc", "repro", "report", "weights"], folder / "profiles/official", **environment)
    return folder


@pytest.mark.pipeline
def test_the_official_profile_trains_nothing_and_judges_official_weights(official_clone):
    reports = official_clone / "reports/official"
    for task, name in (("super_resolution", "swinir-light-x4"), ("deblurring", "nafnet-gopro-w32")):
        rows = (reports / f"compare_{task}/rows.csv").read_text()
        assert rows.count(f"official weights: {name}") == 4
        assert (reports / f"means/{task}/samples/{name}.json").exists()
    verdicts = (reports / "compare_super_resolution/official.csv").read_text()
    assert "off by more than 0.02" in verdicts
    page = (reports / "index.html").read_text()
    assert "off by more than 0.02" in page
    executed = (reports / "notebooks/compare_super_resolution.ipynb").read_text()
    assert "left out: official/diffir-gan-x4: " in executed
    assert not list((official_clone / "runs/official").glob("*/*/last.safetensors"))


def test_each_notebook_has_a_stage():
    methods = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    for stem in notebooks.names():
        name = stem.partition("_")[2]
        assert name in methods or f"notebooks/text/{stem}.py" in STAGES[name]["deps"]
        assert (ROOT / "notebooks" / f"{stem}.ipynb").exists()


def test_stages_depend_on_files_that_exist():
    for name, stage in STAGES.items():
        for file in stage["deps"]:
            assert "${" in file or (ROOT / file).exists(), f"{name} depends on {file}, which does not exist"


@pytest.mark.parametrize("profile", ["laptop", *PROFILES])
def test_every_profile_has_a_section_for_every_notebook_and_its_own_pin(profile):
    folder = ROOT if profile == "laptop" else ROOT / "profiles" / profile
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    assert parameters["profile"] == profile
    assert (folder / parameters["root"]).resolve() == ROOT.resolve()
    assert (ROOT / parameters["params"]).resolve() == (folder / "params.yaml").resolve()
    sections = [section for section in parameters.values() if isinstance(section, dict)]
    sections += parameters["methods"].values()
    sets = {name for section in sections for key in section if key.endswith("sets") for name in section[key]}
    assert sets <= set(manifest()["set"])
    assert {name for name in sets if name != "samples"} <= set(parameters["fetch"]["sets"])
    assert set(STAGES) - {"cells", "train", "method"} <= set(parameters)
    left = {stem.partition("_")[2] for stem in notebooks.names()} - {*parameters, *parameters["methods"]}
    trained = set(yaml.safe_load((ROOT / "params.yaml").read_text())["methods"])
    assert left in (set(), trained), "a profile has all methods, or trains nothing"
    assert (folder / "dvc.yaml").read_text() == PIPELINE, "copy dvc.yaml to every profile"
    pin = yaml.safe_load((folder / "data.dvc").read_text())
    assert [each["path"] for each in pin["outs"]] == [f"data/{profile}"]
    assert [each["path"] for each in pin["deps"]] == [f"downloads/{profile}"]
    assert not pin.get("frozen")


def test_nothing_names_a_path_of_one_machine():
    listed = run(["git", "ls-files", "-z"], ROOT).stdout.split("\0")
    home = str(Path.home())
    kinds = (".py", ".md", ".yaml", ".yml", ".toml", ".ipynb", ".cff", ".dvc", ".lock", ".json")
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_file() and path.suffix in kinds:
            text = path.read_text()
            assert f"{home}/" not in text and f"{ROOT}/" not in text, f"{name} names a path of this machine"
