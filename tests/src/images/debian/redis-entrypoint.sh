#!/bin/sh
# As the official image: open to its network, data in the working directory.
set -eu
[ "${1:-redis-server}" = redis-server ] || exec "$@"
[ $# -eq 0 ] || shift
chown redis:redis .
exec setpriv --reuid=redis --regid=redis --clear-groups redis-server --bind '*' '-::*' --protected-mode no "$@"
