# PYTHON: an environment with the pack and its test packages, such as the .venv that `python run.py test` makes.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python)

UNIT = tests/diffusion tests/temporal_layers tests/optical_flow tests/training tests/evaluation tests/pocket
UNIT := $(wildcard $(UNIT)) tests/test_rooms.py

.PHONY: help format lint check test test-heavy

help:
	@echo "make format      put the code into its format"
	@echo "make lint        lint, format, spelling"
	@echo "make check       the same and types"
	@echo "make test        unit tests: torch alone, no ComfyUI, on all cores, less than a minute"
	@echo "make test-heavy  every test, with a ComfyUI, its server and a browser"

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m codespell_lib .

check: lint
	$(PYTHON) -m basedpyright

test:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -m "not slow" -n auto --dist worksteal $(UNIT)

test-heavy:
	$(PYTHON) run.py test
