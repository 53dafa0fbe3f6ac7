#!/bin/sh
# As the official image's: MARIADB_ROOT_PASSWORD, MARIADB_USER, MARIADB_PASSWORD, MARIADB_DATABASE.
set -eu
case "${1:-mariadbd}" in
mariadbd) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac

data=/var/lib/mysql
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$data" /run/mysqld
    chown -R mysql:mysql "$data" /run/mysqld
    exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" mariadbd "$@"
fi

text() { printf "'%s'" "$(printf %s "$1" | sed "s/\\\\/\\\\\\\\/g; s/'/''/g")"; }

if [ ! -d "$data/mysql" ]; then
    if [ -z "${MARIADB_ROOT_PASSWORD:-}" ]; then
        echo "MARIADB_ROOT_PASSWORD is not set" >&2
        exit 1
    fi
    mariadb-install-db --datadir="$data" --skip-test-db --auth-root-authentication-method=normal >/dev/null
    mariadbd --skip-networking --innodb-flush-log-at-trx-commit=0 &
    server=$!
    until mariadb-admin --user=root --silent ping 2>/dev/null; do
        kill -0 "$server"
        sleep 0.1
    done
    root="$(text "$MARIADB_ROOT_PASSWORD")"
    {
        echo "DELETE FROM mysql.global_priv WHERE User = ''; FLUSH PRIVILEGES;"
        [ -z "${MARIADB_DATABASE:-}" ] || echo "CREATE DATABASE \`$MARIADB_DATABASE\`;"
        if [ -n "${MARIADB_USER:-}" ] && [ -n "${MARIADB_PASSWORD:-}" ]; then
            echo "CREATE USER $(text "$MARIADB_USER")@'%' IDENTIFIED BY $(text "$MARIADB_PASSWORD");"
            [ -z "${MARIADB_DATABASE:-}" ] ||
                echo "GRANT ALL ON \`$(printf %s "$MARIADB_DATABASE" | sed 's/_/\\_/g')\`.* TO $(text "$MARIADB_USER")@'%';"
        fi
        echo "CREATE USER 'root'@'%' IDENTIFIED BY $root; GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
        echo "ALTER USER 'root'@'localhost' IDENTIFIED BY $root;"
    } | mariadb --user=root
    kill "$server"
    wait "$server"
fi
exec mariadbd "$@"
