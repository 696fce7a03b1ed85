"""The pipeline: consistent with the notebooks, and whole, at tiny size in a temporary clone."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from clones import ROOT, commit, make_clone, repro, run

from rvlib.study import notebooks
from rvlib.study.fetch import manifest

pytestmark = pytest.mark.timeout(1500)  # the whole pipeline runs once, on whatever machine
PIPELINE = (ROOT / "dvc.yaml").read_text()
STAGES = {name: stage.get("do", stage) for name, stage in yaml.safe_load(PIPELINE)["stages"].items()}
PROFILES = sorted(path.name for path in (ROOT / "profiles").iterdir() if (path / "params.yaml").exists())


@pytest.fixture(scope="session", params=["a method a task", pytest.param("every method", marks=pytest.mark.drill)])
def clone(request, tmp_path_factory):
    """A tiny clone with one method more, after one `dvc repro`."""
    folder = tmp_path_factory.mktemp("clone")
    make_clone(folder, every_method=request.param == "every method")
    add_toy(folder)
    commit(folder, "toy")
    planned = repro(folder, "--dry", "--force")  # without --force, DVC looks for what is not there yet
    assert sorted(repro(folder)) == sorted(planned), "what is said of a fresh clone is done"
    return folder


def add_toy(folder):
    """What a user writes for a method more: its file, its notebook, its place in the table and its section."""
    for name, text in TOY.items():
        (folder / name).write_text(text)
    table = folder / "rvlib/models/__init__.py"
    text = table.read_text().replace("import diffir, ", "import toy, diffir, ")
    table.write_text(
        text.replace("        diffir.DIFFIR_METHOD,\n", "        diffir.DIFFIR_METHOD,\n        toy.TOY_METHOD,\n")
    )
    parameters = yaml.safe_load((folder / "params.yaml").read_text())
    parameters["methods"]["toy"] = {"releases": {"toy-x4": "toy"}, "train_sets": ["samples"], "steps": 8}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))


def trainings_named_after(clone, edits):
    """The trainings that `dvc status` would run after edits (file, old text, new text), which are undone."""
    files = {clone / file: (clone / file).read_text() for file, _, _ in edits}
    try:
        for file, old, new in edits:
            assert old in (clone / file).read_text()
            (clone / file).write_text((clone / file).read_text().replace(old, new))
        repro(clone, "-s", "cells")
        changed = json.loads(run(["dvc", "status", "--json"], clone).stdout)
    finally:
        for file, before in files.items():
            file.write_text(before)
    return {name.partition("@")[2] for name in changed if name.startswith("train@")}


def methods_of(clone):
    return set(yaml.safe_load((clone / "params.yaml").read_text())["methods"])


@pytest.mark.pipeline
class TestTinyPipeline:
    def test_ends_with_a_report_in_which_fsrcnn_is_ahead(self, clone):
        reports = clone / "reports/laptop"
        page = (reports / "index.html").read_text()
        assert page.count("<img") >= 6
        assert 'src="data:image/webp;base64,' in page
        assert not re.search(r'src="(?!data:)|<link', page), "the page must need no other file"
        assert len(page) < 6_000_000
        absent = re.findall("Not made yet: <code>methods/([a-z_]+)/", page)
        assert len(absent) == page.count("Not made yet"), "each section has what it names"
        assert not methods_of(clone) & set(absent), "but for the methods that this profile lacks"
        assert all(f">{title}</h2>" in page for title in ("Learning curves", "Outside of Python", "NAFNet"))
        assert page.count("<table>") == page.count('class="origin"'), "each table says where it comes from"
        summary = json.loads((reports / "methods/fsrcnn/summary.json").read_text())
        assert summary["gain_db"]["samples"] > 0
        for table in ("methods/fsrcnn/means", "compare_super_resolution/table", "degradations/bicubic", "data/sets"):
            assert (reports / f"{table}.csv").stat().st_size > 40
            assert (reports / f"{table}.md").read_text().startswith("|")

    def test_leaves_the_checkout_as_it_was(self, clone):
        run(["git", "update-index", "--skip-worktree", "data.dvc", "dvc.lock"], clone)  # as `make report` does
        assert run(["git", "status", "--porcelain"], clone).stdout == ""

    def test_a_second_run_does_nothing_though_a_notebook_was_saved(self, clone):
        notebook = clone / "notebooks/04_fsrcnn.ipynb"
        before = notebook.read_text()
        content = json.loads(before)
        content["cells"][1]["execution_count"] = 99
        content["metadata"]["widgets"] = {"state": {}}
        notebook.write_text(json.dumps(content))
        assert repro(clone) == []
        notebook.write_text(before)

    def test_dvc_shows_metrics_curves_and_parameters(self, clone):
        shown = run(["dvc", "metrics", "show"], clone).stdout
        assert re.search(r"means/super_resolution/samples/fsrcnn.json\s+[\d.]+", shown)
        assert max(map(len, shown.splitlines())) < 120
        assert {"PSNR", "SSIM", "LPIPS"} <= set(shown.splitlines()[0].split())
        assert "samples/fsrcnn.json" in run(["dvc", "metrics", "diff", "HEAD"], clone).stdout
        run(["dvc", "params", "diff", "HEAD"], clone)
        run(["dvc", "plots", "show"], clone)
        assert "fsrcnn-x4" in (clone / "dvc_plots/index.html").read_text()
        chart = run(["dvc", "dag", "report", "--md", "--collapse-foreach-matrix"], clone).stdout
        assert chart.count("-->") < 40, "a stage for each method would be too many to read"
        assert '["train"]' in chart

    def test_only_what_a_training_computes_names_its_stage(self, clone):
        """Prose, a caption, a colour and a docstring name none; tests/test_runs.py has each kind of code."""
        words = [
            ("notebooks/text/07_nafnet.py", "# %% [markdown]\n# ", "# %% [markdown]\n# Prose. "),
            ("notebooks/text/04_fsrcnn.py", 'ylabel="', 'ylabel="another '),
            ("rvlib/study/figures.py", '"savefig.dpi": 200', '"savefig.dpi": 150'),
            ("rvlib/models/nafnet.py", "    colour=1,", "    colour=7,"),
            ("rvlib/losses.py", '"""Mean over the batch of 10 log₁₀(MSE + 10⁻⁴', '"""The mean of 10 log₁₀(MSE + 10⁻⁴'),
        ]
        network = [("rvlib/models/nafnet.py", "def forward(self", "def forward(self, *, unused=0")]
        assert trainings_named_after(clone, words) == set()
        assert trainings_named_after(clone, network) == {"nafnet", "self_supervised"} & methods_of(clone)

    def test_a_sixth_method_is_a_file_a_notebook_and_a_section(self, clone):
        """The last test of the class, since it leaves other results in the clone."""
        edited = run(["git", "diff", "--numstat", "HEAD~1", "HEAD"], clone).stdout.splitlines()
        lines = {name: (int(new), int(gone)) for new, gone, name in map(str.split, edited)}
        table, section = lines.pop("rvlib/models/__init__.py"), lines.pop("params.yaml")
        assert lines == {name: (len(text.splitlines()), 0) for name, text in TOY.items()}
        assert table == (2, 1), "the import, and a line of the table"
        assert section[1] == 0
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
            "from pathlib import Path; import rvlib; from rvlib.study import profiles, readme;"
            "assert profiles.settings('laptop', 'toy') == {'steps': 8};"
            "readme.write_results(Path('README.md'), Path('reports/laptop'));"
            "model = rvlib.load('reports/laptop/weights/toy-x4.safetensors');"
            "assert rvlib.restore(model, rvlib.photos.sample('coffee')[:32, :32]).shape == (128, 128, 3)"
        )
        run([sys.executable, "-c", program], clone)
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


SETTINGS = Settings(steps=9, batch_size=2)
RECIPE = Recipe(loss="l1", prepare=alone(Pixelwise), settings=SETTINGS, patch_size=32, sections=("toy",))
TOY_METHOD = Method(
    key="toy", title="Toy", paper="nobody", colour=7, tasks=("super-resolution",), builder=Toy,
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


def test_each_notebook_has_a_stage():
    methods = yaml.safe_load((ROOT / "params.yaml").read_text())["methods"]
    for stem in notebooks.names():
        name = stem.partition("_")[2]
        assert name in methods or f"notebooks/text/{stem}.py" in STAGES[name]["deps"]
        assert (ROOT / "notebooks" / f"{stem}.ipynb").exists()


def test_the_pipeline_can_be_read():
    assert len(PIPELINE.splitlines()) <= 350
    assert sum(len(stage["deps"]) for stage in STAGES.values()) <= 100


def test_what_shows_released_weights_depends_on_them():
    """In the release profile `released` is no folder of weights: there the stage `weights` makes them."""
    for stem in notebooks.names():
        if re.search(r"rvlib\.(released\(|load\(\")", (ROOT / f"notebooks/text/{stem}.py").read_text()):
            stage = STAGES.get(stem.partition("_")[2], STAGES["method"])
            # weights come after the methods, whose pictures are on their cards
            ahead = stage is STAGES["method"] and "reports/${profile}/methods" in STAGES["weights"]["deps"]
            assert "${released}" in stage["deps"], stem
            assert "reports/${profile}/weights.json" in stage["deps"] or ahead, stem


@pytest.mark.parametrize("profile", ["laptop", *PROFILES])
def test_what_a_machine_makes_is_no_change_of_the_project(profile):
    """DVC writes a lock and a pin, and refuses to where git ignores them."""
    planned = run(["make", "--dry-run", "report", f"PROFILE={profile}"], ROOT).stdout.splitlines()
    (skipped,) = [line.split("2>")[0].split()[3:] for line in planned if "--skip-worktree" in line]
    folder = ROOT if profile == "laptop" else ROOT / "profiles" / profile
    assert [ROOT / file for file in skipped] == [folder / "data.dvc", folder / "dvc.lock"]
    assert all((ROOT / file).is_file() for file in skipped)


def test_stages_depend_on_files_that_exist():
    for name, stage in STAGES.items():
        for file in stage["deps"]:
            assert "${" in file or (ROOT / file).exists(), f"{name} depends on {file}, which does not exist"


def test_what_python_and_jupyter_leave_in_a_folder_changes_no_stage():
    """DVC does not read .gitignore."""
    folders = {file for stage in STAGES.values() for file in stage["deps"] if (ROOT / file).is_dir()}
    assert "rvlib" in folders
    left = [f"{folder}/{name}/a" for folder in sorted(folders) for name in ("__pycache__", ".ipynb_checkpoints")]
    taken = [f"{folder}/a.py" for folder in sorted(folders)]
    assert run(["dvc", "check-ignore", *left, *taken], ROOT).stdout.split() == left


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
