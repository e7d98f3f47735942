// SPDX-License-Identifier: Apache-2.0

// Package systemd tests the deb of the distribution on a running Debian: a virtual machine in which systemd
// is process 1, with cron, sshd and what else a small Debian has. make test-systemd runs it.
package systemd
