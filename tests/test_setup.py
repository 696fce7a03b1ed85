"""The set-up: constraints that every Python from the lowest on can install, and commands that run what they say."""

import re
import shlex
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from hypothesis import settings
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOWEST = Version("3.11.0")
TRIES = [LOWEST, *(Version(f"3.{minor}.0") for minor in (12, 13, 14))]
# what a torch for CUDA brings beside what a torch for CPUs needs
CUDA = re.compile(r"triton|nvidia-.*|cuda-.*")


def constraints():
    """The lines of constraints.txt as requirements."""
    return [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]


def requirements():
    """What the project asks for, with the test extra."""
    return [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


def holds(requirement, python):
    """Whether a requirement's marker holds on a version of Python."""
    short = f"{python.major}.{python.minor}"
    environment = {"python_full_version": str(python), "python_version": short, "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(environment)


def installed(name):
    """Version and Requires-Python of an installed package; None where it is not installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found.version, found.metadata.get("Requires-Python") or ""


def excluding(python, lines, known=installed):
    """Constrained packages that refuse a version of Python, and how many lines could be judged."""
    refused, judged = [], 0
    for line in lines:
        facts = known(line.name)
        if holds(line, python) and facts and line.specifier.contains(facts[0], prereleases=True):
            judged += 1
            if not SpecifierSet(facts[1]).contains(python):
                refused.append(f"{line} needs Python {facts[1]}")
    return refused, judged


@pytest.mark.parametrize("python", TRIES, ids=str)
def test_constraints_let_this_python_in(python):
    refused, judged = excluding(python, constraints())
    assert not refused, f"choose a version for every Python, or one for each with markers: {refused}"
    assert judged > 180, "nearly all of them are installed, so nearly all can be judged"


def test_a_package_that_wants_a_later_patch_release_is_named():
    known = {"soupsieve": ("4.1.2", ">=3.11.5")}.get
    assert excluding(LOWEST, [Requirement("soupsieve==4.1.2")], known)[0] == ["soupsieve==4.1.2 needs Python >=3.11.5"]
    assert excluding(Version("3.12.0"), [Requirement("soupsieve==4.1.2")], known) == ([], 1)
    marked = [Requirement('soupsieve==4.1.2; python_full_version >= "3.11.5"'), Requirement("soupsieve==2.10")]
    assert excluding(LOWEST, marked, known) == ([], 0)


@pytest.mark.parametrize("python", TRIES, ids=str)
def test_each_package_has_one_constraint_that_fits_the_project(python):
    versions = {}
    for line in constraints():
        (pin,) = line.specifier
        assert pin.operator == "==", f"{line} names no version"
        if holds(line, python):
            assert canonicalize_name(line.name) not in versions, f"{line.name} has two versions"
            versions[canonicalize_name(line.name)] = pin.version
    for wanted in requirements():
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), wanted


def test_constraints_cover_all_that_the_project_installs():
    constrained = {canonicalize_name(line.name) for line in constraints()}
    found, waiting = set(), [(wanted.name, frozenset(wanted.extras)) for wanted in requirements()]
    while waiting:
        name, extras = waiting.pop()
        if (canonicalize_name(name), extras) in found or CUDA.fullmatch(canonicalize_name(name)):
            continue
        found.add((canonicalize_name(name), extras))
        for needed in map(Requirement, distribution(name).requires or []):
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
                waiting.append((needed.name, frozenset(needed.extras)))
    names = {name for name, _ in found}
    assert len(names) > 150
    assert names <= constrained, f"add to constraints.txt: {sorted(names - constrained)}"


def test_environment_yml_installs_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert "python=3.11" in environment["dependencies"]
    assert "pip" in environment["dependencies"]
    pip = next(each["pip"] for each in environment["dependencies"] if isinstance(each, dict))
    assert pip == ["--constraint constraints.txt", "--editable .[test]"]


def test_every_folder_of_the_library_is_installed():
    folders = {file.parent for file in (ROOT / "rvlib").rglob("*.py")}
    found = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert found == set(pyproject["tool"]["setuptools"]["packages"]) - {"rvlib.weights"}  # which lies elsewhere


def test_the_workflow_runs_the_lowest_and_the_newest_python():
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    versions = [Version(version) for version in job["strategy"]["matrix"]["python"]]
    assert f">={LOWEST.major}.{LOWEST.minor}" == PROJECT["requires-python"]
    assert min(versions) == LOWEST
    assert max(versions) == Version("3.14")
    assert "make test" in [step.get("run") for step in job["steps"]]


def make(*words):
    """What `make` says."""
    command = ["make", "--no-print-directory", *words]  # as if it were not make that runs the tests
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def commands(target):
    """What `make` would run for a target, its set-up aside."""
    said = make("-n", target)
    return [
        shlex.split(line) for line in said.splitlines() if line.startswith(("ruff ", "codespell", "python ", "RV_"))
    ]


def test_no_symbolic_link_is_tracked():
    """A link to somebody's environment or data would replace another's, or lead nowhere."""
    command = ["git", "-C", str(ROOT), "ls-files", "--stage"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]


def test_make_lists_its_targets():
    targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert sorted(line.split()[0] for line in make("help").splitlines()) == sorted(targets)
    assert {"report", "test", "check", "setup", "lab", "bench", "test-lab", "drill"} <= set(targets)


def test_check_and_test_run_ruff_and_every_notebook():
    for target in ("check", "test"):
        assert commands(target)[:3] == [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["codespell"]]
    assert "--quick" in commands("check")[3]
    assert "--quick" not in commands("test")[3]
    assert {"--nbval-lax", "tests", "notebooks"} <= set(commands("test")[3])


TRIED = """
import os, time, pytest

@pytest.fixture(autouse=True)
def worker(request):
    with open(os.environ["SEEN"], "a") as file:
        file.write(f"{request.node.name} {os.environ.get('PYTEST_XDIST_WORKER', 'alone')}\\n")

def test_plain(tally): tally("a fault", "refused")
@pytest.mark.slow
def test_slow(tally): tally("a fault", "refused")
@pytest.mark.drill
def test_long(): pass
"""
PIPELINE = """
import pytest
from test_one import worker

@pytest.mark.pipeline
@pytest.mark.parametrize("number", range(6))
def test_clone(number): pass
"""


@pytest.fixture
def suite(pytester, monkeypatch):
    """A small suite with this project's conftest; `suite(options)` gives its result and the worker of each test."""
    pytester.makeconftest((ROOT / "tests/conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = slow\n drill\n pipeline\nquick_seconds = 0.2\n")
    pytester.makepyfile(test_one=TRIED, test_two=PIPELINE)
    monkeypatch.setenv("SEEN", str(pytester.path / "seen"))
    monkeypatch.delenv("RV_DRILL", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(*options):
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)
        seen = pytester.path / "seen"
        return result, dict(line.split() for line in seen.read_text().splitlines()) if seen.exists() else {}

    profile = settings.get_current_profile_name()
    yield run
    settings.load_profile(profile)  # the small suite has chosen its own, in this process


def test_quick_leaves_out_what_is_slow(suite):
    assert set(suite("--quick")[1]) == {"test_plain"}


def test_plain_leaves_out_the_drill(suite):
    assert set(suite()[1]) == {"test_plain", "test_slow", *(f"test_clone[{number}]" for number in range(6))}


def test_the_drill_is_what_is_marked_so(suite, monkeypatch):
    monkeypatch.setenv("RV_DRILL", "1")
    assert set(suite()[1]) == {"test_long"}


def test_a_quick_test_that_is_slow_fails(suite, pytester):
    busy = (
        "import time\ndef test_busy():\n    end = time.process_time() + 0.4\n    while time.process_time() < end: pass"
    )
    pytester.makepyfile(test_busy=busy)
    result, _ = suite("--quick", "test_busy.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*over 0.2: make it quicker, or mark it slow"])
    suite("test_busy.py")[0].assert_outcomes(passed=1)


@pytest.mark.slow
def test_two_workers_share_the_files_and_add_up_what_they_counted(suite):
    words = commands("test")[3]
    result, seen = suite(*words[words.index("pytest") + 1 : words.index("--nbval-lax")], "--numprocesses=2")
    result.assert_outcomes(passed=8)
    assert set(seen.values()) == {"gw0", "gw1"}
    assert len({seen[f"test_clone[{number}]"] for number in range(6)}) == 1, "one worker has the pipeline, whole"
    result.stdout.fnmatch_lines(["a fault * 2 * refused: 2"])
