# Everything runs in .venv, which is made when missing and again when what it holds changed.
#   make demo    train, run on a twin, identify it, retrain, promote; report in runs/demo/
#   make test    the test suite; safety_monitor/'s own tests have to cover all of it
#   make check   lint, format and types
#   make docs    the pages of docs/ as a site, build/docs/index.html
#   make mutants which mistakes in safety_monitor/ its tests find, into docs/measured/MUTATION.md: for a night
#   make venv    only .venv
#   make clean   remove what the others made, .venv included; runs/ stays: logs are data

comma := ,
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Of a ROS 2 that is here, Python packages of another one would hide the libraries.
EXTRAS := train,dev$(if $(AMENT_PREFIX_PATH)$(wildcard /opt/ros/*/setup.bash),,$(comma)ros)

# The files that hold tests in real time, which are marked: nothing else may run beside them.
ALONE = $(shell grep -rl --include='test_*.py' 'mark\.alone' tests | sort)

# The tests start hundreds of processes: none of them should compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check docs mutants venv clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(INSTALLED)
	$(BIN)/holdfast demo

test: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 tests/safety_monitor
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=100
	$(BIN)/pytest -n 2 --dist loadfile -m 'not alone' --ignore=tests/safety_monitor
	$(BIN)/pytest -m alone $(ALONE)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p holdfast

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -q -W -b html docs build/docs

mutants: $(INSTALLED)
	$(BIN)/python tests/safety_monitor/mutate.py --out docs/measured/MUTATION.md

venv: $(INSTALLED)

$(INSTALLED): setup.py setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Holdfast needs Python 3.10 or newer: make PYTHON=python3.10 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) build install log dist *.egg-info .coverage* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
