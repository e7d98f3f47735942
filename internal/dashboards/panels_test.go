// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// counts has the connector that makes metrics of log records. It is merged below observing, which has
// another exporter.
const counts = "../../deploy/counts.yaml"

const observing = `
receivers:
  nettap:
    traffic: {collection_interval: 1s}
    drops: {collection_interval: 1s, metrics: {nettap.tcp.reset: {enabled: true}}}
    accepts: {policy: {expect: [{commands: [expected]}]}}
    calls: {collection_interval: 100ms, metrics: {nettap.socket.wait.duration: {enabled: true}}}
    listeners: {enabled: true, collection_interval: 1s}
    connections: {enabled: true, collection_interval: 1s}
exporters:
  nop:
  otlp_http:
    metrics_endpoint: http://%s/opentelemetry/v1/metrics
  prometheus:
    endpoint: 127.0.0.1:%d
    resource_to_telemetry_conversion: {enabled: true}
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service:
  extensions: [health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: %d}}}}]}}
  pipelines:
    metrics: {receivers: [nettap], exporters: [otlp_http, prometheus]}
    logs: {receivers: [nettap], exporters: [nop, signal_to_metrics/accepts]}
    metrics/accepts: {exporters: [otlp_http, prometheus]}
    traces: {receivers: [nettap], exporters: [nop]}
`

// TestPanelsShowTraffic requires that every panel and every series that an alert looks at has data while there are
// traffic, drops, retransmits, accepts, refused attempts and waits, and that the page of the Collector's exporter for
// Prometheus has metrics of the same names. Then it requires that the counts of accepts and refused attempts, which a
// connector makes of log records, are exact.
func TestPanelsShowTraffic(t *testing.T) {
	b, page := observe(t, "")
	talk(t)
	server, closed := serve(t), occupy(t)
	visits := 0
	stop := repeat(t, func() {
		visits++
		ask(t, server)
		if connection, err := net.DialTCP("tcp4", nil, closed); err == nil {
			t.Errorf("something listens on %v", closed)
			connection.Close()
		}
	})
	missing := expressions(t)
	for _, alert := range alerts(t) {
		for _, selector := range selectors(t, alert.Expr) {
			missing["alert "+alert.Alert+": "+selector.String()] = selector.String()
		}
	}
	// This panel has data only if the kernel counts drops that nettap does not see, which should not happen.
	delete(missing, "nettap: drops: Counted by the kernel and not seen")
	names := map[string]bool{}
	for _, expression := range missing {
		for _, selector := range selectors(t, expression) {
			names[selector.Name] = true
		}
	}
	for deadline := time.Now().Add(time.Minute); len(missing) > 0 && time.Now().Before(deadline); time.Sleep(time.Second) {
		b.flush()
		maps.DeleteFunc(missing, func(_, expression string) bool { return len(b.query(expression, time.Now())) > 0 })
	}
	for _, panel := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s has no data: %s", panel, missing[panel])
	}
	exported := scrape(t, page)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !strings.HasPrefix(name, "otelcol_") && !strings.Contains(exported, "\n"+name+"{") {
			t.Errorf("the exporter for Prometheus has no %s", name)
		}
	}

	stop()
	for _, expression := range []string{
		fmt.Sprintf(`sum(nettap_connection_accepted_count_total{network_local_port="%d", nettap_policy_verdict="unexpected"})`, server.Port),
		fmt.Sprintf(`sum(nettap_accept_queue_duration_seconds_count{network_local_port="%d"})`, server.Port),
		fmt.Sprintf(`sum(nettap_connection_refused_count_total{network_local_port="%d", nettap_connection_refused_cause="closed_port"})`, closed.Port),
	} {
		await(t, fmt.Sprintf("%s is %d", expression, visits), func() bool {
			b.flush()
			return len(b.query(fmt.Sprintf("%s == %d", expression, visits), time.Now())) > 0
		})
	}
}

// observe starts the distribution with the configuration observing, over which another one is merged, and the backend to
// which it sends. It also returns the port of the page of its exporter for Prometheus.
func observe(t *testing.T, merged string) (b backend, page int) {
	t.Helper()
	own, health, page := freePort(t), freePort(t), freePort(t)
	b = startBackend(t, own)
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, observing, b.address, page, health, own), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, collector, "--config", counts, "--config", config, "--config", "yaml:"+merged)
	await(t, "the Collector is ready", func() bool { return answers(fmt.Sprintf("127.0.0.1:%d", health)) })
	return b, page
}

// selectors returns the selectors of series in an expression, as of now.
func selectors(t *testing.T, expression string) (found []*parser.VectorSelector) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			selector.OriginalOffset = 0
			found = append(found, selector)
		}
		return nil
	})
	return found
}

// scrape returns the page of an exporter for Prometheus.
func scrape(t *testing.T, port int) string {
	t.Helper()
	response, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port)) //nolint:noctx // the client has a timeout
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// repeat does something again and again until the test ends or stop is called, which returns when
// it is done for the last time.
func repeat(t *testing.T, action func()) (stop func()) {
	t.Helper()
	context, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-context.Done():
				return
			case <-ticker.C:
				action()
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// serve starts a server that works a moment on each answer, and returns its address.
func serve(t *testing.T) *net.TCPAddr {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
			go func() {
				defer connection.Close()
				if _, err := connection.Read(make([]byte, 16)); err == nil {
					time.Sleep(2 * time.Millisecond) // the time that the answer takes
					_, _ = connection.Write([]byte("answer"))
				}
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr)
}

// ask makes a connection to the server, asks, and waits for the answer.
func ask(t *testing.T, server *net.TCPAddr) {
	t.Helper()
	connection, err := net.DialTCP("tcp4", nil, server)
	if err != nil {
		t.Error(err)
		return
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if _, err := connection.Write([]byte("question")); err != nil {
		t.Error(err)
	}
	if _, err := connection.Read(make([]byte, 16)); err != nil {
		t.Error(err)
	}
}

// occupy returns an address on which nothing listens until the test ends.
func occupy(t *testing.T) *net.TCPAddr {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: address.(*syscall.SockaddrInet4).Port}
}

// talk sends messages until the test ends: on a connection, on a connection whose packets a firewall rule
// drops, and to a socket that is not read.
func talk(t *testing.T) {
	t.Helper()
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
	repeat(t, func() {
		_, _ = whole.Write([]byte("whole"))
		_, _ = lossy.Write([]byte("lossy"))
		_, _ = unread.Write(make([]byte, 1000))
	})
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
