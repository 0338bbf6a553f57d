#!/bin/sh
# Makes what docker-compose.yml mounts: secrets, a key ring, a configuration. Once, as root:
#
#     docker/prepare.sh [FOLDER]        FOLDER is $RADIUS_MFA_SITE, or docker/site
#
# What is there already is kept: run it again after an upgrade without fear.
set -eu
umask 077

here=$(cd "$(dirname "$0")" && pwd)
site=${1:-${RADIUS_MFA_SITE:-$here/site}}
server=10001  # user and group of the server, as in the Dockerfile

if [ "$(id -u)" != 0 ]; then
  echo "run this as root: the files must belong to user $server, whom the server runs as" >&2
  exit 1
fi

# Compose mounts a secret with the owner and the mode that its file has here.
# own OWNER MODE FILE: give FILE to OWNER.
own() {
  chown "$1" "$3"
  chmod "$2" "$3"
}

# secret OWNER MODE NAME COMMAND...: make a secret of what COMMAND prints, unless there is one.
secret() {
  owner=$1 mode=$2 file=$site/secrets/$3
  shift 3
  if [ -s "$file" ]; then
    echo "kept  $file"
  else
    "$@" > "$file.new"
    own "$owner" "$mode" "$file.new"
    mv "$file.new" "$file"
    echo "made  $file"
  fi
}

password() {
  LC_ALL=C tr -dc 'A-Za-z0-9' < /dev/urandom | head -c 40
}

key_ring() {
  echo "# radius-mfa key ring: docs/operations.md. Back it up, and apart from the database."
  echo "1 $(head -c 32 /dev/urandom | base64)"
}

mkdir -p "$site/secrets" "$site/config"
own root:root 0711 "$site"
own root:root 0711 "$site/secrets"
own "$server:$server" 0700 "$site/config"

# Redis and PostgreSQL read their password as members of the server's group.
secret "root:$server" 0440 redis_password password
secret "root:$server" 0440 postgres_password password
secret "$server:$server" 0400 health_secret password
secret "$server:$server" 0400 keyring key_ring

if [ -e "$site/config/radius-mfa.toml" ]; then
  echo "kept  $site/config/radius-mfa.toml"
else
  cp "$here/radius-mfa.toml" "$site/config/radius-mfa.toml"
  own "$server:$server" 0600 "$site/config/radius-mfa.toml"
  echo "made  $site/config/radius-mfa.toml"
fi
