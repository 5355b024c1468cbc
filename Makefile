# `make demo` and `make test` are all a newcomer needs; both set the environment up first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo demo-processes dist site playground playground-test editor-test test test-pythons test-python-path test-scatter test-all test-extended sanitize accept lint types docs vsix format clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

# Pinned versions, and the CPU build of torch where the package index has one: see .ci/constraints.txt.
$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[demo,test]'
	touch $@

demo: $(READY)  ## compile the specs and train with them: a table and build/demo/results.png
	$(BIN)/metanorm compile specs docs/demo/specs -o build/demo/norms
	PYTHONPATH=build/demo $(BIN)/python docs/demo/train.py --chart build/demo/results.png

demo-processes: $(READY)  ## train on four processes and on one: with synchronized norms, weights are equal
	$(BIN)/metanorm compile specs docs/demo/specs -o build/demo/norms
	PYTHONPATH=build/demo $(BIN)/python docs/demo/processes.py

test: $(READY)  ## every check: lint, types, architecture, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -n 2

test-all: test test-python-path test-scatter test-extended  ## the same, then the tests that every commit cannot wait for

test-extended: $(READY)  ## those alone; `make test-extended PART=0/6` for the first of 6 parts
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[models,export,site]'
	$(BIN)/python -m pytest -n 2 -m extended $(if $(PART),--part $(PART))

test-python-path: $(READY)  ## what calls kernels, with calls through Python instead of through C
	METANORM_CALL_PATH=python $(BIN)/python -m pytest -n 2 tests/native tests/runtime $(if $(PART),--part $(PART))

test-scatter: $(READY)  ## norms of graphs with sums by torch-scatter, which the first run compiles for minutes
	$(BIN)/python .ci/scatter.py

test-pythons: $(READY)  ## compile, and run what needs no torch, under every Python from 3.10 on
	$(BIN)/python .ci/pythons.py $(PART)

sanitize: $(READY)  ## AddressSanitizer, UBSan and ThreadSanitizer over the C kernels of the whole library
	$(BIN)/python -m pytest -n 2 -m "extended or not extended" tests/native/test_sanitizers.py

accept: $(READY)  ## take what the compiler prints now as what the corpus expects
	$(BIN)/python -m pytest -q -n 2 tests/test_corpus.py --accept

docs: $(READY)  ## write the generated pages of docs/ and the editor grammar
	$(BIN)/python -m docs.generate

site: $(READY) playground  ## build/site/html, the documentation as a site whose links are checked; needs node and npm
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[site]'
	$(BIN)/python -m docs.site

dist: $(READY)  ## build what goes to the package index into dist/, and check it
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[dist]'
	$(BIN)/python .ci/dist.py

vsix:  ## editors/vscode/dist/metanorm.vsix, the extension for VS Code; needs node and npm
	cd editors/vscode && npm ci --ignore-scripts --no-audit --no-fund && npm run package

PACKAGES := build/playground-packages/package-lock.json

$(PACKAGES): docs/playground/package.json docs/playground/package-lock.json
	mkdir -p $(@D) && cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

playground: $(READY) $(PACKAGES)  ## build/playground, the compiler in a page; needs node and npm
	node docs/playground/build.mjs build/playground $(BIN)/python

playground-test: playground  ## the page in a browser, CHROMIUM=/usr/bin/chromium: the library, mistakes, links
	node --test docs/playground/compiler.test.mjs docs/playground/browser.test.mjs

editor-test: $(READY) $(PACKAGES) vsix  ## the extension in VS Code, served to CHROMIUM=/usr/bin/chromium; 700 MB the first time
	$(BIN)/python .ci/editor.py

format: $(READY)  ## format the Python code and the specs
	$(BIN)/ruff format .
	$(BIN)/metanorm fmt specs docs/demo/specs

clean:  ## remove everything that was built
	rm -rf $(VENV) build dist
