# What may happen to a node while it runs, one after the other, with requests on their way. Each has to be mended by
# itself, lets nobody reach what he must not, and costs no request unless the deed itself cuts the way.
pins() { echo /sys/fs/bpf/skep/v*; }
table() { nft list tables | sed -n 's/^table \(inet skep.*\)/\1/p'; }
web() { # what of a replica of production's web
    skepctl ps -o json -p shop -e production | sed -n "/\"service\": \"web\"/,/}/s/.*\"$1\": \"\(.*\)\".*/\1/p" | head -n 1
}
veth() { ip -o -4 route show "$(web address)" | sed 's/.* dev \([^ ]*\).*/\1/'; }
inside() { # script, in a replica's network
    nsenter -t "$(docker inspect --format '{{.State.Pid}}' "$(web sandbox)")" -n sh -ec "$1"
}

# The node, by readers that know nothing of Skep. What may be another one after a repair is left out: indexes, MACs.
picture() {
    unnumbered() { sed -e 's/^[0-9]*: *//' -e 's/@if[0-9]*/@/' -e 's/link-netnsid [0-9]*//' -e 's/\(ether\|lladdr\) [0-9a-f:]*//'; }
    docker ps --all --filter label=skep.role --format '{{.Names}} {{.State}}' | sort
    ip -d -o link show | grep skep | unnumbered | sort
    for ip in -4 -6; do ip $ip -o route show proto 83 && ip $ip -o neigh show nud permanent; done | unnumbered | sort
    ip -o addr show dev lo
    nft -s list table $(table)
    iptables -S DOCKER-USER
    ip6tables -S FORWARD | grep skep:
    find "$(pins)" | sed 's/-[0-9]*$//' | sort | uniq -c
    bpftool link show | grep -c ' prog '
    for map in DEVICES NETNS ENDPOINTS SERVICES BACKENDS NAMES PTRS EGRESS; do
        echo $map $(bpftool map dump pinned "$(pins)/$map" | grep -c -e '^key' -e '"key"')
    done
    sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding
    ss -Hlntup | grep skep | sed 's/,pid=.*//' | sort
    for device in $(ip -o link | grep -o 'skep[^:@ ]*'); do
        echo "$device $(tc filter show dev "$device" ingress | grep -c direct-action) $(tc filter show dev "$device" egress | grep -c direct-action)"
    done | sort
    docker ps -q --filter label=skep.role=sandbox | xargs docker inspect --format '{{.Name}} {{.State.Pid}}' | sort | while read -r name pid; do
        echo "$name"
        nsenter -t "$pid" -n sh -c 'for ip in -4 -6; do ip $ip -o addr; ip $ip -o route; ip $ip -o neigh show nud permanent; done' | unnumbered
    done
    for address in $(addresses production web); do
        echo "$address $(docker exec "$(container production probe)" nc -w 5 "$address" 8080 </dev/null)"
    done
}
as_before() { picture >"$kept/picture.now" 2>&1 && diff "$kept/picture" "$kept/picture.now"; }
settled() { as_before || { mv "$kept/picture.now" "$kept/picture" && false; }; }
served() { [ "$(since "mended $fault" "$log" | grep -c '^ok')" -ge 3 ]; }
probed() { since "begin $fault" "$log" | grep -q '^round'; }

# Longest time until all is as before, in seconds, on an emulated processor.
within=120
fault() { # what the load may suffer, what happens, command …
    cost=$1 fault=$2
    shift 2
    for environment in $environments; do echo "begin $fault" >>"$(volume "$environment")"; done
    expect "$fault" "$@"
    begun=$(now)
    until as_before >/dev/null; do
        [ "$(now | cut -d. -f1)" -lt "$((${begun%.*} + within))" ] && continue
        diff "$kept/picture" "$kept/picture.now"
        failed "all is as before $within s after: $fault"
    done
    took=$(echo "$(now) $begun" | awk '{ print $1 - $2 }')
    requests=0 lost=0
    for environment in $environments; do
        log=$(volume "$environment")
        echo "mended $fault" >>"$log"
        await "$environment is served after: $fault" 60 served
        await "$environment probes after: $fault" 60 probed
        grep '^leak' "$log" && failed "$fault: $environment reached what it must not"
        requests=$((requests + $(since "begin $fault" "$log" | grep -c -e '^ok' -e '^fail')))
        lost=$((lost + $(since "begin $fault" "$log" | lost)))
    done
    grep '^leak' /run/outside && failed "$fault: somebody outside reached a container"
    [ "$cost" = interruption ] || [ "$lost" = 0 ] || failed "$fault: requests are lost"
    say "fault $requests $lost $took $fault"
}

