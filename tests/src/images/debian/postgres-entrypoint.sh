#!/bin/sh
# As the official image's: POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, PGDATA, initdb.d.
set -eu
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
export PATH PGDATA="${PGDATA:-/var/lib/postgresql/data}"
case "${1:-postgres}" in
postgres) [ $# -eq 0 ] || shift ;;
-*) ;;
*) exec "$@" ;;
esac

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown -R postgres:postgres "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" postgres "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user="${POSTGRES_USER:-postgres}"
    database="${POSTGRES_DB:-$user}"
    method="${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}"
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
        echo "POSTGRES_PASSWORD is not set" >&2
        exit 1
    fi
    secret="$(mktemp)"
    printf '%s\n' "${POSTGRES_PASSWORD:-}" >"$secret"
    # initdb refuses an empty password.
    pwfile="${POSTGRES_PASSWORD:+--pwfile=$secret}"
    # shellcheck disable=SC2086 # absent when empty
    initdb --username="$user" $pwfile --auth-local=trust --encoding=UTF8 --locale=C --no-sync
    rm "$secret"
    echo "host all all all $method" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --silent -o "-c listen_addresses=''" start
    if [ "$database" != postgres ]; then
        psql --quiet --username="$user" --dbname=postgres --set=name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
    fi
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -f "$file" ] || psql --quiet --username="$user" --dbname="$database" --file="$file"
    done
    pg_ctl --wait --silent --mode=fast stop
fi
exec postgres -c "listen_addresses=*" "$@"
