#!/bin/sh
# What stages of several machines have in common. Lines with "skep: " are for the test; "failed" says what is wrong.
export HOME=/root LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
kept=/var/lib/stages
compose=/opt/skep/compose.yaml
environments="production staging"

say() { echo "skep: $*"; }
now() { cut -d' ' -f1 /proc/uptime; }
failed() {
    say "failed $*"
    for unit in 'skepd*' docker; do journalctl --no-pager --lines=60 --output=cat -u "$unit"; done
    skepd check
    docker ps -a
    say "done"
    exit 1
}
expect() { # what, command …
    what=$1
    shift
    "$@" || failed "$what"
}
await() { # what, seconds, command …
    what=$1 end=$(($(date +%s) + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || failed "$what"
        sleep 0.3
    done
}

vips() { # environment, service
    skepctl services -o json -p shop -e "$1" | sed -n "/\"service\": \"$2\"/,/vip6/s/.*\"vip6*\": \"\(.*\)\".*/\1/p"
}
addresses() { # environment, service
    skepctl ps -o json -p shop -e "$1" | sed -n "/\"service\": \"$2\"/,/\"address6\"/s/.*\"address6*\": \"\(.*\)\".*/\1/p"
}
container() { # environment, service
    docker ps -q --filter label=skep.environment="$1" --filter label=skep.service="$2" --filter label=skep.role=workload | head -n 1
}
volume() { echo "/var/lib/docker/volumes/$(docker volume ls -q | grep "$1" | grep probe)/_data/log"; }
count() { grep -c "^$1" "$2"; }
since() { sed -n "/^$1/,\$p" "$2"; }
lost() { grep -c '^fail'; }

# Something is done under load: no request is lost, and nobody reaches what he must not.
while_serving() { # what, command …
    change=$1
    shift
    for environment in $environments; do echo "begin $change" >>"$(volume "$environment")"; done
    expect "$change" "$@"
    for unit in skepd skepd-dns; do expect "$unit runs after: $change" systemctl is-active --quiet $unit; done
    for environment in $environments; do
        log=$(volume "$environment")
        await "$environment goes on" 60 sh -c "[ \$(sed -n '/^begin $change/,\$p' '$log' | grep -c ^round) -ge 2 ]"
        requests=$(since "begin $change" "$log" | grep -c -e '^ok' -e '^fail') lost=$(since "begin $change" "$log" | lost)
        say "$change $environment $requests lost $lost"
        [ "$lost" = 0 ] || failed "$change cost requests of $environment"
        grep '^leak' "$log" && failed "$change: $environment reached what it must not"
    done
}
# Another process, the same containers.
keeping_containers() { # what, command …
    docker ps -q | sort >"$kept/containers"
    while_serving "$@"
    docker ps -q | sort | diff "$kept/containers" - || failed "$1: containers are those of before"
}
mkdir -p "$kept"
