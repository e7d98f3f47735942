#!/bin/busybox sh
# Process 1 of a guest. It runs the tests of each package that /packages lists with
# the arguments in /arguments, and marks on the console where which begins and ends.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
export GOGC=off GOMEMLIMIT=600MiB # to collect garbage takes a seventh of all time
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

while read -r package; do
	echo "@@ start $package"
	cd "/tests/$package" || continue
	# shellcheck disable=SC2046 # words
	./test $(cat /arguments) </dev/null 2>&1
	status=$?
	echo
	echo "@@ end $package $status"
done </packages
echo "@@ done"
poweroff -f
