"""Multiply-adds are those of the layers by hand, and memory is what a forward holds at a time."""

import pytest
import torch

import rvlib
from rvlib.complexity import multiply_adds, peak_memory


def nafnet_by_hand(width, pixels):
    """The sum over its convolutions, for blocks (1, 1, 1, 28) down, one in the middle and (1, 1, 1, 1) up."""
    total = 2 * 27 * width * pixels  # from three colours and to them, 3 x 3
    for level, blocks in enumerate((2, 2, 2, 29, 1)):
        c, p = width * 2**level, pixels // 4**level
        # of a block: 1 x 1 to 2c, c, 2c and c channels, 3 x 3 of 2c channels by themselves, and c x c on the mean
        total += blocks * (p * (6 * c**2 + 18 * c) + c**2)
        total += 4 * c**2 * p if level < 4 else 0  # to the next level and back
    return total


@pytest.mark.slow
@pytest.mark.parametrize(("width", "billions"), [(32, "15.956"), (64, "63.055")])
def test_nafnet_is_counted_as_by_hand(width, billions):
    """For 256 x 256 pixels, where the paper says 16 billion; without numbers nothing has to be computed for it."""
    with torch.device("meta"):
        counted = multiply_adds(rvlib.create("nafnet", width=width), torch.empty(1, 3, 256, 256))
    assert counted == nafnet_by_hand(width, 256**2)
    assert f"{counted / 1e9:.3f}" == billions


def test_memory_that_is_given_back_does_not_count():
    """Three tensors of 4,000 bytes are made, and at most two of them are there at a time."""

    def forward(x):
        a = x + 1
        b = a + 1
        del a
        c = b + 1
        del b
        return c.sum()

    assert peak_memory(forward, torch.zeros(1000)) == 8000
