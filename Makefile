# make demo       quantize the network that comes along, and see what it cost (needs Python 3.11 or later, nothing else)
# make test       lint, types, tests: what continuous integration runs
# make test-all   the same with the slow tests
# make docs       the documentation as a site, in build/docs
# make fix        let ruff sort imports and lay out the code
# make bench      list the measurements and how to run one
# make clean      remove the environments and caches

PYTHON ?= $(shell command -v python3.11 || command -v python3)

DEMO := .venv
TEST := .venv-test
RUN := $(TEST)/bin/python -m
PIP := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# what tests need of the system, installed where that is allowed: what the C++ programs of `fewbit deploy` are built with,
# and the browser that pages are opened in
SYSTEM = cmake g++ make chromium
TOOLS = for tool in $(SYSTEM); do command -v $$tool >/dev/null || { apt-get update -qq && apt-get install -y -qq $(SYSTEM); break; }; done \
    && for tool in $(SYSTEM); do command -v $$tool >/dev/null || { echo "the tests need $$tool: apt-get install $(SYSTEM)" >&2; exit 1; }; done

# an environment of the caller must not leak into ours
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
.DELETE_ON_ERROR:
.PHONY: help demo test test-all check docs fix bench clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(DEMO)/installed
	@$(DEMO)/bin/fewbit demo

# two workers on two cores: more threads in each would wait for each other
test test-all: export OMP_NUM_THREADS = 1

test: check
	$(RUN) pytest -n 2 --dist loadfile -q

test-all: check
	$(RUN) pytest -n 2 --dist loadfile -q -m ""

check: $(TEST)/installed
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

docs: $(TEST)/installed
	$(RUN) sphinx -W --keep-going -n -q -c docs . build/docs
	@echo "open build/docs/index.html"

fix: $(TEST)/installed
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench:
	@for script in $(wildcard bench/*.py); do \
	    printf '%-28s %s\n' "$$script" "$$(sed -n '1s/^"""//p' "$$script" | sed 's/"""$$//')"; done
	@printf '\nTo run one: %s -m venv .venv-bench && .venv-bench/bin/pip install -c constraints.txt -e ".[bench]"\n' "$(notdir $(PYTHON))"
	@printf '            .venv-bench/bin/python bench/NAME.py\n'

clean:
	rm -rf .venv .venv-test .venv-bench .hypothesis .mypy_cache .pytest_cache .ruff_cache

# An environment is finished when its stamp is there; an interrupted one is made anew.
$(DEMO)/installed: pyproject.toml constraints.txt
	@echo "installing fewbit into $(DEMO) (once)"
	@$(PYTHON) -m venv --clear $(DEMO)
	@$(DEMO)/bin/python $(PIP) --editable .
	@touch $@

$(TEST)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(TEST)
	$(TEST)/bin/python $(PIP) --no-compile --editable '.[dev]'
	@$(TOOLS)
	touch $@
