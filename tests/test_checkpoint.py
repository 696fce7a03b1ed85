"""Files of weights: whole ones come back bit by bit, broken and hostile ones are refused with a reason."""

import os
import warnings
import zipfile

import pytest
import torch
from golden import entry, tensors, weights

import rvlib
from rvlib import checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:.*does not tell its scale")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return rvlib.create("fsrcnn", d=20, s=6, m=2)


def official(name="fsrcnn_x4"):
    return weights(entry(name)["keys"], entry(name)["salt"])


def test_round_trip_is_exact(model, tmp_path):
    rvlib.save(model, tmp_path / "model.safetensors", note="kept")
    again = rvlib.load(tmp_path / "model.safetensors")
    assert not again.training
    assert again.spec == model.spec
    x = torch.rand(1, 1, 9, 8)
    assert torch.equal(model(x), again(x))


@pytest.mark.parametrize("wrap", [
    lambda s: s,
    lambda s: {"params": s},
    lambda s: {"params": {}, "params_ema": s},
    lambda s: {"state_dict": s, "epoch": 3},
    lambda s: {"state_dict": {}, "ema_state_dict": {"_orig_mod." + k: v for k, v in s.items()}},
    lambda s: {"module." + k: v for k, v in s.items()},
], ids=["bare", "params", "params_ema", "state_dict", "ema_state_dict", "module"])  # fmt: skip
def test_official_checkpoints_compute_the_official_output(tmp_path, wrap):
    torch.save(wrap(official()), tmp_path / "x4.pth")
    loaded = rvlib.load(tmp_path / "x4.pth")
    stored = tensors("fsrcnn_x4")
    assert (loaded(stored["in.0"]) - stored["out.0"]).abs().max() <= entry("fsrcnn_x4")["atol"]


def test_scale_is_a_hint(tmp_path):
    torch.save(official("fsrcnn_x2"), tmp_path / "x2.pth")
    assert rvlib.load(tmp_path / "x2.pth", scale=2).scale == 2
    with pytest.warns(UserWarning, match=r"x2\.pth does not tell its scale: x4 is assumed; .* give --scale "):
        assert rvlib.load(tmp_path / "x2.pth").scale == 4
    with warnings.catch_warnings(action="error"):
        rvlib.load(tmp_path / "x2.pth", scale=4)
        rvlib.load("fsrcnn-x4")


def test_wrong_scale_of_an_own_checkpoint_is_an_error(model, tmp_path):
    rvlib.save(rvlib.create("fsrcnn", scale=2), tmp_path / "x2.safetensors")
    with pytest.raises(rvlib.UserError, match="for scale 2, not for scale 4"):
        rvlib.load(tmp_path / "x2.safetensors", scale=4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_truncated_files_are_refused(model, tmp_path, suffix, kept):
    path = tmp_path / f"model{suffix}"
    rvlib.save(model, path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(rvlib.UserError, match="get it again"):
        rvlib.load(path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(2**28))
    assert (tmp_path / "bomb.pth").stat().st_size < 2**20
    with pytest.raises(rvlib.UserError, match="would unpack to 256 MiB"):
        rvlib.load(tmp_path / "bomb.pth")


def test_every_missing_and_unexpected_key_is_named(tmp_path):
    state = official()
    del state["mid_part.3.weight"], state["last_part.bias"]
    state["extra.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(rvlib.UserError) as caught:
        rvlib.load(tmp_path / "odd.pth")
    for key in ("mid_part.3.weight", "last_part.bias", "extra.weight"):
        assert key in str(caught.value)


def test_wrong_shapes_are_named(tmp_path):
    state = official()
    state["mid_part.2.weight"] = torch.zeros(12, 11, 3, 3)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(rvlib.UserError, match=r"mid_part.2.weight is \(12, 11, 3, 3\) instead of \(12, 12, 3, 3\)"):
        rvlib.load(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "'a' is of type int"),
        ([1, 2], "no state_dict"),
        ({}, "no state_dict"),
        ({"w": torch.ones(2)}, "no network"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.load(tmp_path / "odd.pth")


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"local": True}, "fsrcnn, which has no use for local"),
        ({"img_range": 255.0, "train_size": (9, 9)}, "no use for img_range, train_size"),
    ],
)
def test_a_hint_that_helps_nothing_is_refused(tmp_path, hints, message):
    torch.save(official(), tmp_path / "x4.pth")
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.load(tmp_path / "x4.pth", **hints)


