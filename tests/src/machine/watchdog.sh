# Outside the machine: runs it, and removes what it leaves on the file system. It has its own
# process group and ignores signals, so that it does its work even when the test is killed.
# $1 name, $2 directory, $3 inner script
trap '' HUP INT TERM
unshare --net --mount --uts --ipc --pid --fork --kill-child sh -c "$3" init "$1" "$2"

# The machine's processes are gone by now, but the kernel may need a moment to see its cgroups empty.
for _ in $(seq 50); do
    left=$(find /sys/fs/cgroup -maxdepth 3 -type d -name "$1" 2>/dev/null)
    [ -n "$left" ] || break
    for directory in $left; do find "$directory" -depth -type d -exec rmdir {} + 2>/dev/null; done
    sleep 0.02
done
rm -rf --one-file-system "$2"
