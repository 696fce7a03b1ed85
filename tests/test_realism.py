"""Between two networks of one architecture: the ends are the two, the middle is between, and nothing else is mixed."""

import pytest
import torch

import rvlib
from rvlib import realism


def test_the_ends_are_the_pair_and_the_middle_is_between():
    pixel, adversarial = (rvlib.load(name).state_dict() for name in realism.PAIRS[0])
    for named in realism.PAIRS[0]:
        for share in (0, 1, 0.25):
            mixed = realism.mixed(named, share)
            assert not mixed.training
            for key, value in mixed.state_dict().items():
                expected = pixel[key] + share * (adversarial[key] - pixel[key])
                torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_realism_out_of_range_is_refused(share):
    with pytest.raises(rvlib.UserError, match="lies between 0"):
        realism.mixed("srgan-x4", share)


@pytest.mark.parametrize("name", ["fsrcnn-x4", "official/swinir-light-x4", "nothing"])
def test_what_has_no_partner_is_refused(name):
    with pytest.raises(rvlib.UserError, match="has no partner.*srgan-x4, official/swinir-real-m-x4"):
        realism.mixed(name, 0.5)


def test_networks_of_two_architectures_are_not_mixed(monkeypatch):
    monkeypatch.setattr(realism, "PAIRS", (("fsrcnn-x4", "swinir-small-x4"),))
    with pytest.raises(rvlib.UserError, match="no longer one architecture"):
        realism.mixed("fsrcnn-x4", 0.5)


def test_every_name_of_a_pair_is_one_that_load_takes():
    from rvlib import official

    known = {*rvlib.released(), *official.listed()}
    for pair in realism.PAIRS:
        assert set(pair) <= known


def test_a_mix_says_that_it_is_none_of_the_two():
    source = realism.mixed("srgan-x4", 0.25).source
    assert source["file"] == "srresnet-x4 + 0.25 (srgan-x4 - srresnet-x4)"
    assert not source["sha256"], "no file holds these weights"
