# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
OUT ?= samples

.PHONY: benchmark-gpu demo figures site docs proofs test test-slow test-gpu test-browser test-matrix lint format lock benchmarks clean

demo: $(VENV)/.installed
	$(BIN)/flowgression sample --model arflow-mnist --num-images 80 --num-inference-steps 8 --guidance-scale 2.5 --out $(OUT)/digits.png
	@echo
	@echo "Next:"
	@echo "  $(BIN)/flowgression font --photo docs/images/letters.png --text ARges --out mine.ttf --sheet alphabet.png"
	@echo "  $(BIN)/flowgression sample --model arflow-mnist --class-labels seven --guidance-scale 3 --out sevens.png"
	@echo "  $(BIN)/flowgression sample --model arflow-mnist --class-labels 0-9 --out walk.gif"
	@echo "  $(BIN)/flowgression train --config quick --out runs/quick"
	@echo "  $(BIN)/flowgression --help"
	@echo "  $(BIN)/flowgression serve --model arflow-mnist --model flowar-mnist    # see each step in the browser"

# Style, types, then all fast CPU tests.
test: $(VENV)/.installed-dev lint
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 -m "slow and not gpu"

test-gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu

# The page with the built-in models, for any static server: docs/_build/site. See docs/page.md.
site: $(VENV)/.installed-dev
	$(BIN)/python tools/site.py

# The page in headless Chromium and Firefox; installs what is missing (as root, on Debian and Ubuntu).
BROWSER_PACKAGES := chromium chromium-driver firefox-esr nodejs npm
test-browser: $(VENV)/.installed-dev
	@for each in chromium chromedriver firefox-esr node npm; do command -v $$each >/dev/null || wanted=1; done; \
	  test -z "$$wanted" || apt-get install -y $(BROWSER_PACKAGES)
	$(BIN)/python tools/site.py
	$(BIN)/python tools/npm.py axe-core
	$(BIN)/python -m pytest -m "slow or not slow" tests/page

# The default tests under many settings and versions; ONLY='lowest OMP_*' picks some. See docs/testing.md.
test-matrix: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet uv
	$(BIN)/python tools/matrix.py $(if $(ONLY),--only $(ONLY))

# The theorems of proofs/, compiled by Coq (installed if missing, on Debian and Ubuntu). See docs/proofs.md.
proofs:
	bash proofs/check.sh

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# requirements-cpu.lock, which the Dockerfile installs.
lock: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet uv
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tools/lock.py

# The documentation: every example executed, then the pages; nothing is fetched. See docs/_build/html/index.html.
docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees -b doctest docs docs/_build/doctest
	$(BIN)/python -m sphinx -W --keep-going -q -d docs/_build/doctrees -b html docs docs/_build/html

# Tables of the documents that are of other weights than those in the package, made again; it resumes, and lists slow ones.
figures: $(VENV)/.installed-dev
	$(BIN)/python tools/figures.py --list
	$(BIN)/python tools/figures.py

# Tests, speed and memory on an NVIDIA GPU, at most 25 minutes; writes docs/benchmarks/gpu-NAME.md and .json.
benchmark-gpu: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu.py

benchmarks: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/arflow.py

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[all]"
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[dev,kernels]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet -e ".[docs]"
	touch $@ $(VENV)/.installed
