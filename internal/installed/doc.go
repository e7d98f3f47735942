// SPDX-License-Identifier: Apache-2.0

// Package installed tests the release of the distribution on machines of its own, which are virtual. One is a
// Debian in which systemd is process 1, with cron, sshd and what else a small Debian has: make test-systemd. The
// other one has a processor of another architecture: make test-arm64.
package installed
