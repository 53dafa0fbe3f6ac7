#!/bin/busybox sh
# Loads what the disks need, mounts them, hands over to systemd.
/bin/busybox --install -s /bin
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in /modules/*.ko; do
    insmod "$module" || echo "skep: failed insmod $module"
done
# The order of the drives on the command line of QEMU.
mount -t ext4 /dev/vda /root
mount -t ext4 -o ro /dev/vdb /root/opt/skep
mount -t ext4 -o ro /dev/vdc /root/lib/modules
umount /proc /sys
exec switch_root /root /sbin/init
