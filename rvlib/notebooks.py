"""Run the study's notebooks: for the pipeline with a profile's parameters, or to refresh their stored outputs.

The text twin (`notebooks/text/<name>.py`) is what runs and what DVC hashes: saving a notebook in JupyterLab with new
outputs changes nothing, saving it with changed cells changes the twin too, because jupytext pairs the two.
"""

import json
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

import rvlib
from rvlib.errors import UserError
from rvlib.files import write_atomically

NOTEBOOKS = rvlib.ROOT / "notebooks"


def names() -> list[str]:
    """The notebooks in their order."""
    return sorted(path.stem for path in (NOTEBOOKS / "text").glob("*.py"))


def run(name: str, parameters: Path, *, only: str | None = None) -> None:
    """Execute a notebook with its section of a parameters file and keep the executed copy with the profile's report.

    `only` keeps the cells with that tag (and the parameters): the pipeline's training stages run `only="training"`.
    A cell that fails stops the run with its error; the copy then shows where.
    """
    profile, values = _parameters(name, parameters)
    target = rvlib.ROOT / "reports" / profile / "notebooks" / f"{name}{'.' + only if only else ''}.ipynb"
    notebook = read_twin(name)
    if only is not None:
        notebook.cells = [cell for cell in notebook.cells if {"parameters", only} & set(cell.metadata.get("tags", []))]
    execute(notebook, target, {"profile": profile, **values}, folder=rvlib.ROOT)


def refresh(name: str) -> None:
    """Execute a notebook as it stands, with its demo parameters, and store it with its outputs in notebooks/."""
    execute(read_twin(name), NOTEBOOKS / f"{name}.ipynb", {}, folder=NOTEBOOKS)


def read_twin(name: str) -> NotebookNode:
    """The notebook that a text twin describes, with cell ids that depend on the position alone."""
    twin = NOTEBOOKS / "text" / f"{name}.py"
    if not twin.exists():
        raise UserError(f"there is no notebook {name!r}: choose one of {', '.join(names())}")
    notebook = jupytext.read(twin)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02d}"
    return notebook


def execute(notebook: NotebookNode, target: Path, parameters: dict, *, folder: Path) -> None:
    """Run a notebook through papermill and write it to `target` without times and random ids.

    papermill's metadata and its injected cell's id differ from run to run; without them equal runs give equal bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = target.with_suffix(".running.ipynb")
    try:
        papermill.execute_notebook(
            notebook,
            raw,
            parameters=parameters,
            kernel_name="python3",
            cwd=folder,
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=["--IPKernelApp.log_level=40"],  # it warns of TCP, which stays on this machine
        )
    except PapermillExecutionError as error:
        raise UserError(
            f"{target.stem} stopped in cell {error.exec_count}, {target} shows where: {error.ename}: {error.evalue}"
        ) from None
    finally:
        if raw.exists():
            done = nbformat.read(raw, as_version=4)
            write_atomically(target, lambda path: nbformat.write(_without_run_facts(done), path))
            raw.unlink()


def _without_run_facts(notebook: NotebookNode) -> NotebookNode:
    notebook.metadata.pop("papermill", None)
    notebook.metadata.pop("widgets", None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02d}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            # what goes to stderr (progress bars) is for the terminal, not for the reader
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def _parameters(name: str, file: Path) -> tuple[str, dict]:
    try:
        content = yaml.safe_load(file.read_text())
        return content["profile"], content.get(name) or {}
    except FileNotFoundError:
        raise UserError(f"{file} does not exist: give a profile's parameters, such as params.yaml") from None
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{file} is no file of parameters with a `profile`: {error}") from None


def in_sync(name: str) -> bool:
    """Whether a stored notebook has the cells of its text twin."""
    stored = NOTEBOOKS / f"{name}.ipynb"
    if not stored.exists():
        return False
    cells = [json.loads(stored.read_text())["cells"], read_twin(name).cells]
    sources = [[(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in each] for each in cells]
    return sources[0] == sources[1]
