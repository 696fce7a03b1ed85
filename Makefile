# Two commands are enough: `make report` and `make test`. While you work, `make check` at every save.
PROFILE ?= laptop
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export TF_CPP_MIN_LOG_LEVEL = 3
WORKERS ?= 2
# two workers (WORKERS=8 on 8 cores) with one thread each: more threads than cores wait for each other; a worker runs
# whole files, so that the cells of a notebook and the tests of one temporary clone stay together
TESTS := python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
FOLDER := $(if $(filter laptop,$(PROFILE)),.,profiles/$(PROFILE))

.DEFAULT_GOAL := help
.PHONY: help setup report check test drill test-lab bench lab notebooks clean clean-runs

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(VENV)/.installed  ## make .venv and install the study into it (any Python from 3.11.0 on: PYTHON=python3.12)

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: Python 3.11 or newer is needed; install it or name it: make setup PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: this Python cannot make virtual environments; install its venv package (python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@

report: setup  ## run the pipeline and write the report (PROFILE=laptop, official, release or paper; DRY=1: three steps of all that is trained)
	@test -d $(FOLDER) -a -f $(FOLDER)/params.yaml || { echo "error: there is no profile '$(PROFILE)'"; exit 1; }
	@# what this machine made is not a change of the project
	@git update-index --skip-worktree $(FOLDER)/data.dvc $(FOLDER)/dvc.lock 2>/dev/null || true
ifdef DRY
	rvlib rehearse $(PROFILE)
else
	@cd $(FOLDER) && dvc repro
	@echo "report: $(CURDIR)/reports/$(PROFILE)/index.html"
endif

check test drill: export OMP_NUM_THREADS = 1
# results are compared with those of the CPU, bit by bit; a GPU is emulated where a test needs one
check test drill: export CUDA_VISIBLE_DEVICES =

check: setup  ## ruff, spelling and the quick tests, for every save (two to three minutes on 2 cores; WORKERS=8 on 8)
	ruff check .
	ruff format --check .
	codespell
	$(TESTS) --quick

test: setup  ## ruff, spelling, one case of every kind of test, and nbval over all notebooks (a quarter of an hour on 2 free cores)
	ruff check .
	ruff format --check .
	codespell
	$(TESTS) --nbval-lax --nbval-cell-timeout=300 tests notebooks

drill: setup  ## the cases that make test leaves out: hours of kills, flipped bits and fuzzing (docs/faults.md); started again, it resumes; PART=word
	RV_DRILL=1 python -m pytest $(if $(PART),-k "$(PART)") --timeout=0 -s

test-lab: setup  ## drive the report page and JupyterLab in headless Chromium; screenshots in reports/lab
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[lab]'
	python -m pytest tests/lab

bench: setup  ## time everything against its peers; tables in benchmarks/
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,bench]'
	python benchmarks/bench.py

lab: setup  ## open the notebooks in JupyterLab, as root too; more of its options: OPTIONS="--no-browser --port=8888"
	jupyter lab --ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) $(OPTIONS) notebooks

notebooks: setup  ## run all notebooks with their demo parameters and store their outputs
	@for twin in notebooks/text/*.py; do echo $$twin; rvlib notebook $$(basename $$twin .py) || exit 1; done

clean:  ## remove the environment, caches, and the reports of laptop and demo; trained runs and photos stay
	rm -rf $(VENV) *.egg-info reports/laptop reports/demo .pytest_cache .ruff_cache .hypothesis

clean-runs:  ## remove all training runs (runs/), also those that took days: to train them again takes as long
	rm -rf runs
