# `make demo` and `make test` each make the environment themselves; nothing else needs to be installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LLM := .venv-llm
WORKERS ?= 2
ON_SERVERS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "servers and not long" -o cache_dir=.pytest_cache/servers

.PHONY: help demo test test-embedded test-long test-servers test-llm check bench bench-servers servers up down status env lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## install, then run the whole stream in one process: learn, report, mail
	$(BIN)/headrace demo --out demo-out

test: $(VENV)/ready ## install, then run every check and test
	@$(MAKE) --no-print-directory -O -j 2 check servers
	@if PYTHONPATH=infra/local $(BIN)/python -m local_servers install; then \
		$(MAKE) --no-print-directory -O -k -j 2 test-servers test-embedded; \
	else \
		$(MAKE) --no-print-directory test-embedded && \
		echo "LEFT OUT: the tests on real servers, as what they need can't be installed here (see above)" >&2; \
	fi

# The tests of one file share what it makes, so that one process runs them all. Where those on servers run beside them,
# which wait for much and may not be late, they go first.
test-embedded: $(VENV)/ready ## the tests that need no server, in two processes (WORKERS=4: in four)
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-long: $(VENV)/ready ## the long forms of the fault and fuzz tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

# Servers on a busy machine may be late. Where time-outs are all that failed (status 7, see tests/conftest.py), and no
# comparison did, those tests are tried once more.
test-servers: $(VENV)/ready ## the tests that start real Kafka, Cassandra and Redis on this machine
	$(ON_SERVERS) || { [ $$? = 7 ] && $(ON_SERVERS) --last-failed; }

test-llm: $(LLM)/ready ## the tests on a real small language model, then its figures; compiles llama.cpp (8 CPU-minutes)
	OMP_NUM_THREADS=1 $(LLM)/bin/python -m pytest -m llm tests/llm
	PYTHONPATH=tests/unit OMP_NUM_THREADS=1 $(LLM)/bin/python tests/llm/figures.py

check: $(VENV)/ready ## lint, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/ready ## the figures: ratios in one run, CPU time beside wall
	OMP_NUM_THREADS=1 $(BIN)/python tests/bench/run.py

bench-servers: $(VENV)/ready ## the figures on real Kafka, Cassandra and Redis (MORE="--sustained --soak": the long ones)
	@PYTHONPATH=infra/local OMP_NUM_THREADS=1 $(BIN)/python tests/bench/bench_servers.py $(MORE)

servers: $(VENV)/ready ## get what they need, once
	-@PYTHONPATH=infra/local $(BIN)/python -m local_servers install

up: $(VENV)/ready ## start Kafka, Cassandra and Redis on this machine (NODES=3: three Cassandra nodes)
	@PYTHONPATH=infra/local $(BIN)/python -m local_servers up $(if $(NODES),--nodes $(NODES))

down: $(VENV)/ready ## stop them (PURGE=1: drop their data too)
	@PYTHONPATH=infra/local $(BIN)/python -m local_servers down $(if $(PURGE),--purge)

status: $(VENV)/ready ## which of them run and answer
	@PYTHONPATH=infra/local $(BIN)/python -m local_servers status

env: $(VENV)/ready ## make or refresh the environment only

$(VENV)/ready: requirements.txt pyproject.toml infra/local/environment.sh
	@PYTHON=$(PYTHON) bash infra/local/environment.sh $(VENV)
	@touch $@

# What a user installs by `pip install 'headrace[local]'`, in an environment of its own. Compiled is less:
# llava is of no use to text, and llama.cmake says what else is of none.
$(LLM)/ready: $(VENV)/ready
	@[ -x $(LLM)/bin/python ] || $(PYTHON) -m venv --without-pip $(LLM)
	$(VENV)-uv/bin/uv pip install -q --python $(LLM)/bin/python --require-hashes -r requirements.txt
	CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/infra/local/llama.cmake $$CMAKE_ARGS" \
		$(VENV)-uv/bin/uv pip install -q --python $(LLM)/bin/python -e ".[local,tune]"
	@touch $@

lock: $(VENV)/ready ## pin the newest versions that pyproject.toml allows
	$(VENV)-uv/bin/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev pyproject.toml -o requirements.txt

clean: ## remove what was made here
	rm -rf $(VENV) $(VENV)-uv $(LLM) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-out
