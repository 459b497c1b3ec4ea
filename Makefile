# Every target does its own set-up and is quick when run again.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help setup demo test lint docs bench bench-masks soak lock clean
help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: .venv/.installed  ## .venv from requirements.lock
	@:
.venv/.installed: requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh

demo: setup      ## the whole path against a local AWS and a local OIDC issuer
	@.venv/bin/flowwarden demo

test: setup      ## every test
	@$(PY) -m pytest -q -n 2 --dist loadfile

lint: setup      ## ruff and mypy --strict
	@.venv/bin/ruff check addons tests bench && .venv/bin/ruff format --check addons tests bench && .venv/bin/mypy && MYPYPATH=addons:bench .venv/bin/mypy bench/*.py

docs: setup      ## docs/cli.md again from the help of the commands
	@$(PY) tools/cli_docs.py

bench: setup     ## the gateway beside a bare mitmdump, in one run
	@$(PY) bench/bench.py

bench-masks: setup  ## precision and recall of the shipped masks over a generated corpus
	@$(PY) bench/masks.py

soak: setup      ## every test in its long form: fuzzing, crash loops
	@FLOWWARDEN_SOAK=1 $(PY) -m pytest --timeout 7200

lock: setup      ## requirements.lock again from pyproject.toml
	@.venv/bin/python -m pip install -q uv && .venv/bin/python -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header -q -o requirements.lock

clean:           ## what the targets above made, recordings and state excepted
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build
