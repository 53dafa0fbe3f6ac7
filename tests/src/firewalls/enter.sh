# Runs a program with the packages' files, in a mount namespace of its own. $1 the root, $2 a place for what is written
root=$1 place=$2
shift 2
mkdir -p "$place/upper" "$place/work" "$place/run/dbus" "$place/tree"
mount -t overlay -o "lowerdir=$root,upperdir=$place/upper,workdir=$place/work" overlay "$place/tree"
# What is written to an overlay is another file to the next one: sockets and PID files are outside of it.
mount --bind "$place/run" "$place/tree/run"
for shared in proc sys dev; do mount --rbind "/$shared" "$place/tree/$shared"; done
exec chroot "$place/tree" "$@"
