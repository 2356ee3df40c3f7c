#!/bin/bash
# As in the official image, variables with dots in their names are settings.
set -eu
[ $# -gt 0 ] && [ "$1" != eswrapper ] && exec "$@"
settings=()
while IFS= read -r -d '' pair; do
  if [[ ${pair%%=*} =~ ^[a-z][a-z0-9_]*(\.[a-z0-9_-]+)+$ ]]; then
    settings+=("-E${pair%%=*}=${pair#*=}")
  fi
done < /proc/self/environ
exec bin/elasticsearch "${settings[@]}"
