// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

const observing = `
receivers:
  nettap:
    traffic: {collection_interval: 1s}
    drops: {collection_interval: 1s}
    listeners: {enabled: true, collection_interval: 1s}
    connections: {enabled: true, collection_interval: 1s}
exporters:
  nop:
  otlp_http:
    metrics_endpoint: http://%s/opentelemetry/v1/metrics
service:
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: %d}}}}]}}
  pipelines:
    metrics: {receivers: [nettap], exporters: [otlp_http]}
    logs: {receivers: [nettap], exporters: [nop]}
    traces: {receivers: [nettap], exporters: [nop]}
`

// TestPanelsShowTraffic requires that every panel has data while there are traffic, drops and
// retransmits.
func TestPanelsShowTraffic(t *testing.T) {
	own := freePort(t)
	b := startBackend(t, own)
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, observing, b.address, own), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, collector, "--config", config)
	talk(t)
	missing := expressions(t)
	// This panel has data only if the kernel counts drops that nettap does not see, which should not happen.
	delete(missing, "nettap: drops: Counted by the kernel and not seen")
	for deadline := time.Now().Add(time.Minute); len(missing) > 0 && time.Now().Before(deadline); time.Sleep(time.Second) {
		b.flush()
		maps.DeleteFunc(missing, func(_, expression string) bool { return len(b.query(expression, time.Now())) > 0 })
	}
	for _, panel := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s has no data: %s", panel, missing[panel])
	}
}

// talk sends messages until the test ends: on a connection, on a connection whose packets a firewall rule
// drops, and to a socket that is not read.
func talk(t *testing.T) {
	t.Helper()
	context, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	whole, lossy, unread := connect(t), connect(t), fill(t)
	port := lossy.RemoteAddr().(*net.TCPAddr).Port
	for _, action := range []string{"--append", "--delete"} {
		rule := exec.Command("iptables", "--wait", action, "INPUT", "--protocol", "tcp", "--dport", fmt.Sprint(port), "--jump", "DROP")
		run := func() {
			if output, err := rule.CombinedOutput(); err != nil {
				t.Errorf("iptables: %v: %s", err, output)
			}
		}
		if action == "--append" {
			run()
		} else {
			t.Cleanup(run)
		}
	}
	go func() {
		for ticker := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-context.Done():
				ticker.Stop()
				return
			case <-ticker.C:
				_, _ = whole.Write([]byte("whole"))
				_, _ = lossy.Write([]byte("lossy"))
				_, _ = unread.Write(make([]byte, 1000))
			}
		}
	}()
}

// fill returns a socket whose peer has a small receive buffer and is not read.
func fill(t *testing.T) net.Conn {
	t.Helper()
	receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Close() })
	if err := receiver.SetReadBuffer(1); err != nil { // the kernel raises it to the minimum
		t.Fatal(err)
	}
	sender, err := net.DialUDP("udp4", nil, receiver.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	return sender
}

// connect makes a connection to a server of this test, which only reads.
func connect(t *testing.T) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
			go func() {
				defer connection.Close()
				buffer := make([]byte, 512)
				for _, err := connection.Read(buffer); err == nil; {
					_, err = connection.Read(buffer)
				}
			}()
		}
	}()
	connection, err := net.Dial("tcp4", listener.Addr().String()) //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return connection
}
