"""The official profile, whole, on sample photos in a temporary clone: it trains nothing and judges official weights."""

import sys

import pytest
import yaml
from clones import make_clone, run

pytestmark = [pytest.mark.drill, pytest.mark.timeout(1500)]  # minutes: one more profile through the same pipeline

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
    parameters["edge"] = {"precisions": {"fsrcnn-x4": ["fp32"]}, "frames": {"fsrcnn-x4": [16, 24]}, "repeats": 1}
    parameters["video"] = {"test_photos": ["chelsea", "coffee"], "side": 128, "frames": 3, "lengths": [12]}
    file.write_text(yaml.safe_dump(parameters, sort_keys=False))
    run(["dvc", "repro", "report", "weights"], folder / "profiles/official", **environment)
    return folder


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
