"""The paper profile is real: each method takes three steps in its official size, on stand-in photos."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import rvlib
from rvlib import recipes
from rvlib.photos import sample
from rvlib.study import profiles, rehearsal

PAPER = yaml.safe_load((Path(__file__).parent.parent / "profiles/paper/params.yaml").read_text())["methods"]
TRAININGS = {
    "fsrcnn": {key: PAPER["fsrcnn"][key] for key in ("learning_rate", "patch_size")},
    "swinir": PAPER["swinir"]["training"],
    "nafnet": PAPER["nafnet"]["training"],
    "diffir-s1": PAPER["diffir"]["super_resolution"],
    "diffir-s2": PAPER["diffir"]["super_resolution"],
}
OFFICIAL = {"srresnet": 1_547_350, "swinir": 929_628, "nafnet": 17_111_907, "diffir-s1": 24_801_478}


@pytest.mark.slow
@pytest.mark.parametrize("method", TRAININGS)
def test_three_steps(method, tmp_path):
    """SRResNet and SRGAN are rehearsed below."""
    settings = TRAININGS[method]
    start = rvlib.create("diffir", stage=1) if method == "diffir-s2" else None
    # memory and time: one pair a step, of a patch that all windows and halvings fit
    small = {
        "steps": 3,
        "batch_size": 1,
        "accumulate": 1,
        "patch_size": min(settings["patch_size"], 64),
        "validate_every": 3,
    }
    photos = {"coffee": sample("coffee")[:128, :128]}
    model, log = recipes.train(method, photos, run=tmp_path, start=start, **{**settings, **small})
    assert np.isfinite(log["loss"]).all()
    if method in OFFICIAL:
        assert sum(parameter.numel() for parameter in model.parameters()) == OFFICIAL[method]


def test_local_means_change_no_training_of_the_profile():
    """On its patches they are the global ones; on photos, where 32.87 dB is published with them, they are not."""
    side, networks = PAPER["nafnet"]["training"]["patch_size"], []
    assert PAPER["nafnet"]["training"]["arguments"]["local"]
    for local in (True, False):
        torch.manual_seed(0)
        sizes = {"width": 4, "encoder": (1, 1), "middle": 1, "decoder": (1, 1)}
        networks.append(rvlib.create("nafnet", **sizes, local=local))
    for network in networks:
        for name, value in network.named_parameters():
            if name.endswith(("beta", "gamma")):  # zero at the start, where each block is left out
                torch.nn.init.ones_(value)
    patch, large = torch.rand(1, 3, side, side), torch.rand(1, 3, 2 * side, 2 * side)
    with torch.no_grad():
        assert torch.equal(networks[0](patch), networks[1](patch))
        assert not torch.allclose(networks[0](large), networks[1](large))


@pytest.mark.slow
def test_a_rehearsal_takes_official_sizes(vgg16):
    rows = rehearsal.rehearse("paper", only="srgan srgan.adversarial").set_index("training")
    assert list(rows.index) == ["srresnet", "srgan"], "what a training starts from comes before it"
    assert rows.loc["srresnet", "parameters"] == OFFICIAL["srresnet"]
    assert rows.loc["srresnet", "steps"] == 1_000_000


def test_dry_rehearses_in_place_of_the_pipeline():
    command = ["make", "--dry-run", "report", "PROFILE=paper"]
    for more, wanted, other in (([], "dvc repro", "rehearse"), (["DRY=1"], "rvlib rehearse paper", "dvc repro")):
        folder = Path(__file__).parent.parent
        said = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, check=True).stdout
        assert wanted in said
        assert other not in said


def test_everything_that_is_trained_is_rehearsed():
    """Each section of the profile that has steps, and each method."""
    named = {section for _, section in rehearsal.trainings()}
    for notebook, section in PAPER.items():
        for entry, value in section.items() if isinstance(section, dict) else ():
            if isinstance(value, dict) and "steps" in value:
                assert f"{notebook}.{entry}" in named
    assert {method for method, _ in rehearsal.trainings()} | {"srcnn"} == recipes.RECIPES.keys()
    for method, section in rehearsal.trainings():
        stated = profiles.settings("paper", method, section)
        milestones = stated.get("milestones", [])
        assert list(milestones) == sorted(milestones)
        assert stated["steps"] > max(milestones, default=1999)
        assert stated["patch_size"] >= 96
        share = stated.get("batch_size", 16) // 8  # what each of eight GPUs computes
        assert share % stated.get("accumulate", 1) == 0
