# What the guest does: a stage at its first boot, one after its power was cut, one after an orderly reboot.
up() { # environment, what its probe must not reach
    env "FORBIDDEN=$2" skepctl up -f "$compose" -p shop -e "$1"
}
running() { [ "$(skepctl services -o json | grep -c "\"running\": $1")" = "$2" ]; }
serving() { running 2 2 && running 1 4; } # web; db and probe
everything() { # of an environment: virtual addresses, replicas', names
    for service in web db; do echo $(vips "$1" $service) $(addresses "$1" $service) "$service.$1.shop.internal"; done
}
database() { echo $(vips "$1" db) $(addresses "$1" db) db; }
# What has to be the same after a boot: not the ids of containers.
state() {
    for list in services names ps; do
        skepctl "$list" -o json | grep -v -e '"container"' -e '"sandbox"' -e '"message"'
    done
}
request() { # environment, name, answer
    docker exec "$(container "$1" web)" sh -c "nc -w 5 $2 8080 </dev/null" | grep -q "$3"
}
first() {
    find / -xdev -name '*skep*' | sort >"$kept/before-skep"
    echo "nameserver 192.0.2.2" >/etc/resolv.conf
    cat >/etc/systemd/system/outside.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sh /opt/skep/outside.sh
[Install]
WantedBy=sysinit.target
UNIT
    systemctl enable --quiet outside
    expect "install the package" dpkg -i /opt/skep/skep.deb
    expect "skepd runs" systemctl is-active --quiet skepd
    expect "skepd-dns runs" systemctl is-active --quiet skepd-dns
    expect "both start with the machine" systemctl is-enabled --quiet skepd skepd-dns
    installed_twice
    for unit in skepd skepd-dns; do
        say "capabilities $unit $(grep CapEff "/proc/$(systemctl show --property=MainPID --value $unit)/status" | cut -f2)"
        say "exposure $unit $(systemd-analyze security --no-pager $unit | sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p')"
    done
    bpffs_is_mounted_by_its_unit
    docker load --quiet --input /opt/skep/images.tar
    # Docker does not do that for images, which are not what is asked about here.
    sync
    for environment in $environments; do expect "$environment is up" up "$environment" ""; done
    # Now each knows the other's addresses, and those that its own probe must not reach.
    production=$(everything production) staging=$(everything staging)
    # Unquoted: one line, however many there are.
    expect "production is up" up production "$(echo $staging $(database production))"
    expect "staging is up" up staging "$(echo $production $(database staging))"
    for environment in $environments; do
        for service in web db; do addresses "$environment" $service; done
        vips "$environment" db
    done >"$kept/addresses"
    systemctl start outside
    await "everything serves" 120 serving
    answers
    names_of_the_outside
    state >"$kept/before"
    for environment in $environments; do
        say "forbidden $environment $(echo $(docker inspect --format '{{.Config.Env}}' "$(container "$environment" probe)" | grep -o 'FORBIDDEN=[^]]*' | grep -o '^[^=]*=[^=]*'))"
    done
    boots_again cut
}

# Files and processes are the same ones after a second time.
installed_twice() {
    traces() {
        find / -xdev -name '*skep*' ! -path '/var/lib/skep*' -printf '%p %i %T@\n' | sort
        systemctl show --property=MainPID skepd skepd-dns
    }
    traces >"$kept/once"
    say "again $(skepd install | tr '\n' ' ')"
    traces | diff "$kept/once" - || failed "a second skepd install changes nothing"
}

# systemd mounts it at boot; where it is not, a unit of ours has to.
bpffs_is_mounted_by_its_unit() {
    systemctl stop skepd skepd-dns
    umount /sys/fs/bpf
    expect "skepd starts without a bpffs" systemctl start skepd
    expect "bpffs is mounted" grep -q ' /sys/fs/bpf bpf ' /proc/self/mounts
    expect "skepd-dns runs again" systemctl is-active --quiet skepd-dns
}

answers() {
    for environment in $environments; do
        await "$environment answers itself" 60 request "$environment" web pong
        await "the database of $environment answers web" 60 request "$environment" db rows
    done
}

# Nobody answers there; that the forwarder asks shows that it knows who asked it.
names_of_the_outside() {
    docker exec "$(container production web)" nslookup outside.example
    await "skepd-dns asks for the outside" 20 sh -c "journalctl -u skepd-dns | grep -q 'do not resolve'"
    journalctl -u skepd-dns | grep 'Cannot open the maps' && failed "skepd-dns reads the maps"
}

# With requests on their way.
boots_again() { # the word for the test
    for environment in $environments; do
        log=$(volume "$environment")
        await "$environment probes" 90 grep -q '^round' "$log"
        : >"$log"
        await "$environment has load" 30 grep -q '^ok' "$log"
    done
    touch "$kept/$1"
    # The files that the next stage needs, and nothing else.
    sync "$kept"/*
    say "$1"
}

# Everything is as it was, and nobody got an answer who must not, from the first moment on.
back_after() { # what happened
    await "everything serves again" 240 serving
    say "$1 back $(now)"
    closed=$(journalctl -b -u skepd -o short-monotonic | sed -n 's/^\[ *\([0-9.]*\)\].*attach the socket programs.*/\1/p' | head -n 1)
    say "$1 closed $closed"
    say "$1 docker $(systemctl show --property=ActiveEnterTimestampMonotonic --value docker | sed 's/.....$//; s/.$/.&/')"
    state >"$kept/after"
    diff "$kept/before" "$kept/after" || failed "services, names and replicas are as before"
    answers
    for environment in $environments; do
        log=$(volume "$environment")
        await "$environment has probed" 120 sh -c "[ \$(sed -n '/^start/,\$p' '$log' | grep -c ^round) -ge 3 ]"
        start=$(sed -n 's/^start //p' "$log" | head -n 1)
        say "$1 first $environment $start $(since start "$log" | sed -n 's/^ok //p' | head -n 1)"
        awk "BEGIN { exit !(0 < $closed && $closed < $start) }" || failed "closed ($closed) before anything runs ($start)"
        served=$(since start "$log" | sed -n '/^ok/,$p')
        say "$1 load $environment $(echo "$served" | grep -c .) lost $(echo "$served" | lost)"
        say "$1 probes $environment $(since start "$log" | grep -c ^round) leaks $(count leak "$log")"
        grep '^leak' "$log" && failed "$environment reached what it must not"
    done
    say "$1 outside since $(sed -n 's/^start //p' /run/outside) rounds $(count round /run/outside) leaks $(count leak /run/outside)"
    grep '^leak' /run/outside && failed "somebody outside reached a container"
    [ "$(count round /run/outside)" -ge 3 ] || failed "nobody asked from outside"
}

package_again() { dpkg -i /opt/skep/skep.deb; }
package_gone_and_back() { dpkg --remove skep && dpkg -i /opt/skep/skep.deb; }

purge() {
    expect "purge the package" dpkg --purge skep
    nothing_is_left "a purge"
}
by_hand() {
    dpkg -x /opt/skep/skep.deb /run/by-hand
    expect "skepd install" /run/by-hand/usr/bin/skepd install
    expect "skepd runs" systemctl is-active --quiet skepd
    installed_twice
    for environment in $environments; do expect "$environment is up" up "$environment" ""; done
    await "everything serves" 120 serving
    answers
    # What a newer version is to the machine: another program.
    newer=/run/by-hand/usr/bin/skepd
    echo >>$newer
    keeping_containers newer $newer upgrade
    expect "the newer program is what runs" cmp $newer "/proc/$(systemctl show --property=MainPID --value skepd)/exe"
    expect "skepd uninstall" skepd uninstall --yes --purge
    nothing_is_left "skepd uninstall"
}
nothing_is_left() { # after what
    left=$(docker ps -aq --filter label=skep.role)
    left="$left$(ip -o link | grep -o 'skep[^:@ ]*')"
    left="$left$(nft list ruleset | grep -i skep)"
    left="$left$(ip -4 route show type unreachable)"
    left="$left$(find / -xdev -name '*skep*' ! -path '/var/lib/docker/volumes/*' | sort | diff "$kept/before-skep" - | grep '^>')"
    left="$left$(find /run /sys/fs/bpf -name '*skep*' ! -path '/run/by-hand/*')"
    left="$left$(getent group skep)"
    [ -z "$left" ] || failed "$1 leaves: $(echo $left)"
    say "nothing-left $1"
}

say "booted $(now) $(uname -r)"
if [ -e "$kept/reboot" ]; then
    back_after reboot
    faults
    keeping_containers upgrade package_again
    keeping_containers return package_gone_and_back
    purge
    by_hand
    say "done"
elif [ -e "$kept/cut" ]; then
    back_after cut
    boots_again reboot
    systemctl reboot
else
    first
fi
