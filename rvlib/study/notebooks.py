"""Run the study's notebooks: for the pipeline with a profile's parameters, or to refresh their stored outputs.

The text twin (`notebooks/text/<name>.py`) is what runs and what DVC hashes: saving a notebook in JupyterLab with new
outputs changes nothing, saving it with changed cells changes the twin too, because jupytext pairs the two.
"""

import ast
import math
import re
import sys
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import papermill
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

import rvlib
from rvlib.errors import UserError
from rvlib.files import SPACE, reason_of, write_atomically

NOTEBOOKS = rvlib.ROOT / "notebooks"
RULES = {
    re.compile(r".*sets"): (lambda value: isinstance(value, str), "a list of names"),
    re.compile(r"(?!warmup)(.*_)?(steps|size|every|scale|sides?|repeats|largest|timesteps|processes)"): (
        lambda value: type(value) is int and value >= 1,
        "a whole number of at least 1",
    ),
    re.compile(r"learning_rate|warmup_steps|(.*_)?seeds?|lengths"): (
        lambda value: type(value) in (int, float) and 0 <= value < math.inf,
        "a number of at least 0",
    ),
    re.compile(r"start"): (lambda value: isinstance(value, str), "a name or a file of weights"),
}


def names() -> list[str]:
    """The notebooks in their order."""
    return sorted(path.stem for path in (NOTEBOOKS / "text").glob("*.py"))


def find(name: str) -> str:
    """The file name of a notebook without suffix: `04_fsrcnn` for `fsrcnn`. The number is its place in the study."""
    for stem in names():
        if name in (stem, stem.partition("_")[2]):
            return stem
    raise UserError(f"there is no notebook {name!r}: choose one of {', '.join(names())}")


def run(name: str, parameters: Path, *, only: str | None = None) -> None:
    """Execute a notebook with its section of a parameters file and keep the executed copy with the profile's report.

    A notebook with a parameter `runs` is handed all runs whose weights are released, {name: folder}.
    `only` keeps the cells with that tag (and the parameters): the pipeline's training stages run `only="training"`.
    A cell that fails stops the run with its error; the copy then shows where.
    """
    name = find(name).partition("_")[2]
    notebook, content = read_twin(name), read_parameters(parameters)
    profile, values = content["profile"], section(content, name, parameters)
    if "runs" in _entries(name):
        values = {"runs": releases(content), **values}
    target = rvlib.ROOT / "reports" / profile / "notebooks" / f"{name}{'.' + only if only else ''}.ipynb"
    if only is not None:
        tags = sorted({tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])} - {"parameters"})
        if only not in tags:
            raise UserError(f"no cell of {name} has the tag {only!r}: choose one of {', '.join(tags) or '(none)'}")
        notebook.cells = [cell for cell in notebook.cells if {"parameters", only} & set(cell.metadata.get("tags", []))]
    execute(notebook, target, {"profile": profile, **values}, folder=rvlib.ROOT)


def refresh(name: str) -> None:
    """Execute a notebook as it stands, with its demo parameters, and store it with its outputs in notebooks/."""
    execute(read_twin(name), NOTEBOOKS / f"{find(name)}.ipynb", {}, folder=NOTEBOOKS)


def read_twin(name: str) -> NotebookNode:
    """The notebook that a text twin describes."""
    notebook = jupytext.read(NOTEBOOKS / "text" / f"{find(name)}.py")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def execute(notebook: NotebookNode, target: Path, parameters: dict, *, folder: Path) -> None:
    """Run a notebook through papermill and write it to `target` without times and random ids.

    papermill's metadata and its injected cell's id differ from run to run; without them equal runs give equal bytes.
    """
    raw = target.with_suffix(".running.ipynb")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        raw.unlink(missing_ok=True)  # of a run that was killed
        papermill.execute_notebook(
            notebook,
            raw,
            parameters=parameters,
            kernel_name="python3",
            cwd=folder,
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=["--IPKernelApp.log_level=50"],  # no warnings of local TCP and of its own shutdown
        )
    except PapermillExecutionError as error:
        raise UserError(
            f"{target.stem} stopped in cell {error.exec_count}, {target} shows where: {error.ename}: {error.evalue}"
        ) from None
    except DeadKernelError:
        raise UserError(
            f"the kernel of {target.stem} was killed, by a lack of memory perhaps: {target} shows how far it came"
        ) from None
    except NoSuchKernel as error:
        raise UserError(f"the kernel {error.name!r} is not installed: run make setup") from None
    except OSError as error:
        raw.unlink(missing_ok=True)
        if isinstance(error, FileNotFoundError) and target.parent.is_dir():  # of an environment that is gone
            raise UserError(
                f"the kernel of the notebooks could not be started ({error.filename or error}): "
                f"`jupyter kernelspec list` shows where python3 comes from"
            ) from None
        raise UserError(f"{target} could not be written {reason_of(error, SPACE)}") from None
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


def read_parameters(file: Path) -> dict:
    """A profile's parameters; raises UserError, naming file and entry, for what no run could take.

    A profile's name becomes a folder, so it is a plain word; sizes are whole and at least 1, all other numbers finite
    and not negative, a notebook's entries those of its `parameters` cell.
    """
    try:
        content = yaml.safe_load(file.read_text())
        if not re.fullmatch(r"[a-z][\w-]*", content["profile"]):
            raise ValueError(f"profile {content['profile']!r} is no plain word")
        known = {stem.partition("_")[2] for stem in names()}
        methods = content.get("methods") or {}
        for name, values in {**{key: content[key] for key in {"fetch", *known} & set(content)}, **methods}.items():
            entries = ["sets"] if name == "fetch" else [*_entries(name), *(["releases"] if name in methods else [])]
            for key, value in (values or {}).items():
                if key not in entries:
                    raise ValueError(f"{name} has no entry {key!r}, choose among {', '.join(entries)}")
                _check(f"{name}.{key}", key, value)
    except FileNotFoundError:
        raise UserError(
            f"{file} does not exist: run this at the root of a checkout, or name a profile's params.yaml (--params)"
        ) from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OSError) as error:
        raise UserError(f"{file} cannot be used as a profile's parameters: {error}") from None
    return content


def _check(place: str, key: str, value: object) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(f"{place}.{name}", str(name), inner)
        return
    values = value if isinstance(value, list) or key.endswith("sets") else [value]
    for pattern, (is_right, wanted) in RULES.items():
        if pattern.fullmatch(key) and not (isinstance(values, list) and all(map(is_right, values))):
            raise ValueError(f"{place} must be {wanted}, not {value!r}")


@cache
def _entries(notebook: str) -> list[str]:
    cells = [cell for cell in read_twin(notebook).cells if "parameters" in cell.metadata.get("tags", [])]
    lines = [line for cell in cells for line in ast.parse(cell.source).body if isinstance(line, ast.Assign)]
    return [line.targets[0].id for line in lines if line.targets[0].id != "profile"]


def section(content: dict, name: str, file: Path) -> dict:
    """A notebook's section; a missing one is an error, for the demo's values would take its place."""
    methods = content.get("methods") or {}
    if name not in content and name not in methods:
        raise UserError(f"{file} has no section {name}: add it, or `{name}: {{}}`")
    values = (methods[name] if name in methods else content[name]) or {}
    return {key: value for key, value in values.items() if key != "releases"}


def releases(content: dict) -> dict[str, str]:
    """The runs whose weights a profile releases: {released name: folder below the profile's runs}."""
    found = {}
    for method, values in (content.get("methods") or {}).items():
        found |= {name: f"{method}/{run}" for name, run in ((values or {}).get("releases") or {}).items()}
    return found
