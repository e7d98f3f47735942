// SPDX-License-Identifier: Apache-2.0

package installed

// settings are files of the machine, by path. What is outside of the machine, its test answers: see internet.
var settings = map[string]string{
	"etc/hostname": "idle\n",
	"etc/hosts":    "127.0.0.1\tlocalhost\n127.0.1.1\tidle\n::1\tlocalhost ip6-localhost ip6-loopback\n",
	"etc/fstab":    "/dev/vda / ext4 errors=remount-ro 0 1\n",
	"etc/udev/rules.d/80-net-setup-link.rules":                 "# empty: the interface is eth0, however the machine is built\n",
	"etc/network/interfaces.d/ethernet":                        "allow-hotplug eth0\niface eth0 inet dhcp\n",
	"etc/resolv.conf":                                          "nameserver 127.0.0.1\n",
	"etc/apt/sources.list":                                     "deb [trusted=yes] http://deb.debian.org/debian bookworm main\n",
	"etc/apt/apt.conf.d/20auto-upgrades":                       "APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n",
	"etc/cron.d/idle":                                          "* * * * * root cd / && run-parts --report /etc/cron.hourly && run-parts --report /etc/cron.daily && touch /run/cron\n",
	"etc/dhcp/dhclient.conf":                                   "request subnet-mask, broadcast-address, time-offset, routers, host-name;\nsupersede domain-name-servers 127.0.0.1;\n",
	"etc/systemd/system/idle-run.service":                      unit,
	"etc/systemd/system/otelcol-nettap.service.d/backend.conf": "[Service]\nEnvironment=OTLP_INSECURE=true OTLP_COMPRESSION=gzip GOGC=off GOMEMLIMIT=600MiB\n",
}

// unit runs the tests in the machine, with the console as output, and then switches it off.
const unit = `
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=exec
ExecStart=/tests/installed.test -test.v -test.timeout 35m -test.run ^TestGuest$$
WorkingDirectory=/tests
EnvironmentFile=/tests/environment
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
`
