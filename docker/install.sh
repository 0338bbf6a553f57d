#!/bin/sh
# Installs radius-mfa into PREFIX, a virtual environment of its own: docker/install.sh PREFIX [ldap]
# The Dockerfile runs this, a test runs it in a clean folder, and so may you, on any machine.
# Needs Python 3.11 or newer with venv, and no compiler: whatever is not a wheel is refused. But for
# one package, with "ldap": python-ldap is compiled, which takes gcc, libldap2-dev and libsasl2-dev.
set -eu

prefix=${1:?usage: docker/install.sh PREFIX [ldap]}
case ${2:-} in
  "") lock=requirements.lock wheels="--only-binary :all:" ;;
  ldap) lock=requirements-ldap.lock wheels="--only-binary :all: --no-binary python-ldap" ;;
  *) echo "usage: docker/install.sh PREFIX [ldap]" >&2; exit 2 ;;
esac
mkdir -p "$prefix"
prefix=$(cd "$prefix" && pwd)
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

"${PYTHON:-python3}" -m venv "$prefix"
# What builds comes first, from the same lock: pip would fetch it unchecked for a build of its own.
if [ "$lock" = requirements-ldap.lock ]; then
  sed -n '/^setuptools==/,/[^\\]$/p' "$lock" > "$prefix/build.lock"
  "$prefix/bin/pip" install --quiet --only-binary :all: --require-hashes -r "$prefix/build.lock"
  rm "$prefix/build.lock"
fi
# shellcheck disable=SC2086 - several words
"$prefix/bin/pip" install --quiet $wheels --no-build-isolation --require-hashes -r "$lock"
"$prefix/bin/pip" install --quiet --no-deps --no-build-isolation .

# What only the installation needed; a server that can't install anything is a smaller target.
"$prefix/bin/pip" uninstall --quiet --yes editables hatchling pathspec pluggy trove-classifiers setuptools \
  pip
"$prefix/bin/radius-mfa" --version
