# Every target sets up what it needs; `make help` lists them.
SHELL  := /bin/bash
PYTHON ?= python3
BIN    := $(CURDIR)/.venv/bin
PY     := $(BIN)/python
# Pages to run as notebooks: those whose front matter says that they hold code.
CHAPTERS = $(shell grep -l 'format_name: myst' book/*.md)
JOBS    ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
# One thread per worker: the workers already fill the cores.
FAST    := IR_FAST=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1 MPLBACKEND=agg MPLCONFIGDIR=$(CURDIR)/_build/.matplotlib

# They measure times: they get the machine for themselves.
TIMED   := tests/benchmarks/test_projection.py tests/benchmarks/test_build_time.py

ENVIRONMENT := .venv/.installed
ASSETS      := _build/assets/.copied
PEERS       := _build/bench-env/.installed
DEVICE      ?= cpu

.DEFAULT_GOAL := help
.PHONY: help book test bench lint format notebooks handout slides pdf colab lab clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1|/' | column -t -s '|'

book: $(ENVIRONMENT) $(ASSETS) ## build the book into _build/html (chapters run in parallel; unchanged ones come from a cache)
	@$(PY) book/_tools/build.py --jobs $(JOBS)

test: book notebooks slides ## unit tests, then every chapter as a notebook and the built pages in a browser
	$(FAST) $(PY) -m pytest tests ir_helpers --doctest-modules --ignore tests/browser $(addprefix --ignore ,$(TIMED)) -n $(JOBS)
	$(FAST) $(PY) -m pytest $(TIMED)
	@# Chapters and pages in one go; a worker more than cores, since sixty readers of the pages wait a minute for each other.
	$(FAST) $(PY) -m pytest --nbval-lax -n $$(($(JOBS) + 1)) _build/notebooks tests/browser

bench: $(PEERS) ## measure the book against other packages into data/results/benchmarks-*.csv (DEVICE=cuda for a GPU)
	PYTHONPATH=tests/benchmarks _build/bench-env/bin/python -m peers --device $(DEVICE)
	@# The new tables make the chapters run again, so the book comes second.
	@$(MAKE) book
	PYTHONPATH=tests/benchmarks $(PY) -m peers.book_table

lint: $(ENVIRONMENT) ## style and spelling of code and prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# ruff skips Markdown: it reads the code of the chapters from a copy. (B018: a cell shows its last expression.)
	@mkdir -p _build/lint && rm -f _build/lint/*
	$(BIN)/jupytext --quiet --to ../_build/lint//py:percent $(CHAPTERS)
	$(BIN)/ruff check --ignore B018 _build/lint/*.py
	$(BIN)/codespell

format: $(ENVIRONMENT) ## rewrite the Python files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(ENVIRONMENT) ## write the chapters as .ipynb into _build/notebooks
	@rm -rf _build/notebooks && mkdir -p _build/notebooks
	$(BIN)/jupytext --quiet --to ../_build/notebooks//ipynb $(CHAPTERS)

handout: book ## write notebooks for a class into _build/handout: without solutions and hidden checks, and with
	@rm -rf _build/handout
	@$(PY) book/_tools/handout.py _build/executed _build/handout $(CHAPTERS)

slides: book ## write offline reveal.js slides of the chapters into _build/slides
	@$(PY) book/_tools/slides.py _build/html _build/npm/node_modules _build/slides

pdf: book ## print the book into _build/pdf (needs xelatex: the target says what to install)
	@$(PY) book/_tools/pdf.py

colab: book ## write the executed chapters for Colab into _build/colab (needs the repository's address in _config.yml)
	@rm -rf _build/colab
	@$(PY) book/_tools/colab.py _build/executed _build/colab

lab: notebooks ## open the chapters in JupyterLab (installs it first)
	$(PY) -m pip install --quiet -c constraints.txt -e '.[lab]'
	$(BIN)/jupyter lab --notebook-dir=_build/notebooks

clean: ## remove everything that was built (the environment stays)
	rm -rf _build .pytest_cache .ruff_cache

$(ENVIRONMENT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] <= (3, 13) else \
	  f"This book needs Python 3.11, 3.12 or 3.13; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	[ -x $(PY) ] || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[book,test]'
	@touch $@

# The packages to compare with have an environment of their own: they bring much that the book does not need.
$(PEERS): tests/benchmarks/requirements.txt tests/benchmarks/requirements-alone.txt constraints.txt pyproject.toml
	[ -x _build/bench-env/bin/python ] || $(PYTHON) -m venv _build/bench-env
	_build/bench-env/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r tests/benchmarks/requirements.txt -e .
	_build/bench-env/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/benchmarks/requirements-alone.txt
	@touch $@

# MathJax and the widget manager travel with the pages, which therefore ask no other host for anything. The slides take
# reveal.js from the same place, the browser tests axe-core.
$(ASSETS): book/_vendor/package.json book/_vendor/package-lock.json book/_tools/assets.py | $(ENVIRONMENT)
	@mkdir -p _build/npm && cp book/_vendor/package.json book/_vendor/package-lock.json _build/npm
	cd _build/npm && PATH="$(BIN):$$PATH" $(BIN)/npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	$(PY) book/_tools/assets.py _build/npm/node_modules _build/assets
	@touch $@
