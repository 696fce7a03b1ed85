r"""Every equation of the audited report is in a notebook, under its number or, where it has none, under a name.

The mark is `\tag{12}` in a display equation of the text twin, which also shows beside the formula.
"""

import re

import pytest

from rvlib.study import notebooks

EQUATIONS = {
    "06_swinir": [*map(str, range(1, 11))],  # attention, layer, block, network, loss
    "04_fsrcnn": ["11", "structure", "PReLU", "cost", "complexity"],
    "05_srgan": ["min-max", "SR", "MSE", "VGG", "Gen", "TV"],
    "07_nafnet": ["LN", *(f"NAFNet {each}" for each in ("1", "2, 3", "4", "5, 6", "7"))],  # the paper's own numbers
    "08_diffir": [*map(str, range(12, 24))],  # diffusion, IPR, modulation, losses
    "03_metrics": ["24", "25", "26"],
}


def tags(name):
    text = (notebooks.NOTEBOOKS / "text" / f"{name}.py").read_text()
    prose = "\n".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    return re.findall(r"\\tag\{([^}]*)\}", "\n".join(re.findall(r"\$\$(.*?)\$\$", prose, flags=re.DOTALL)))


@pytest.mark.parametrize("name", EQUATIONS)
def test_each_equation_is_shown_once(name):
    found = tags(name)
    assert len(found) == len(set(found)), "a number stands at two equations"
    assert set(EQUATIONS[name]) <= set(found), f"missing: {set(EQUATIONS[name]) - set(found)}"


def test_a_number_of_the_report_belongs_to_one_notebook():
    numbers = [tag for name in notebooks.names() for tag in tags(name) if tag.isdecimal()]
    assert len(numbers) == len(set(numbers))
    assert all(1 <= int(number) <= 26 for number in numbers)
