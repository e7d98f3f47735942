// SPDX-License-Identifier: Apache-2.0

// Package nettapreceiver is the nettap receiver of the OpenTelemetry Collector:
// traffic per process and packet drops as metrics, accepted TCP connections as
// log records, socket calls as traces, all seen by eBPF in the kernel.
package nettapreceiver
