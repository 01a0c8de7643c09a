# The two commands:  make scenes3d   (set up, train, report)   and   make test   (set up, run the whole suite).
# Variables: PYTHON=python3.12, INSTALLER=pip (default uv), OUT=runs/name, ARGS="--seed 1", WORKERS=2 (processes that run tests).

SHELL := /bin/bash
PYTHON ?= python3
INSTALLER ?= uv
ARGS ?=
WORKERS ?= 2
export PYTHON INSTALLER

# A run is never overwritten: runs/scenes3d, then runs/scenes3d-2, -3, ...
OUT ?= $(shell out=runs/scenes3d; n=1; while [ -e "$$out" ]; do n=$$((n + 1)); out=runs/scenes3d-$$n; done; echo "$$out")
# The build of torch without CUDA.  Its label keeps pip from taking the default build, which is ten times as large.
TORCH_CPU ?= torch==2.13.0+cpu

LOCKS := requirements/bootstrap.txt pyproject.toml requirements/install.sh
UV_LOCK = .venv/bin/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 \
	--python-platform x86_64-manylinux_2_35 $(UPGRADE)

.PHONY: help scenes3d test lint format .venv dev system light smoke-light lock clean
.DEFAULT_GOAL := help

help:
	@echo "make scenes3d     set up, train the table-top model and write a report to runs/ (ARGS=... for the script)"
	@echo "make test         set up and run the whole test suite (ARGS=... for pytest)"
	@echo "make lint         ruff format --check, ruff check, pyright;  make format applies what ruff can"
	@echo "make .venv        set up only;  make dev adds the tools for tests and linting"
	@echo "make light        .venv-light: CPU build of torch, no PyTorch3D, no Open3D;  make smoke-light tries it"
	@echo "make lock         resolve the locks again (UPGRADE=--upgrade for newer versions)"
	@echo "make clean        delete both environments and the tools' caches (never runs/)"

scenes3d: .venv/.runtime
	.venv/bin/python experiments/scenes3d.py --preset quick --out $(OUT) $(ARGS)

test: .venv/.dev
	.venv/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: .venv/.dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyright

format: .venv/.dev
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

.venv: .venv/.runtime

dev: .venv/.dev

system:
	@requirements/system.sh

.venv/.runtime: requirements/runtime.txt $(LOCKS) | system
	requirements/install.sh .venv requirements/runtime.txt
	@touch $@

.venv/.dev: requirements/dev.txt .venv/.runtime
	requirements/install.sh .venv requirements/runtime.txt requirements/dev.txt
	@touch $@

light: .venv-light/.light

.venv-light/.light: requirements/light.txt $(LOCKS)
	requirements/install.sh .venv-light requirements/light.txt
	@.venv-light/bin/python -m pip install --no-deps --no-compile "$(TORCH_CPU)" || { \
	  echo "error: pip found no $(TORCH_CPU).  Give it the address of the CPU index that PyTorch's install selector shows:"; \
	  echo "       PIP_EXTRA_INDEX_URL=<address> make light"; exit 1; } >&2
	@touch $@

smoke-light: light
	out=$$(mktemp -d) && .venv-light/bin/python experiments/scenes3d.py --preset smoke --out "$$out/run" && rm -r "$$out"

lock:
	$(UV_LOCK) requirements/bootstrap.in --output-file requirements/bootstrap.txt
	$(UV_LOCK) pyproject.toml --extra open3d --extra pytorch3d --constraint requirements/bootstrap.txt \
	  --output-file requirements/runtime.txt
	$(UV_LOCK) --no-strip-markers --group dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(UV_LOCK) pyproject.toml requirements/light.in --override requirements/no-torch.in --constraint requirements/runtime.txt \
	  --output-file requirements/light.txt

clean:
	rm -rf .venv .venv-light .pytest_cache .ruff_cache .hypothesis build *.egg-info
