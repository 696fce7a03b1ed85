"""Profiles on the command line: what a section says, and what was meant by a word."""

import pytest
import torch
import yaml

import rvlib
from rvlib import recipes, study
from rvlib.study import notebooks, profiles


@pytest.mark.parametrize("profile", ["laptop", "release", "paper"])
@pytest.mark.parametrize("method", [name for name, recipe in recipes.RECIPES.items() if recipe.sections])
def test_each_method_has_its_settings_in_each_profile(profile, method):
    found = profiles.settings(profile, method)
    assert found["steps"] >= 1
    assert found.keys() <= profiles.CHOICES | {"arguments", "start"}


def test_the_readme_says_how_long_its_example_trains():
    assert f": {profiles.settings(None, 'fsrcnn')['steps']:,} steps" in (rvlib.ROOT / "README.md").read_text()


def test_another_section():
    assert profiles.settings("paper", "diffir-s1", "diffir.deblurring")["arguments"] == {"task": "deblurring"}
    with pytest.raises(rvlib.UserError, match="has no section diffir.denoising"):
        profiles.settings("paper", "diffir-s1", "diffir.denoising")


def test_a_method_without_a_section_keeps_its_recipe():
    assert profiles.settings("laptop", "srcnn") == {}


def test_values_are_what_they_look_like():
    words = ["steps=1000", "rate=1e-4", "exact=2.5", "optimizer=adamw", "milestones=[1, 2]", "clip_norm=null", "a=b=c"]
    expected = {"steps": 1000, "rate": 1e-4, "exact": 2.5, "optimizer": "adamw", "milestones": [1, 2]}
    found = profiles.assignments([*words, "bf16=true"], "--set")
    assert found == expected | {"clip_norm": None, "a": "b=c", "bf16": True}
    assert type(found["steps"]) is int
    for wrong in ("steps", "=3", "depths=[1"):
        with pytest.raises(rvlib.UserError, match="--set"):
            profiles.assignments([wrong], "--set")


def test_deblurring_may_train_on_pairs_of_its_own(tmp_path, monkeypatch):
    for place in ("GoPro/train/reference", "GoPro/train/degraded", "DIV2K/train/reference", "Flickr2K/train/reference"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.png").touch()
    monkeypatch.setattr(study, "data", lambda _: tmp_path)
    pairs = profiles.training_photos("paper", "diffir-s2", "diffir.deblurring")
    assert list(pairs["references"]) == list(pairs["degraded"]) == ["GoPro/a"]
    whole = profiles.training_photos("paper", "diffir-s2")
    assert list(whole["references"]) == ["DIV2K/a", "Flickr2K/a"]
    assert not whole["degraded"]


def test_photos_that_were_not_fetched_may_be_ones_own(tmp_path, monkeypatch):
    stated = profiles.file("laptop")
    monkeypatch.setattr(profiles, "file", lambda _: stated)
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    with pytest.raises(rvlib.UserError, match="is missing: run .* or name a folder of photos of your own"):
        profiles.training_photos("laptop", "fsrcnn")


def frames_of_profiles():
    """The frames that 13_edge times, by profile and network: height and width. The demo's are the notebook's own."""
    cells = notebooks.read_twin("edge").cells
    stated = next(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    defaults = {}
    exec(stated, defaults)  # literals alone
    found = {"demo": defaults["frames"]}
    for name in ["laptop", *sorted(file.parent.name for file in rvlib.ROOT.glob("profiles/*/params.yaml"))]:
        found[name] = yaml.safe_load(profiles.file(name).read_text())["edge"].get("frames", {})
    return [(profile, name, sides) for profile, frames in found.items() for name, sides in frames.items()]


def test_networks_take_the_frames_that_are_timed():
    """13_edge calls the networks themselves, not `restore`, which pads. Nothing is computed on the device meta."""
    listed = frames_of_profiles()
    assert {"demo", "release", "paper"} <= {profile for profile, _, _ in listed}
    networks = {name: rvlib.load(name).to("meta") for name in {name for _, name, _ in listed}}
    for profile, name, (height, width) in listed:
        network = networks[name]
        inputs = [torch.empty(1, network.channels, height, width, device="meta")]
        inputs += [torch.empty(1, network.noise_size, device="meta")] * bool(network.noise_size)
        try:
            with torch.inference_mode():
                restored = network(*inputs)
        except RuntimeError:
            pytest.fail(f"{profile}: {name} needs multiples of {network.multiple_of}, not {height} x {width}")
        assert restored.shape[2:] == (network.scale * height, network.scale * width)
