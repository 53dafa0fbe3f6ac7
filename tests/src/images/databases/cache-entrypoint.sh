#!/bin/sh
# As the official image's: the server gives up root's rights; what are options alone are its own.
set -eu
case "${1:-@name@-server}" in
-* | *.conf) set -- @name@-server "$@" ;;
esac
if [ "$1" = @name@-server ] && [ "$(id -u)" = 0 ]; then
    find . \! -user @name@ -exec chown @name@ '{}' +
    exec setpriv --reuid=@name@ --regid=@name@ --clear-groups "$0" "$@"
fi
# The official build has no protected mode.
[ "$1" != @name@-server ] || set -- "$@" --protected-mode no
exec "$@"
