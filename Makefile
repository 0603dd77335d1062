# Two commands do everything: `make demo` and `make test`. `make install` is their common first step.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install studio screenshots demo test check quick fast coverage fuzz quality gpu bench count card card-prepare soak architecture release clean types test-types types-everywhere allocator thorough ranks-test farm-test compiled

install: .venv/installed

# torch first and alone: its version decides what everything after it resolves to. Compiled by all processors at once
# in place of by pip, which takes one; a few files of packages are for other versions of Python and do not compile.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	touch $@

# The storyboard page; films go into films/.
studio: install
	mkdir -p films
	$(BIN)/holo-lite studio films

demo: install
	$(BIN)/holo-lite demo --out demo

# Types of the product and of the tests at once: each has its own options, and so its own cache.
check: install
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 .  # every text file with its encoding: Windows has another usual one
	$(BIN)/ruff format --check .
	$(MAKE) --jobs 2 types test-types

types:
	$(BIN)/mypy

test-types:
	$(BIN)/mypy --config-file tests/mypy.ini

# As mypy sees the product on the other systems: what is there by the name of one only must be asked for first.
types-everywhere: install
	for system in win32 darwin; do $(BIN)/mypy --platform $$system --cache-dir .mypy_cache/$$system || exit 1; done

# Tests start many processes. Each would compile all it imports again where PYTHONDONTWRITEBYTECODE is set.
compiled: install
	$(BIN)/python -m compileall -qq -j 0 cli.py holo_lite profiles quantize benchmarks training tests/support

# Two at a time, each file in one process: what a file has prepared is prepared once. In the order of tests/subsets.py.
# A process of tests that ends, as one does whose test waits for ever, is not started again: the run ends, and says where.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0
test: check compiled
	$(PYTEST)

# What is left out of `make test`, too: of many cases that are alike, all.
thorough: check compiled
	THOROUGH=1 $(PYTEST)

# While one works: the tests that need no torch, in seconds; those and others that are fast, in a minute and a half.
quick: install
	$(PYTEST) -m quick

fast: install
	$(PYTEST) -m fast

# Pictures of the storyboard page, into docs/. They need a Chromium (`apt-get install chromium`).
screenshots: install
	PYTHONPATH=tests/support $(BIN)/python scripts/screenshots.py

# The share of lines that the tests run: in all, and by module, the least first.
coverage: install
	$(PYTEST) --cov --cov-report=term:skip-covered

# Damaged and hostile files for every reader, FUZZ_INPUTS of each from number FUZZ_FIRST on; `make test` tries the first.
FUZZ_INPUTS ?= 5000
FUZZ_FIRST ?= 0
fuzz: install
	FUZZ_INPUTS=$(FUZZ_INPUTS) FUZZ_FIRST=$(FUZZ_FIRST) $(BIN)/python -m pytest --numprocesses 2 tests/project/test_fuzz.py

# How well the built-in model keeps to storyboards, whole and quantized. See docs/quality.md.
STORYBOARDS ?= 200
quality: install build/tiny-int8 build/tiny-nf4
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --model build/tiny-int8 --baseline holo_lite/tiny/weights
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --model build/tiny-nf4 --baseline holo_lite/tiny/weights
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --dtype bf16 --retake
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --dtype bf16 --extend --chain 3
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --dtype bf16 --reference --pictures 1
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --dtype bf16 --reference
	$(BIN)/holo-lite evaluate --storyboards $(STORYBOARDS) --dtype bf16 --first-frame

build/tiny-%: holo_lite/tiny/weights/model.json | install
	$(BIN)/holo-lite quantize holo_lite/tiny/weights $@ --scheme $*

# On a machine with a CUDA card: its tests, then every card's plan under that card's cap. WORK takes 23 GB of disk.
WORK ?= work
gpu: install
	$(BIN)/python -m pytest tests/eightbit/test_eight_bit.py tests/kernels/test_fused.py tests/kernels/test_kernels.py tests/plan/test_plan_measured.py tests/schemes/test_schemes.py tests/streaming/test_streaming.py
	$(BIN)/python -m benchmarks.fit $(WORK)

# How fast a denoising step is here, beside other ways to compute it, and what became slower since a result was kept
# (KEEP=--keep keeps this one). On a card it takes 25 GB of disk in WORK; what is cut off goes on.
KEEP ?=
bench: install
	$(BIN)/python -m benchmarks.speed $(WORK) --fresh --compare $(KEEP)

# Both of these, what is most telling first, within so many minutes: whether it runs, then peaks, then seconds. It takes
# 50 GB of disk in WORK; what is cut off goes on. Without a card the same runs small, and says so. `make card-prepare`
# writes the weights of the first minutes before, with or without a card.
MINUTES ?= 60
card: install
	$(BIN)/python -m benchmarks.card $(WORK) --minutes $(MINUTES)

card-prepare: install
	$(BIN)/python -m benchmarks.card $(WORK) --prepare

# What a block and the decoder ask of a card, counted without one: launches, bytes, and what they would come to.
count: install
	$(BIN)/python -m benchmarks.count

# Every profile's plan, from the shortest clip to the longest, run against a model of PyTorch's allocator: what is
# reserved stays within the cap, nothing is tried twice, and no phase takes more than is planned. Half an hour.
allocator: install
	$(BIN)/python -m benchmarks.allocator

# 200 short generations, most of them killed, starved or with corrupt files: is any lost? (KEEP=--keep keeps the result)
soak: install
	$(BIN)/python -m benchmarks.soak $(KEEP)

# Draw the layers of docs/architecture.md and .svg again, from tests/layers.py.
architecture: install
	$(BIN)/python scripts/draw_architecture.py

# Build the wheel and the sdist into dist/, and try both in a fresh environment outside the repository.
release: install
	$(BIN)/python -m pip install --quiet "setuptools>=77" wheel
	$(BIN)/python scripts/release.py

# A clip on several devices with what takes a dozen processes: started by torchrun, and the first one killed.
ranks-test: install
	$(BIN)/python -m pytest tests/following/long_following.py

# The farm of machines by its command: stopped, killed, started twice at once. Minutes; `make test` has the short ones.
farm-test: install
	$(BIN)/python -m pytest tests/farm/long_farm.py

clean:
	rm -rf .venv demo build *.egg-info
