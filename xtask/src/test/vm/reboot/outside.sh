#!/bin/sh
# From before Docker and skepd run: asks every address of every replica and service, from this machine and from another
# one on its network, whose gateway this one is. Whatever answers is written down.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
nc="/opt/skep/busybox nc -w 1"
log=/run/outside
now() { cut -d' ' -f1 /proc/uptime; }
ask() { # who asks, address, command that runs there
    who=$1 address=$2
    shift 2
    answer=$("$@" $nc "$address" 8080 </dev/null 2>/dev/null)
    [ -z "$answer" ] || echo "leak $(now) $who $address $answer" >>$log
}
ip netns add lan
ip link add lan0 type veth peer name lan1 netns lan
ip addr add 192.0.2.1/24 dev lan0
ip addr add 2001:db8::1/64 dev lan0 nodad
ip link set lan0 up
ip route add default via 192.0.2.2
ip -6 route add default via 2001:db8::2
ip -n lan addr add 192.0.2.2/24 dev lan1
ip -n lan addr add 2001:db8::2/64 dev lan1 nodad
ip -n lan link set lan1 up
ip -n lan route add default via 192.0.2.1
ip -n lan -6 route add default via 2001:db8::1
echo "start $(now)" >>$log
while :; do
    for address in $(cat /var/lib/stages/addresses); do
        ask host "$address" &
        ask lan "$address" ip netns exec lan &
    done
    wait
    echo "round $(now)" >>$log
    sleep 1
done
