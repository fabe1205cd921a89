PYTHON ?= python3
VENV ?= .venv
UPSTREAM ?= .venv-upstream
TORCH ?= torch==2.14.1 torchvision==0.29.1
# OpenMMLab's own releases, installed over the environment of $(VENV): only what differs is installed again
UPSTREAM_STACK ?= mmengine==0.10.7 mmcv-lite==2.2.0 mmpretrain==1.2.0 'setuptools<82'
# mmdet over the same, without what it would downgrade
DETECTION ?= .venv-detection
DETECTION_STACK ?= onedl-mmdetection==3.5.1 imageio imaug lazy_loader pycocotools scikit-image scipy shapely six terminaltables tifffile
# mmseg over the same
SEGMENTATION ?= .venv-segmentation
SEGMENTATION_STACK ?= onedl-mmsegmentation==1.4.2 ftfy prettytable regex scipy wcwidth
# the page of metricconv_mm.explore, in the browser that is installed (Debian: apt-get install chromium)
EXPLORE ?= .venv-explore
EXPLORE_STACK ?= dash==4.4.1 playwright==1.65.2
BIN = $(VENV)/bin
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1 -DMETRICCONV_POISON
SANITIZED = LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=1 \
    METRICCONV_EXTENSION="$$(ls build/sanitized/metricconv_mm/_C*.so)" METRICCONV_FUZZ=500

.PHONY: env demo test test-detection test-segmentation test-explore sanitize lint bench clean

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

$(SEGMENTATION)/.ready: $(VENV)/.ready
	$(call OVERLAY,$(SEGMENTATION),--no-deps $(SEGMENTATION_STACK))

$(EXPLORE)/.ready: $(VENV)/.ready
	$(call OVERLAY,$(EXPLORE),$(EXPLORE_STACK))

demo: $(VENV)/.ready
	$(BIN)/python tools/demo.py

# one thread a process: the tests run in two, and threads that outnumber the cores wait for each other
test: $(VENV)/.ready $(UPSTREAM)/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests/ops -k triton
	OMP_NUM_THREADS=1 $(UPSTREAM)/bin/python -m pytest -q -m stack tests/integrations

test-detection: $(DETECTION)/.ready
	OMP_NUM_THREADS=1 $(DETECTION)/bin/python -m pytest -q tests/integrations/test_mmdet.py

test-segmentation: $(SEGMENTATION)/.ready
	OMP_NUM_THREADS=1 $(SEGMENTATION)/bin/python -m pytest -q tests/integrations/test_mmseg.py

test-explore: $(EXPLORE)/.ready
	OMP_NUM_THREADS=1 $(EXPLORE)/bin/python -m pytest -q tests/explore

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# memory errors and undefined behaviour of the C++ kernels, whose working space is full of NaN in this build
sanitize: $(VENV)/.ready
	CFLAGS="$(SANITIZE)" LDFLAGS="$(SANITIZE)" $(BIN)/python setup.py -q build_ext --force --build-lib build/sanitized --build-temp build/sanitized
	$(SANITIZED) $(BIN)/python -m pytest -q tests/ops -k 'not compile and not opcheck and not export and not second'
	METRICCONV_CPU_CAPABILITY=avx2 $(SANITIZED) $(BIN)/python -m pytest -q tests/ops/test_fuzz.py
	METRICCONV_CPU_CAPABILITY=generic $(SANITIZED) $(BIN)/python -m pytest -q tests/ops/test_fuzz.py

# on a machine that does nothing else: about ten minutes on two cores
bench: $(VENV)/.ready
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.report

clean:
	rm -rf $(VENV) $(UPSTREAM) $(DETECTION) $(SEGMENTATION) $(EXPLORE) work_dirs build dist *.egg-info metricconv_mm/.mim
