"""`python -m rvlib` is the command `rvlib`, also under `accelerate launch -m rvlib`."""

from rvlib.cli import main

main()
