# What two machines do: the first becomes a cluster and lets the second in, whose clock is wrong; everything is asked from
# either, and changed under load; the second loses its power, and comes back.
number=$(sed 's/.*skep.node=\([0-9]\).*/\1/' /proc/cmdline)
token=$(sed -n 's/.*skep.token=\([^ ]*\).*/\1/p' /proc/cmdline)

# Before anything of Skep, at each boot.
lan() {
    hostname "node-$number"
    hostname >/etc/hostname
    cat >/etc/systemd/system/lan.service <<UNIT
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network-online.target network.target docker.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec 'ip addr add 10.20.0.$number/24 dev eth0; ip link set eth0 up; ip route add default via 10.20.0.254'
[Install]
WantedBy=sysinit.target
UNIT
    systemctl enable --quiet lan
    expect "there is a network" systemctl start lan
    ip -o link show eth0
}
install() {
    expect "install the package" dpkg -i /opt/skep/skep.deb
    expect "skepd runs" systemctl is-active --quiet skepd
    docker load --quiet --input /opt/skep/images.tar
    sync
}
up() { # environment, assignments …
    environment=$1
    shift
    env "$@" skepctl up -f "$compose" -p shop -e "$environment"
}
nodes() { skepctl nodes -o json; }
ready() { [ "$(nodes | grep -c '"state": "ready"')" = "$1" ]; }
state_of() { nodes | sed -n "/\"node\": \"$1\"/,/\"state\"/s/.*\"state\": \"\(.*\)\".*/\1/p"; }
is() { [ "$(state_of "$1")" = "$2" ]; }
running() { # as many replicas, none of them otherwise
    [ "$(skepctl ps -o json | grep -c '"state": "running"')" = "$1" ] && [ "$(skepctl ps -o json | grep -c '"state"')" = "$1" ]
}
everything() { echo $(vips "$1" web) $(addresses "$1" web) "web.$1.shop.internal"; }
# All of them at once, and one visit to the container: an emulated processor takes seconds for each.
ask() { # environment, addresses …: from this machine's probe
    probe=$(container "$1" "probe-$number")
    shift
    docker exec "$probe" sh -c 'for it; do [ "$(nc -w 5 "$it" 8080 </dev/null)" = pong ] || exit 1; done' ask "$@"
}
names() { # environment
    docker exec "$(container "$1" "probe-$number")" nslookup web
}
# Every replica and every virtual address, wherever it is; and names.
everybody_answers() {
    for environment in $environments; do
        vips=$(vips "$environment" web) names=$(names "$environment")
        for vip in $vips; do
            echo "$names" | grep -q "$vip" || failed "web is $vip for $environment on node $number: $names"
        done
        await "everybody answers $environment on node $number" 120 \
            ask "$environment" web web.internal $vips $(addresses "$environment" web)
    done
}
probed() {
    for environment in $environments; do
        await "$environment probes" 120 grep -q '^round' "$(volume "$environment")"
    done
}

