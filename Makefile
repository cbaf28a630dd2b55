# SPDX-License-Identifier: Apache-2.0
# make demo  - set everything up and classify a speech clip (CLIP=x.wav for your own)
# make test  - set everything up and run the whole suite
# make runtime - build libzoo, the device runtime for C and C++, in build/runtime (RUNTIME_ARGS=... for CMake)
# make oracle - C++ kernels beside Python libraries, called from one program
# make threads - what threads share, under ThreadSanitizer
# make fuzz - libFuzzer (Clang) on what reads hostile bytes, SECONDS=60 each, two at a time
# make soak - threads that open, run and close models for SECONDS=60; memory must not grow
# make arm64 - the same for 64-bit Arm, in build/arm64, and its kernels' tests under qemu
PYTHON ?= python3
PIP_ARGS ?=
RUNTIME_ARGS ?=
CLIP ?= zoo/models/tim_net/golden/calm_22050.flac
DEMO := .venv/demo
TEST := .venv/test
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint runtime oracle arm64 sanitize threads fuzz soak bench bench-quantization bundles clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

$(DEMO)/installed: pyproject.toml CMakeLists.txt $(shell find csrc zoo runtime export -type f -not -name '*.pyc' 2>/dev/null)
	@sh .ci/system_packages.sh $(PYTHON)
	@test -x $(DEMO)/bin/python || $(PYTHON) -m venv $(DEMO)
	@echo "Installing affect-zoo with the exporter (PyTorch) into $(DEMO) ..."
	@$(DEMO)/bin/pip install -q $(PIP_ARGS) '.[export]'
	@touch $@

demo: $(DEMO)/installed
	@mkdir -p bundles
	$(DEMO)/bin/zoo export tim-net-emodb --target cpu-x86 --precision fp32 --out bundles/tim-net-emodb --force
	$(DEMO)/bin/zoo selftest bundles/tim-net-emodb
	$(DEMO)/bin/zoo run bundles/tim-net-emodb '$(CLIP)'
	$(DEMO)/bin/zoo bench bundles/tim-net-emodb --quick