again() { # unit: it ends without a word, and systemd starts it
    before=$(systemctl show --property=MainPID --value "$1")
    systemctl kill --signal=KILL "$1"
    await "$1 runs again" 60 sh -c "case \$(systemctl show --property=MainPID --value $1) in 0 | $before) false ;; esac"
    await "skepd answers" 60 skepctl ps
}
restart_skepd() { systemctl restart skepd && await "skepd answers" 60 skepctl ps; }
no_table() {
    nft delete table $(table)
    iptables -F DOCKER-USER
    iptables -A DOCKER-USER -j RETURN
}
flushed() {
    for ip in ip ip6; do ${ip}tables-save | grep -v skep: >"$kept/$ip.rules"; done
    nft flush ruleset
    for ip in ip ip6; do ${ip}tables-restore <"$kept/$ip.rules"; done
}
no_pins() { rm -r "$(pins)"; }
no_routes() {
    for ip in -4 -6; do
        ip $ip route show proto 83 type unreachable | while read -r kind pool rest; do ip $ip route del "$kind" "$pool" proto 83; done
    done
    ip addr del 10.224.0.53/32 dev lo
}
no_forwarding() { sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0; }
host_end() {
    device=$(veth)
    ip -4 route del "$(web address)"
    ip -6 route del "$(web address6)"
    ip neigh flush dev "$device" nud permanent
    ip link set "$device" mtu 1400 alias other
    sysctl -qw "net.ipv4.conf.$device.rp_filter=0" "net.ipv4.conf.$device.forwarding=0"
}
# What goes from replica to replica does not come by there.
no_way_in() { for device in $(ip -o link | grep -o 'skep[^:@ ]*'); do detach to_container egress "$device"; done; }
no_way_out() { detach from_container ingress "$(veth)"; }
detach() { # program, direction, device: with a link or, before Linux 6.6, with a filter
    link="$(pins)/links/$1-$(cat "/sys/class/net/$3/ifindex")"
    if bpftool link show pinned "$link" 2>/dev/null; then
        bpftool link detach pinned "$link"
    else
        tc filter del dev "$3" "$2" pref 1
    fi
}
no_connect() { for hook in connect4 connect6; do bpftool link detach pinned "$(pins)/links/$hook"; done; }
foreign() { bpftool map update pinned "$(pins)/EGRESS" key 0x70 0 0 0 0 0 0 0 0 0 0 0 0 0 0xff 0xff 10 99 0 0 value 1 0 0 0 0 0 0 0; }
empty() { # maps
    for map; do
        bpftool -j map dump pinned "$(pins)/$map" | grep -o '"key":\["[^]]*\]' | sed 's/.*\[//' | tr -d '"]' | tr , ' ' |
            while read -r key; do bpftool map delete pinned "$(pins)/$map" key $key; done
    done
}
no_veth() { ip link del "$(veth)"; }
readdressed() { inside "ip neigh flush dev eth0 nud permanent; ip route flush proto 83; ip addr flush dev eth0"; }
renamed() { inside "printf 'link set eth0 down\nlink set eth0 name lan7\n' | ip -batch -"; }
# Docker starts it again after it has ended; by then it may be gone: a sandbox that ended is made anew.
restarted() { docker restart "$1" || true; }
prune() { docker system prune --all --force; }

faults() {
    : >"$kept/picture"
    await "two pictures are the same" 120 settled
    for environment in $environments; do :>"$(volume "$environment")"; done
    fault nothing "skepd: SIGKILL, and systemd starts it" again skepd
    fault nothing "skepd: systemctl restart" restart_skepd
    fault nothing "skepd-dns: SIGKILL, and systemd starts it" again skepd-dns
    fault nothing "firewall: table deleted, DOCKER-USER emptied" no_table
    fault nothing "firewall: nft flush ruleset, and others' restored" flushed
    fault nothing "every pin removed, and the directories" no_pins
    fault nothing "host: unreachable routes, DNS address" no_routes
    fault nothing "host: forwarding turned off" no_forwarding
    fault nothing "host: all that leads to a container altered" host_end
    fault nothing "program: to_container detached from every veth" no_way_in
    fault nothing "maps: a foreign entry" foreign
    fault nothing "docker system prune --all" prune
    say "kept"
    fault interruption "program: from_container detached" no_way_out
    fault interruption "program: connect4 and connect6 detached" no_connect
    fault interruption "maps: every entry of many deleted" empty ENDPOINTS SERVICES BACKENDS NAMES DEVICES NETNS
    fault interruption "veth: host end deleted" no_veth
    fault interruption "veth: container's end renamed" renamed
    fault interruption "container: addresses, routes and MACs removed" readdressed
    say "mended"
    fault interruption "docker stop of a workload" docker stop "$(web container)"
    fault interruption "docker rm -f of a workload" docker rm -f "$(web container)"
    fault interruption "docker restart of a sandbox" restarted "$(web sandbox)"
    fault interruption "docker rm -f of a sandbox" docker rm -f "$(web sandbox)"
    within=300
    fault interruption "dockerd: systemctl restart, without live-restore" systemctl restart docker
}
