# What a person types. Every target first brings .venv up to date (toolchain/bootstrap.py, about
# 0.1 s when it is); `make PYTHON=/path/to/python3.12 ...` chooses the Python it is made with.

ifdef PYTHON
export PYTHON
endif
PY := .venv/bin/python
PACKAGES := runtime converters models pepper_app bench toolchain
NAMESPACE := build/namespace/uservlm
PROVEN := build/proven

# Set here for every command: onnxruntime must not phone home, nor leave files in $HOME.
export ORT_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
# A ROS shell points this at packages built for another Python.
unexport PYTHONPATH

.DEFAULT_GOAL := help
.PHONY: help bootstrap demo package proofs runtimes prove robot test bench check clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*##/\1 -/p' $(firstword $(MAKEFILE_LIST))

bootstrap:  ## Make .venv with everything pinned (the first time: about 5 minutes on 2 cores)
	@command -v "$(or $(PYTHON),python3)" >/dev/null || { \
		echo "no $(or $(PYTHON),python3) here; install Python 3.10, 3.11 or 3.12" >&2; exit 1; }
	@"$(or $(PYTHON),python3)" toolchain/bootstrap.py

demo: bootstrap  ## Export the pocket model if need be, and ask it about the drawn people
	@$(PY) converters/export.py
	@$(PY) -m uservlm.models.demo

package: bootstrap  ## Make dist/uservlm-VERSION.pkg, the app for Pepper's head
	@$(PY) -m uservlm.pepper_app.package

test: export HF_HUB_OFFLINE := 1
test: bootstrap  ## Run all tests, offline, in three processes: many wait for a robot, not a core
	@$(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

robot: bootstrap  ## A whole conversation with a Pepper that is not there
	@$(PY) converters/export.py
	@$(PY) -m uservlm.pepper_app.rehearsal

proofs: bootstrap  ## Build a runtime for each other machine, and prove it under emulation (an hour)
	@$(PY) converters/export.py
	@$(PY) -m uservlm.models.demo
	@$(PY) converters/export.py --quant f16 --vision fp32 --vision-gguf f32 --out build/pocket-float
	@$(PY) toolchain/build.py
	@$(PY) toolchain/prove.py
	@$(PY) toolchain/prove.py --readme

runtimes: bootstrap  ## The runtimes that CI proves, and what they are asked with
	@$(PY) converters/export.py --out $(PROVEN)/pocket
	@$(PY) converters/export.py --quant f16 --vision fp32 --vision-gguf f32 --out $(PROVEN)/float
	@$(PY) -m uservlm.models.demo $(PROVEN)/pocket >$(PROVEN)/demo.txt
	@$(PY) toolchain/build.py pepper-i686 --out $(PROVEN)
	@$(PY) toolchain/build.py x86_64 --variants sse42,haswell --out $(PROVEN)

prove: PROVE = $(PY) toolchain/prove.py --bundle $(PROVEN)/pocket --float-bundle $(PROVEN)/float \
	--pictures $(PROVEN) --records $(PROVEN)/records
prove: bootstrap  ## After `make runtimes`: prove x86_64 with two variants, one answer on pepper-i686
	@$(PROVE) pepper-i686 --questions 1 --quick --runtime $(PROVEN)/uservlm-runtime-pepper-i686.tar.xz
	@$(PROVE) x86_64 --questions 4 --runtime $(PROVEN)/uservlm-runtime-x86_64.tar.xz

bench: export HF_HUB_OFFLINE := 1
bench: bootstrap  ## Measure the pocket model and its peers; the page is build/bench/report.html
	@$(PY) bench/run.py

# mypy cannot follow the import hook of an editable install, so it gets the namespace as links,
# and each file under one name only. The links are made anew: a folder may have been renamed.
check: export HF_HUB_OFFLINE := 1
check: bootstrap  ## ruff, mypy --strict, and the wheel against the folders
	@$(PY) -m ruff check .
	@rm -rf $(NAMESPACE) && mkdir -p $(NAMESPACE)
	@for name in $(PACKAGES); do ln -s ../../../$$name $(NAMESPACE)/$$name; done
	@MYPYPATH=build/namespace $(PY) -m mypy --strict -p uservlm
	@$(PY) -m pytest -q tests/test_packaging.py

clean:  ## Remove what tools left behind; .venv, .wheels and .cache stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	@for name in $(PACKAGES) tests; do find $$name -name __pycache__ -prune -exec rm -rf {} +; done
