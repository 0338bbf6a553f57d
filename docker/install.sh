#!/bin/sh
# Installs radius-mfa into PREFIX, a virtual environment of its own: docker/install.sh PREFIX
# The Dockerfile runs this, a test runs it in a clean folder, and so may you, on any machine.
# Needs Python 3.11 or newer with venv, and no compiler: whatever is not a wheel is refused.
set -eu

prefix=${1:?usage: docker/install.sh PREFIX}
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

"${PYTHON:-python3}" -m venv "$prefix"
"$prefix/bin/pip" install --quiet --only-binary :all: --require-hashes -r requirements.lock
"$prefix/bin/pip" install --quiet --no-deps --no-build-isolation .

# What only the installation needed; a server that can't install anything is a smaller target.
"$prefix/bin/pip" uninstall --quiet --yes editables hatchling pathspec pluggy trove-classifiers pip
"$prefix/bin/radius-mfa" --version
