// SPDX-License-Identifier: Apache-2.0

// Package nettapreceiver is the nettap receiver of the OpenTelemetry Collector. It observes the
// network by eBPF in the kernel, and reports traffic per process and packet drops as metrics,
// accepted TCP connections as log records, and socket calls as traces.
package nettapreceiver
