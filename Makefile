PYTHON ?= python3
VENV ?= .venv
UPSTREAM ?= .venv-upstream
TORCH ?= torch==2.14.1 torchvision==0.29.1
# OpenMMLab's own releases, installed over the environment of $(VENV): only what differs is installed again
UPSTREAM_STACK ?= mmengine==0.10.7 mmcv-lite==2.2.0 mmpretrain==1.2.0 'setuptools<82'
# mmdet over the same, without what it would downgrade
DETECTION ?= .venv-detection
DETECTION_STACK ?= onedl-mmdetection==3.5.1 imageio imaug lazy_loader pycocotools scikit-image scipy shapely six terminaltables tifffile
BIN = $(VENV)/bin
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: env demo test test-detection lint bench clean

env: $(VENV)/.ready

$(VENV)/.ready: setup.py $(wildcard metricconv_mm/csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) 'setuptools>=77' wheel $(TORCH)
	$(BIN)/python $(PIP_INSTALL) --no-build-isolation -e '.[onedl,timm,dev]'
	touch $@

define OVERLAY
	$(PYTHON) -m venv $(1)
	$(BIN)/python -c "import sysconfig; print(f'import site; site.addsitedir({sysconfig.get_path(\"purelib\")!r})')" \
	    > $$($(1)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/base.pth
	$(1)/bin/python $(PIP_INSTALL) $(2)
	touch $(1)/.ready
endef

$(UPSTREAM)/.ready: $(VENV)/.ready
	$(call OVERLAY,$(UPSTREAM),$(UPSTREAM_STACK))

$(DETECTION)/.ready: $(VENV)/.ready
	$(call OVERLAY,$(DETECTION),--no-deps $(DETECTION_STACK))

demo: $(VENV)/.ready
	$(BIN)/python tools/demo.py

# one thread a process: the tests run in two, and threads that outnumber the cores wait for each other
test: $(VENV)/.ready $(UPSTREAM)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile
	OMP_NUM_THREADS=1 $(UPSTREAM)/bin/python -m pytest -q -m stack tests/integrations

test-detection: $(DETECTION)/.ready
	OMP_NUM_THREADS=1 $(DETECTION)/bin/python -m pytest -q tests/integrations/test_mmdet.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# on a machine that does nothing else: about ten minutes on two cores
bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf $(VENV) $(UPSTREAM) $(DETECTION) work_dirs build dist *.egg-info metricconv_mm/.mim