# The suite runs against the built wheel, not the source tree.
$(TEST)/installed: pyproject.toml CMakeLists.txt $(shell find csrc zoo runtime export -type f -not -name '*.pyc' 2>/dev/null)
	@sh .ci/system_packages.sh $(PYTHON)
	@test -x $(TEST)/bin/python || $(PYTHON) -m venv $(TEST)
	@rm -rf dist && mkdir -p dist
	@echo "Building the wheel ..."
	@$(TEST)/bin/pip wheel -q $(PIP_ARGS) --no-deps -w dist .
	@echo "Installing it with every extra that the tests use ..."
	@wheel=$$(ls dist/*.whl); $(TEST)/bin/pip install -q $(PIP_ARGS) "$$wheel[dev]"
	@$(TEST)/bin/pip install -q --force-reinstall --no-deps dist/*.whl
	@rm -rf $(TEST)/opencv4 && $(TEST)/bin/pip install -q $(PIP_ARGS) --no-deps --target $(TEST)/opencv4 'opencv-python-headless>=4.10,<5'
	@touch $@

lint: $(TEST)/installed
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	cd $(TEST) && bin/mypy --config-file $(CURDIR)/pyproject.toml -p zoo
	cd $(TEST) && bin/lint-imports --config $(CURDIR)/pyproject.toml

# Where the installed wheels of the engines are.
SITE = $$($(TEST)/bin/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])")
ENGINES = -DOpenVINO_DIR="$(SITE)/openvino/cmake" -DZOO_ONNXRUNTIME_FOLDER="$(SITE)/onnxruntime/capi"
RUNTIME_PACKAGES = nlohmann-json3-dev libminizip-dev zlib1g-dev googletest

runtime: $(TEST)/installed
	@sh .ci/system_packages.sh $(PYTHON) $(RUNTIME_PACKAGES)
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/runtime -G Ninja -DZOO_BUILD_PYTHON=OFF -DZOO_BUILD_RUNTIME=ON \
	    -DZOO_BUILD_TESTS=ON $(ENGINES) $(RUNTIME_ARGS) >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake --build build/runtime --target zoo classify_wav live_speech camera_faces eeg_stream allocations soak fake_engines

# The Python libraries are the test environment's.
oracle: runtime
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/runtime -DZOO_ORACLE_PYTHON=$(CURDIR)/$(TEST)/bin/python >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake --build build/runtime --target oracle_test
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" ctest --test-dir build/runtime --output-on-failure --no-tests=error -R '^oracle_test$$'

# The suite runs its programs under qemu too, once it is built.
arm64: $(TEST)/installed
	@sh .ci/system_packages.sh $(PYTHON) $(RUNTIME_PACKAGES) g++-aarch64-linux-gnu qemu-user
	@sh .ci/arm64.sh $(TEST)/bin/python build/arm64/system
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/arm64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=$(CURDIR)/.ci/aarch64.cmake \
	    -DZOO_SYSROOT=$(CURDIR)/build/arm64/system -DOpenVINO_DIR=$(CURDIR)/build/arm64/system/wheels/openvino/cmake \
	    -DZOO_BUILD_PYTHON=OFF -DZOO_BUILD_RUNTIME=ON -DZOO_BUILD_TESTS=ON >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake --build build/arm64
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" ctest --test-dir build/arm64 --output-on-failure

# The C++ unit tests under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize: $(TEST)/installed
	@sh .ci/system_packages.sh $(PYTHON) $(RUNTIME_PACKAGES)
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/sanitize -G Ninja -DZOO_BUILD_PYTHON=OFF -DZOO_BUILD_TESTS=ON \
	    -DZOO_BUILD_RUNTIME=ON $(ENGINES) -DZOO_SANITIZE=address,undefined >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake --build build/sanitize
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" ctest --test-dir build/sanitize --output-on-failure

# Under ThreadSanitizer, with the baseline's kernels alone: what threads share, two engines with threads and a stream, and the soak with its
# limit on memory out of the way, since ThreadSanitizer's own grows. Addresses are not randomised where that can be had: GCC 12's
# ThreadSanitizer does not start on kernels that randomise more bits than it knows.
THREADS = $$(setarch -R true 2>/dev/null && echo setarch -R) env TSAN_OPTIONS="suppressions=$(CURDIR)/tests/csrc/tsan.supp second_deadlock_stack=1"
threads: $(TEST)/installed
	@sh .ci/system_packages.sh $(PYTHON) $(RUNTIME_PACKAGES)
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/threads -G Ninja -DZOO_BUILD_PYTHON=OFF -DZOO_BUILD_TESTS=ON \
	    -DZOO_BUILD_RUNTIME=ON $(ENGINES) -DZOO_SANITIZE=thread -DZOO_X86_TARGETS=OFF >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" $(THREADS) cmake --build build/threads --target threads_test runtime_test soak
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" $(THREADS) ctest --test-dir build/threads --output-on-failure --no-tests=error -R '^threads_test|Threads'
	@$(THREADS) build/threads/tests/csrc/soak zoo/models/tim_net/bundles/tim-net-emodb 10 8 1000 "$(SITE)/onnxruntime/capi"

# Seeds first, then mutations; a finding is left in build/fuzz/findings and ends the run with an error. Leaks are looked for at the end:
# a look after each input that seems to leak takes a second on some machines, and a minute of manifests was a hundred of them.
SECONDS = 60
X86_TARGETS = ON
FUZZ = manifest zip audio tokenizer pipeline run
fuzz: $(TEST)/installed
	@sh .ci/system_packages.sh $(PYTHON) $(RUNTIME_PACKAGES) clang libclang-rt-14-dev
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake -S . -B build/fuzz -G Ninja -DZOO_BUILD_PYTHON=OFF -DZOO_BUILD_TESTS=ON -DZOO_BUILD_RUNTIME=ON \
	    -DZOO_FUZZ=ON -DZOO_X86_TARGETS=$(X86_TARGETS) -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ >/dev/null
	@PATH="$(CURDIR)/$(TEST)/bin:$$PATH" cmake --build build/fuzz --target fuzz
	@mkdir -p build/fuzz/findings
	@printf '%s\n' $(FUZZ) | xargs -P 2 -I NAME sh -c 'mkdir -p build/fuzz/corpus/NAME && \
	    build/fuzz/tests/csrc/fuzz/fuzz_NAME -max_total_time=$(SECONDS) -rss_limit_mb=2048 -timeout=25 -detect_leaks=0 -print_final_stats=1 \
	    -artifact_prefix=build/fuzz/findings/NAME- build/fuzz/corpus/NAME tests/csrc/fuzz/corpus/NAME >build/fuzz/NAME.log 2>&1 \
	    || { tail -n 40 build/fuzz/NAME.log; exit 1; }'
	@grep -H number_of_executed_units build/fuzz/*.log

soak: runtime
	build/runtime/tests/csrc/soak zoo/models/tim_net/bundles/tim-net-emodb $(SECONDS) 8 1 "$(SITE)/onnxruntime/capi"

# OpenCV 5 is what the kernels are compared with, but its wheels hold no face detector: the extra `faces` has OpenCV 4, beside it.
test: $(TEST)/installed
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory runtime
	@$(MAKE) --no-print-directory oracle
	@$(MAKE) --no-print-directory sanitize
	@$(MAKE) --no-print-directory threads
	ZOO_DATA="$${ZOO_DATA:-$(abspath ../shared/data)}" $(TEST)/bin/pytest -q --durations=15
	ZOO_DATA="$${ZOO_DATA:-$(abspath ../shared/data)}" PYTHONPATH="$(CURDIR)/$(TEST)/opencv4" $(TEST)/bin/pytest -q tests/test_faces.py

bench: $(TEST)/installed
	$(TEST)/bin/python benchmarks/suites/tim_net.py

# INT8 beside onnxruntime's, optimum-onnx's and NNCF's, every model and two networks trained for it; about 20 minutes of CPU.
bench-quantization: $(TEST)/installed
	ZOO_DATA="$${ZOO_DATA:-$(abspath ../shared/data)}" $(TEST)/bin/python benchmarks/suites/quantization.py \
	    --stand-ins build/stand-ins

# Rebuild the fp32 bundles that ship in the wheel (the suite checks that they are current).
bundles: $(TEST)/installed
	$(TEST)/bin/python -m zoo.export.ready

clean:
	rm -rf .venv build dist bundles
