EXAMPLES := $(wildcard examples/*.py)

.PHONY: check lint types layers tests doctests short examples reproduce $(EXAMPLES)

IMAGES ?= data

export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 0

# These go side by side, of one thread each; tests and short versions make use of all cores themselves.
check:
	OMP_NUM_THREADS=1 $(MAKE) --jobs=2 --output-sync=target types examples doctests layers lint
	$(MAKE) tests
	$(MAKE) short

lint:
	ruff check .
	ruff format --check .

types:
	mypy

layers:
	lint-imports

# A file belongs to one worker, so that what its tests share is made once; in the order of their names, so that the
# long ones of tests/cli don't come last.
tests:
	OMP_NUM_THREADS=1 pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

doctests:
	pytest -c pyproject.toml --rootdir . --pyargs vaebm

examples: $(EXAMPLES)

$(EXAMPLES):
	python $@

# make reproduce, or make reproduce CLAIM=NAME IMAGES=FOLDER
reproduce:
	python benchmarks/reproduce.py $(CLAIM) --images "$(IMAGES)"

short:
	python benchmarks/short.py
