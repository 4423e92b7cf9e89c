# Two commands matter: "make demo" and "make test". Both set up .venv first where it is missing.
# With STACK=onedl they use the maintained forks of OpenMMLab's packages, in .venv-onedl.

STACK  ?= openmmlab
VENV   ?= .venv$(addprefix -,$(filter-out openmmlab,$(STACK)))
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY     := $(VENV)/bin/python

STATIC_DEMO := faster_rcnn_r50_demo
LAS_DEMO    := faster_rcnn_las_r50_4-4-2-1_demo
DEMO_WORK   := work_dirs/$(LAS_DEMO)
DEMO_DATA   := data/demo/demo_dataset.json
CLS_DATA    := data/demo_cls/demo_dataset.json
DATA_CODE   := tools/make_demo_dataset.py $(wildcard tools/demo_data/*.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-data train-demo test-demo test lint docs clean distclean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON) VENV=$(VENV) STACK=$(STACK) PYTEST_ARGS=$(PYTEST_ARGS)"

setup:  ## create .venv with the pinned packages (done once, then takes no time)
	@test -n "$(PYTHON)" || { echo "setup: error: no python3.11 in PATH; install it or name \
	one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" tools/misc/setup_env.py --stack $(STACK) --venv "$(VENV)"

demo: setup demo-data  ## train, test and picture a LAS Faster R-CNN on real images, offline
	@$(MAKE) --no-print-directory train-demo
	@$(MAKE) --no-print-directory test-demo

demo-data: $(DEMO_DATA) $(CLS_DATA)  ## make data/demo (detection) and data/demo_cls (classes)

$(DEMO_DATA): $(DATA_CODE) | setup
	$(PY) tools/make_demo_dataset.py

$(CLS_DATA): $(DATA_CODE) | setup
	$(PY) tools/make_demo_dataset.py --task classification

# --resume goes on after an interruption, and ends at once where training is complete. The static
# detector is where the dynamic one starts from, and its teacher.
train-demo:
	$(PY) tools/train.py configs/$(STATIC_DEMO).py --resume
	$(PY) tools/train.py configs/$(LAS_DEMO).py --resume

test-demo:
	$(PY) tools/test.py configs/$(LAS_DEMO).py "$$(cat $(DEMO_WORK)/last_checkpoint)" \
	    --show-dir predictions
	$(PY) tools/visualize_masks.py configs/$(LAS_DEMO).py "$$(cat $(DEMO_WORK)/last_checkpoint)" \
	    data/demo/val --limit 6
	@echo "The report is $(DEMO_WORK)/latency_report.json, the masks are $(DEMO_WORK)/masks.png"

test: lint  ## check style and types, run all tests
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --durations=10 $(PYTEST_ARGS)

lint: setup  ## check style and types only
	$(PY) -m ruff check .
	$(PY) -m mypy

docs: setup  ## make the site of docs/ and of the docstrings, in docs/site
	$(PY) -m sphinx -b html -W --keep-going -q docs docs/site
	@echo "The site is docs/site/index.html"

clean:  ## remove caches, builds, the demo's data and its results
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf docs/site docs/api
	rm -rf data/demo data/demo_cls work_dirs/$(STATIC_DEMO) $(DEMO_WORK)
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean  ## remove .venv, too (the wheel cache in ~/.cache/las_mm stays)
	rm -rf "$(VENV)"
