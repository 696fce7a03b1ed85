"""Reading an architecture from the keys of a state_dict."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Recognised(NamedTuple):
    """What the keys and shapes of a state_dict tell: `rvlib.create(name, **arguments)` is the network of `state`."""

    name: str
    arguments: dict
    state: dict[str, Tensor]
    """The weights, without what follows from them or is in the file twice."""


def children(state: Iterable[str], prefix: str) -> int:
    """How many modules a container has: the different names that follow `prefix` ("layers.") in the keys."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
