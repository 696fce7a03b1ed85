"""Reading an architecture from the keys of a state_dict."""

from collections.abc import Iterable


def children(state: Iterable[str], prefix: str) -> int:
    """How many modules a container has: the different names that follow `prefix` ("layers.") in the keys."""
    return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})