def test_a_network_without_means_cannot_work_locally(tmp_path):
    rvlib.save(rvlib.create("plainnet", width=8, encoder=(1,), middle=1, decoder=(1,)), tmp_path / "own.safetensors")
    torch.save(rvlib.load(tmp_path / "own.safetensors").state_dict(), tmp_path / "plain.pth")
    with pytest.raises(rvlib.UserError, match="leave local and train_size out"):
        rvlib.load(tmp_path / "plain.pth", local=True)


def test_a_hint_that_contradicts_the_weights_is_refused(model, tmp_path):
    torch.save(rvlib.create("swinir", embed=12, depths=(2,), heads=(2,)).state_dict(), tmp_path / "x4.pth")
    assert rvlib.load(tmp_path / "x4.pth", scale=4).scale == 4
    with pytest.raises(rvlib.UserError, match="for scale 4, not for scale 2"):
        rvlib.load(tmp_path / "x4.pth", scale=2)
    nafnet = rvlib.create("nafnet", width=8, encoder=(1,), decoder=(1,))
    torch.save(nafnet.state_dict(), tmp_path / "nafnet.pth")
    with pytest.raises(rvlib.UserError, match="give local=True too"):
        rvlib.load(tmp_path / "nafnet.pth", train_size=(64, 64))
    rvlib.save(nafnet, tmp_path / "own.safetensors")
    with pytest.raises(rvlib.UserError, match="load it without local"):
        rvlib.load(tmp_path / "own.safetensors", local=True)


def test_a_file_names_its_method(model, tmp_path):
    path = tmp_path / "own.safetensors"
    rvlib.save(model, path)
    assert rvlib.load(path).method is None
    rvlib.save(model, path, training={"method": "diffir-s2"})  # so did files before they stored the method
    assert rvlib.load(path).method == "diffir"
    model.method = "srresnet"
    rvlib.save(model, path)
    assert rvlib.load(path).method == checkpoint.read_metadata(path)["method"] == "srresnet"


def test_an_old_name_answers_with_the_new_one_and_a_word():
    with pytest.warns(UserWarning, match="swinir-light-x4 is called swinir-small-x4 now"):
        old = rvlib.load("swinir-light-x4")
    assert old.spec == rvlib.load("swinir-small-x4").spec
    assert "swinir-light-x4" not in rvlib.released()


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(rvlib.UserError, match="no released weights are called 'nothing-x4'"):
        rvlib.load("nothing-x4")
    with pytest.raises(rvlib.UserError, match="no/such/dir/fsrcnn-x4 does not exist"):
        rvlib.load("no/such/dir/fsrcnn-x4")
    with pytest.raises(rvlib.UserError, match="does not exist"):
        rvlib.load(tmp_path / "missing.pth")


def test_a_failed_save_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    rvlib.save(model, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(rvlib.UserError, match="No space left on device"):
        rvlib.save(rvlib.create("fsrcnn"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize(("found", "expected"), [(None, "cpu"), (torch.device("meta"), "meta")])
def test_auto_is_the_device_that_is_there(tmp_path, monkeypatch, found, expected):
    rvlib.save(rvlib.create("fsrcnn", d=4, s=2, m=1), tmp_path / "w.safetensors")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
    model = rvlib.load(tmp_path / "w.safetensors", device="auto")
    assert {parameter.device.type for parameter in model.parameters()} == {expected}


def test_a_compiled_network_is_saved_as_itself(tmp_path):
    network = rvlib.create("fsrcnn", d=4, s=2, m=1)
    rvlib.save(torch.compile(network), tmp_path / "w.safetensors")
    again = rvlib.load(tmp_path / "w.safetensors").state_dict()
    assert all(torch.equal(again[key], value) for key, value in network.state_dict().items())


def test_weights_have_the_suffix_that_load_knows_and_their_own_facts(tmp_path):
    network = rvlib.create("fsrcnn", d=4, s=2, m=1)
    for name in ("w.pth", "w", "w.pt"):
        with pytest.raises(rvlib.UserError, match="choose a name that ends in .safetensors"):
            rvlib.save(network, tmp_path / name)
    with pytest.raises(rvlib.UserError, match="arguments, name: that is written anyway"):
        rvlib.save(network, tmp_path / "w.safetensors", name="x", arguments={})
    assert not os.listdir(tmp_path)
