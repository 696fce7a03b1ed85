"""The longest commands, and what they have in common."""

import os
from pathlib import Path
from typing import Annotated

import typer

import rvlib

Device = Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ...")]
Scale = Annotated[int | None, typer.Option(help="Of --model, only where the weights cannot tell (FSRCNN, SRCNN).")]


def named(text: str) -> Path:
    """The path that someone typed; none is empty, as an unset variable of the shell would leave it."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


class Share:
    """This process among those that accelerate or torchrun started for one command: its number, and how many."""

    def __init__(self):
        self.number = int(os.environ.get("WORLD_SIZE", 1))
        self.index = int(os.environ.get("RANK", 0)) % self.number

    def gather(self, value: object) -> list:
        """What each of them has, in their order."""
        if self.number == 1:
            return [value]
        from datetime import timedelta

        from accelerate import PartialState

        from rvlib import processes

        # small messages of the CPUs, whatever computes; one process may have far more to do than another
        return processes.gather(value, PartialState(cpu=True, timeout=timedelta(days=7)))


def load_chain(
    sources: list[str], *, device: str, scale: int | None = None, realism: float | None = None, compiled: bool = False
) -> tuple[list, str]:
    """The models of a chain by their names or files, and what their results say made them."""
    from rvlib.checkpoint import signature

    if realism is None:
        chain, names = [rvlib.load(sources[0], device=device, scale=scale)], [signature(sources[0])]
    else:
        from rvlib.realism import mixed

        chain = [mixed(sources[0], realism, device=device, scale=scale)]
        names = [f"{sources[0]} at realism {realism:.12g}"]
    chain += [rvlib.load(each, device=device) for each in sources[1:]]
    names += [signature(each) for each in sources[1:]]
    if compiled:
        import torch

        chain = [torch.compile(each) for each in chain]
    return chain, " + ".join(names)


def say(message: str, *, err: bool = False) -> None:
    """Print a line that may hold names of files."""
    typer.echo(on_one_line(message), err=err)


def on_one_line(message: object) -> str:
    """A message in which line breaks and escape codes, which names of files may hold, are seen and not obeyed."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(message))
