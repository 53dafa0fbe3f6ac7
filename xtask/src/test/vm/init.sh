#!/bin/busybox sh
# PID 1 of the guest: mounts, modules, tests, a line for each on the console, power off.
/bin/busybox --install -s /bin
export PATH=/usr/sbin:/bin HOME=/ TMPDIR=/tmp RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
echo 1 >/proc/sys/kernel/printk
for module in /modules/*.ko; do
    insmod "$module" || echo "skep: insmod $module failed"
done
ip link set lo up
ulimit -n 65536
echo "skep: kernel $(uname -r)"
for test in $(cat /proc/cmdline | tr ' ' '\n' | sed -n 's/^skep.tests=//p' | tr , ' '); do
    echo "skep: begin $test"
    (cd /tmp && "/tests/$test" --nocapture 2>&1)
    status=$?
    echo "skep: end $test $status"
    # The first test says whether the programs load at all: without them, the others only take time.
    [ $status = 0 ] || [ "$test" != "${first:-$test}" ] || break
    first=${first:-$test}
done
echo "skep: done"
poweroff -f
