# make run    a demo: server, one user, one login        make check  lint, types, import contracts
# make test   every test                                 make bench  speed, against its rivals
# make lock   pin dependencies anew                      make clean  remove what make made
# make soak   2 million packets: nothing may grow       make conformance   write docs/conformance.md
.DEFAULT_GOAL := help
.PHONY: help run check test bench soak conformance lock clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:
	@sed -n '1,4s/^# //p' Makefile

run: $(VENV)/.installed
	@$(BIN)/radius-mfa demo

check: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# One more than cores: tests wait for replies that are late on purpose.
JOBS ?= 3
QUICK := tests/unit tests/wire

# The quick ones first: they alone must go through every line and branch of policy and protocol.
# Of the others a file's tests share servers, and so a process.
test: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.support.debian
	@$(BIN)/pytest -q -p no:cacheprovider -n $(JOBS) $(QUICK) \
	  --cov=radius_mfa/policy --cov=radius_mfa/protocol --cov-branch --cov-fail-under=100
	@$(BIN)/pytest -n $(JOBS) --dist loadfile tests $(QUICK:%=--ignore=%)

# ARGS="--only 'radius-mfa,minimal pyrad' --json bench.json", or ARGS="--groups ldap,ldaps,hanging".
# FreeRADIUS and slapd run where they are installed: freeradius, freeradius-ldap, slapd.
bench: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.bench $(ARGS)

conformance: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.conformance

# ARGS="--datagrams 200000 --logins 200000"; ten minutes and more without.
soak: $(VENV)/.installed-dev
	@$(BIN)/python -m tests.soak $(ARGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "radius-mfa needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	  { test "$$(id -u)" = 0 && apt-get install -qq -y python3-venv >/dev/null && \
	    $(PYTHON) -m venv $(VENV); } || \
	  { rm -rf $(VENV); echo "Python can't make $(VENV): apt install python3-venv"; exit 1; }

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) ..."
	@$(BIN)/pip install -q --require-hashes -r requirements.lock
	@$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

LDAP_HEADERS := libldap2-dev libsasl2-dev gcc python3-dev

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "Installing what checks and tests need ..."
	@test -e /usr/include/ldap.h || \
	  { test "$$(id -u)" = 0 && apt-get install -qq -y $(LDAP_HEADERS) >/dev/null; } || \
	  { echo "python-ldap must be compiled: apt install $(LDAP_HEADERS)"; exit 1; }
	@$(BIN)/pip install -q --require-hashes -r requirements-dev.lock
	@touch $@

# uv resolves for every platform at once, and writes hashes without addresses.
LOCK := uv pip compile --no-strip-extras -q --universal --python-version 3.11 --generate-hashes --no-annotate \
  --no-emit-index-url --custom-compile-command "make lock" pyproject.toml --extra embedded

lock:
	$(LOCK) --group build -o requirements.lock
	$(LOCK) --extra ldap --group build --group build-ldap -o requirements-ldap.lock
	$(LOCK) --extra ldap --group build --group dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) demo-data build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
