# PID 1 of the machine. $1 name, $2 directory
set -e
# /proc is still the outer one: the first field is the PID as the test sees it.
read -r pid rest </proc/self/stat
hostname "$1"
mount -t proc proc /proc

# A sysfs of this netns, with the cgroups of the old one.
mkdir "$2/cgroup"
mount --rbind /sys/fs/cgroup "$2/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$2/cgroup" /sys/fs/cgroup
umount --lazy "$2/cgroup"
rmdir "$2/cgroup"
mount -t bpf bpf /sys/fs/bpf

# Private /run and /etc: sockets, locks and keys that daemons put there by themselves.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir "$2/etc" "$2/etc.work"
mount -t overlay -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/etc.work" overlay /etc
rm -f /etc/resolv.conf
: >/etc/resolv.conf
echo "127.0.1.1 $1" >>/etc/hosts

ip link set lo up
echo "$pid"
# Lives until the test closes the pipe, or dies. Not `exec`: PID 1 has to reap orphans, which a
# shell does while it waits.
cat >/dev/null
exit 0
