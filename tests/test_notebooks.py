"""Notebooks: a fixed skeleton, no hidden state, nothing of one machine, and their text twins say the same."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

import rvlib
from rvlib import measures
from rvlib.study import notebooks

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = notebooks.names()


def stored(name):
    return json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"]


def code(name):
    return [cell for cell in stored(name) if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("name", NAMES)
class TestNotebook:
    def test_twin_is_in_sync(self, name):
        stored = json.loads((notebooks.NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]
        sides = [
            [(c["cell_type"], "".join(c["source"]), c["metadata"].get("tags", [])) for c in cells]
            for cells in (stored, notebooks.read_twin(name).cells)
        ]
        assert sides[0] == sides[1], f"run `rvlib notebook {name}`: its text twin has changed"

    def test_one_parameters_cell_with_the_demo_profile(self, name):
        tagged = [cell for cell in code(name) if "parameters" in cell["metadata"].get("tags", [])]
        assert len(tagged) == 1
        assert source(tagged[0]).startswith('profile = "demo"')
        tree = ast.parse(source(tagged[0]))
        assert all(isinstance(line, ast.Assign) for line in tree.body)

    def test_skeleton(self, name):
        texts = [source(cell) for cell in stored(name) if cell["cell_type"] == "markdown"]
        assert re.match(rf"# {name[:2]} · ", texts[0])
        assert "**You will see**" in texts[0]
        ending = "\n".join(texts[-4:])
        assert "## Takeaways" in ending
        assert "## Try it" in ending
        assert len(texts) >= 0.6 * len(code(name))

    def test_cells_are_short(self, name):
        for cell in code(name):
            assert len(source(cell).splitlines()) <= 30, source(cell)[:80]

    def test_no_absolute_path_and_no_change_of_folder(self, name):
        for cell in stored(name):
            text = source(cell) + json.dumps(cell.get("outputs", []))
            assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|usr|Users|mnt|opt)/", text), text[:200]
            assert not re.search(r"os\.chdir|sys\.path|%cd", source(cell))

    def test_was_run_from_top_to_bottom(self, name):
        counts = [cell["execution_count"] for cell in code(name)]
        assert counts == list(range(1, len(counts) + 1))

    def test_outputs_are_there_small_and_free_of_errors(self, name):
        outputs = [output for cell in code(name) for output in cell["outputs"]]
        assert outputs
        assert not [output for output in outputs if output["output_type"] == "error"]
        assert not [output for output in outputs if output.get("name") == "stderr"]
        assert (FOLDER / f"{name}.ipynb").stat().st_size < 1_500_000

    def test_has_checks_that_can_fail(self, name):
        asserts = [n for cell in code(name) for n in ast.walk(ast.parse(source(cell))) if isinstance(n, ast.Assert)]
        assert asserts
        assert not [each for each in asserts if isinstance(each.test, ast.Constant)]

    def test_training_cells_stand_alone(self, name):
        """Each name that a cell tagged `training` reads was set in such a cell, the parameters or Python itself."""
        tagged = [c for c in code(name) if {"training", "parameters"} & set(c["metadata"].get("tags", []))]
        known = set(dir(__builtins__)) | set(__builtins__ if isinstance(__builtins__, dict) else dir(__builtins__))
        for cell in tagged:
            tree = ast.parse(source(cell))
            names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
            known |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef):
                    known |= {node.name, *(each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg))}
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            unknown = {node.id for node in names if isinstance(node.ctx, ast.Load)} - known
            assert not unknown, f"a training cell reads {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_no_argument_is_looked_up_that_a_profile_may_leave_out(name):
    text = (FOLDER / "text" / f"{name}.py").read_text()
    assert not re.search(r"""\["arguments"\]\[""", text), "ask the network, which has the defaults too"


def test_unknown_notebook_is_named():
    with pytest.raises(rvlib.UserError, match="no notebook '99_nothing'"):
        notebooks.read_twin("99_nothing")


def test_parameters_must_be_a_profile(tmp_path):
    with pytest.raises(rvlib.UserError, match="does not exist"):
        notebooks.run("01_data", tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(rvlib.UserError, match="cannot be used as a profile.s parameters"):
        notebooks.run("01_data", tmp_path / "list.yaml")


@pytest.mark.slow
def test_a_cell_that_fails_stops_its_notebook_and_the_copy_shows_where(tmp_path):
    notebook = notebooks.read_twin(NAMES[0])
    texts = ("1", "assert 1 == 2, 'no'", "open('later.txt', 'w')")
    notebook.cells = [nbformat.v4.new_code_cell(text) for text in texts]
    told = "toy stopped in cell 2, .*toy.ipynb shows where: AssertionError: no"
    with pytest.raises(rvlib.UserError, match=told):
        notebooks.execute(notebook, tmp_path / "toy.ipynb", {}, folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.ipynb"], "the cell after it did not run"
    cells = nbformat.read(tmp_path / "toy.ipynb", as_version=4).cells
    (failed,) = [cell for cell in cells if any(output.output_type == "error" for output in cell.get("outputs", []))]
    assert failed.source == texts[1]


def takeaways(name):
    """The cells from the heading Takeaways to the exercises."""
    cells = stored(name)
    first = next(n for n, cell in enumerate(cells) if "## Takeaways" in source(cell))
    last = next(n for n, cell in enumerate(cells) if n >= first and "## Try it" in source(cell))
    return cells[first : last + 1]


@pytest.mark.parametrize("name", NAMES)
def test_takeaways_print_their_results(name):
    """A result that is typed in holds for one run only: numbers with a unit are printed by code."""
    text = "\n".join(source(cell) for cell in takeaways(name) if cell["cell_type"] == "markdown")
    text = text.partition("## Takeaways")[2].partition("## Try it")[0].partition("**What can go wrong")[0]
    assert not re.findall(r"[\d.,]+ (?:dB|decibels?|%)", text)


def markdown_tables(name):
    """The tables of stored outputs that have a label column, as lists of rows."""
    for cell in code(name):
        for output in cell["outputs"]:
            lines = "".join(output.get("data", {}).get("text/markdown", "")).splitlines()
            rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
            if rows and "label" in rows[0]:
                yield rows[0], rows[2:]


@pytest.mark.parametrize("name", ["09_compare_super_resolution", "10_compare_deblurring"])
def test_marks_and_sentences_agree_with_the_numbers_of_their_table(name):
    """Bold is the best, ▼ is worse than the input, and the winner that is printed is the table's."""
    (head, rows), *_ = markdown_tables(name)
    label, method = head.index("label"), head.index("method")
    ours = [row for row in rows if not re.search("claim|published", row[label])]
    (given,) = (row for row in ours if row[label].endswith("input"))
    for column, title in enumerate(head):
        measure = measures.find(title)
        numbers = [re.search(r"-?\d+\.\d+", row[column]) for row in ours]
        if measure is None or not all(numbers):
            continue
        values = [float(number[0]) * (1 if measure.better == "high" else -1) for number in numbers]
        for row, value in zip(ours, values, strict=True):
            assert ("**" in row[column]) <= (value == max(values)), (title, row)
            limit = values[ours.index(given)]
            assert ("▼" in row[column]) <= (value <= limit), (title, row)
            assert (value < limit) <= ("▼" in row[column]), (title, row)
    printed = "".join("".join(o.get("text", "")) for cell in takeaways(name) for o in cell.get("outputs", []))
    order = re.search(r"order by PSNR ([^;]+);", printed)
    assert bool(order) == name.startswith("09_")
    if order:
        column = next(n for n, title in enumerate(head) if title.endswith("PSNR"))
        by_number = sorted(ours, key=lambda row: float(re.search(r"\d+\.\d+", row[column])[0]))
        known = order[1].split(" < ")
        assert [each for each in known if each[0].isupper()] == [r[method] for r in by_number if r[method][0].isupper()]
