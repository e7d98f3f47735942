#!/bin/busybox sh
# Process 1 of a guest. What the guest is for comes behind this.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
mount -t securityfs none /sys/kernel/security
mount -t tmpfs none /tmp
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mount -t tracefs none /sys/kernel/tracing
while read -r module; do
	insmod "/modules/$module"
done </modules/order
ip link set lo up