first() {
    lan
    install
    for environment in $environments; do expect "$environment is up" up "$environment"; done
    docker ps -q | sort >"$kept/containers"
    expect "skepd cluster init" skepd cluster init
    expect "the daemon runs again" systemctl is-active --quiet skepd skepd-etcd
    await "everything runs as before" 120 running 6
    docker ps -q | sort | diff "$kept/containers" - || failed "a cluster of one has the containers of before"
    begun=$(date +%s)
    say "token $(skepctl nodes invite 2>/dev/null | sed 's/.*join //')"
    await "the second machine joins" 600 ready 2
    say "joined after $(($(date +%s) - begun))"
    await "the second machine has its images" 300 is_labelled node-2 images=there
    for environment in $environments; do
        expect "$environment spreads" up "$environment" REPLICAS=4 SECOND=1
    done
    production=$(everything production) staging=$(everything staging)
    expect "production is up" up production REPLICAS=4 SECOND=1 "FORBIDDEN=$staging"
    expect "staging is up" up staging REPLICAS=4 SECOND=1 "FORBIDDEN=$production"
    await "everything runs" 300 running 12
    say "spread $(skepctl ps -o json -p shop -e production | grep -A12 '"service": "web"' | grep -o '"node": "node-.' | sort | uniq -c | tr -s ' \n' ' ')"
    everybody_answers
    say "tunnel $(nodes | sed -n 's/.*"tunnel": "\(.*\)".*/\1/p' | sort -u)"
    probed
    while_serving deployment up production REPLICAS=4 SECOND=1 "FORBIDDEN=$staging" VERSION=2
    while_serving keys skepctl nodes rotate-key
    while_serving daemon killed
    everybody_answers
    skepctl nodes
    expect "it may be cut off" skepctl nodes label node-2 stage=cut
    await "the second machine is away" 600 is node-2 away
    for environment in $environments; do echo "begin alone" >>"$(volume "$environment")"; done
    say "away"
    # One that was under way may have failed; after the next that succeeds, none may.
    for environment in $environments; do
        await "$environment goes on alone" 60 sh -c "[ \$(sed -n '/^begin alone/,\$p' '$(volume "$environment")' | grep -c ^ok) -ge 20 ]"
        since "begin alone" "$(volume "$environment")" | sed -n '/^ok/,$p' >"$kept/alone"
        say "alone $environment $(count ok "$kept/alone") lost $(lost <"$kept/alone")"
        [ "$(lost <"$kept/alone")" = 0 ] || failed "$environment lost requests that the second machine had no part in"
    done
    say "alone"
    await "the second machine is back" 600 is node-2 ready
    await "everything runs again" 600 running 12
    everybody_answers
    for environment in $environments; do
        log=$(volume "$environment")
        say "probes $environment $(count round "$log") leaks $(count leak "$log")"
        grep '^leak' "$log" && failed "$environment reached what it must not"
    done
    expect "it may end" skepctl nodes label node-2 stage=end
    skepctl nodes
    say "done"
}
killed() {
    systemctl kill --signal=KILL skepd
    await "skepd is there again" 60 skepctl nodes
}
is_labelled() { # node, name=value
    nodes | sed -n "/\"node\": \"$1\"/,/\"replicas\"/p" | grep -q "\"${2%%=*}\": \"${2#*=}\""
}

second() {
    lan
    install
    expect "skepd join" skepd join "$token"
    await "both machines are there" 300 ready 2
    expect "it says so" skepctl nodes label node-2 images=there
    await "the first machine is content" 1200 is_labelled node-2 stage=cut
    everybody_answers
    report
    touch "$kept/cut"
    sync
    say "cut"
}
report() {
    for environment in $environments; do
        log=$(volume "$environment")
        since ok "$log" >"$kept/since"
        say "second $environment $(count ok "$kept/since") lost $(lost <"$kept/since") rounds $(count round "$log") leaks $(count leak "$log")"
        [ "$(lost <"$kept/since")" = 0 ] || failed "changes cost requests of $environment"
        grep '^leak' "$log" && failed "$environment reached what it must not"
        : >"$log"
    done
}
back() {
    await "both machines are there again" 300 ready 2
    await "everything runs again" 300 running 12
    everybody_answers
    await "the first machine is content again" 600 is_labelled node-2 stage=end
    for environment in $environments; do
        log=$(volume "$environment")
        since start "$log" | sed -n '/^ok/,$p' >"$kept/since"
        say "back $environment $(count ok "$kept/since") lost $(lost <"$kept/since") leaks $(count leak "$log")"
        [ "$(lost <"$kept/since")" = 0 ] || failed "requests were lost after the first that succeeded"
        grep '^leak' "$log" && failed "$environment reached what it must not"
    done
    say "done"
}

say "booted $(now) $(uname -r) $(date -u +%H:%M)"
if [ -e "$kept/cut" ]; then
    back
elif [ "$number" = 1 ]; then
    first
else
    second
fi
