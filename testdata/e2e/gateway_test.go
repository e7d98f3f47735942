// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// outage is how long the gateway is away. The queues do not depend on it.
var outage = flag.Duration("outage", 0, "how long the gateway is away")

// agents is how many agents send to the gateway. They run on one machine, so each of them sees
// everything, and each has a host.id of its own. The test is about how the data are sent.
const agents = 3

// agentOverlay is the configuration of an agent, merged over deploy/service.yaml. The agent retries
// soon, and keeps only the calls of bash.
const agentOverlay = `
receivers:
  nettap:
    traffic: {collection_interval: 500ms}
    accepts: {collection_interval: 100ms}
    calls: {min_duration: 0s, max_per_second: 0, filter: {commands: [bash]}}
processors: {resource: {attributes: [{action: upsert, key: host.id, value: agent%d}]}}
exporters: {otlp_grpc: {retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}}}
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service:
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: %d}}}}]}}
  pipelines:
    metrics: {processors: [memory_limiter, resource_detection, resource]}
    logs: {processors: [memory_limiter, resource_detection, resource]}
    traces: {processors: [memory_limiter, resource_detection, resource]}
`

// gatewayOverlay is the configuration of the gateway, merged over deploy/gateway.yaml. It takes no larger
// messages than a server does by default.
const gatewayOverlay = `
receivers: {otlp: {protocols: {grpc: {max_recv_msg_size_mib: 4}}}}
exporters:
  otlp_http/metrics: {retry_on_failure: &soon {initial_interval: 100ms, max_interval: 300ms}}
  otlp_grpc/traces: {retry_on_failure: *soon}
  file/logs: {flush_interval: 50ms}
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service: {telemetry: {metrics: {level: none}}}
`

// fleet has the agents, a gateway, VictoriaMetrics and Jaeger. The gateway writes the log records to a
// file.
type fleet struct {
	t       *testing.T
	agents  []*member
	gateway *member
	metrics victoriaMetrics
	traces  jaegerBackend
}

// member is a program of the fleet.
type member struct {
	*Collector
	command []string
	ready   func() bool // nil for a Collector
}

// add starts a program, which is a Collector if ready is nil. In the command DIRECTORY is a directory
// of the program, which stays when it is started again.
func (f *fleet) add(ready func() bool, words ...string) *member {
	f.t.Helper()
	m := &member{Collector: &Collector{t: f.t, directory: f.t.TempDir()}, ready: ready}
	m.command = []string{"env", "STATE_DIRECTORY=" + m.directory}
	for _, word := range words {
		m.command = append(m.command, strings.ReplaceAll(word, "DIRECTORY", m.directory))
	}
	m.start()
	return m
}

// start starts the program, for the first time or again.
func (m *member) start() {
	m.t.Helper()
	m.launch(m.command...)
	if m.ready == nil {
		m.awaitReady()
		return
	}
	m.Wait("it answers", m.ready)
}

func startFleet(t *testing.T, count int, overlay string) *fleet {
	t.Helper()
	f := &fleet{t: t}
	gatewayPort, tracesPort := freePort(t), freePort(t)
	f.metrics = f.addVictoriaMetrics()
	f.traces = f.addJaeger(tracesPort)
	f.gateway = f.add(nil, fmt.Sprintf("OTLP_ADDRESS=127.0.0.1:%d", gatewayPort), fmt.Sprintf("TRACES_ENDPOINT=127.0.0.1:%d", tracesPort),
		"LOGS_FILE=DIRECTORY/logs.json", fmt.Sprintf("METRICS_ENDPOINT=http://%s/opentelemetry/v1/metrics", f.metrics.address),
		binary, "--config", "../../deploy/gateway.yaml", "--config", "yaml:"+fmt.Sprintf(gatewayOverlay, freePort(t)))
	for i := range count {
		own := freePort(t)
		agent := f.add(nil, fmt.Sprintf("OTLP_ENDPOINT=127.0.0.1:%d", gatewayPort), "OTLP_INSECURE=true", binary,
			"--config", "../../deploy/service.yaml", "--config", "yaml:"+fmt.Sprintf(agentOverlay, i, freePort(t), own), "--config", "yaml:"+overlay)
		agent.ownPort = own
		f.agents = append(f.agents, agent)
	}
	return f
}

// accepted returns how many connections to the port each agent has reported to the gateway.
// A record that arrives again, because its first arrival was not acknowledged, is counted once.
func (f *fleet) accepted(port int) (counts [agents]int) {
	known := map[string]bool{}
	for _, record := range f.gateway.Records(Attributes{"network.local.port": int64(port)}) {
		host := fmt.Sprint(record.Attributes["host.id"])
		if key := fmt.Sprint(host, record.Attributes["network.peer.port"]); !known[key] {
			known[key] = true
			count(&counts, host)
		}
	}
	return counts
}

// connected returns of how many of the processes each agent has reported calls to the backend.
func (f *fleet) connected(pids []int) (counts [agents]int) {
	hosts := f.traces.connects()
	for _, pid := range pids {
		for host := range hosts[int64(pid)] {
			count(&counts, host)
		}
	}
	return counts
}

func count(counts *[agents]int, host string) {
	for i := range counts {
		if host == fmt.Sprintf("agent%d", i) {
			counts[i]++
		}
	}
}

// TestGatewayLosesNothing requires that no accept and no call is lost while the gateway is killed,
// an agent restarted and the backends stopped: data that cannot be sent wait in the queues of
// deploy/service.yaml and deploy/gateway.yaml. The series of metrics go on, and those of the agent that
// was restarted begin again at 0, once.
func TestGatewayLosesNothing(t *testing.T) {
	f := startFleet(t, agents, "{}")
	address, heard := hear(t)
	datagrams := startSender(t)
	var pids []int
	talk := func() (want [agents]int) {
		for range 4 {
			pids = append(pids, talker(t, address))
			select { // the connection was accepted, so an agent that stops now has seen it
			case <-heard:
			case <-time.After(patience):
				t.Fatal("a connection was not accepted")
			}
		}
		datagrams.send(5)
		for i := range want {
			want[i] = len(pids)
		}
		return want
	}
	want := talk()
	accepted := func() [agents]int { return f.accepted(address.Port) }
	connected := func() [agents]int { return f.connected(pids) }
	await(t, "accepts", accepted, want)
	await(t, "calls", connected, want)

	f.gateway.Kill()
	time.Sleep(*outage) // the test is about this time, if it is given
	talk()
	datagrams.send(20) // more than after the restart, or the values would not show that there was one
	f.agents[0].Stop()
	before := datagrams.sent
	datagrams.send(7) // which agent 0 does not see
	between := datagrams.sent
	f.agents[0].start()
	talk()
	f.traces.Stop()
	f.metrics.Stop()
	f.gateway.start()
	want = talk()
	await(t, "accepts", accepted, want)
	f.metrics.start()
	f.traces.start()
	await(t, "calls", connected, want)

	after := datagrams.sent - between
	series := fmt.Sprintf(`nettap_process_network_packet_count_total{process_pid="%d", network_io_direction="transmit"}[1h]`, datagrams.pid)
	for what, expected := range map[string][agents]int{
		"last_over_time": {after, datagrams.sent, datagrams.sent},
		"increase_pure":  {before + after, datagrams.sent, datagrams.sent},
		"resets":         {1, 0, 0},
	} {
		await(t, what+" of the packets", func() [agents]int { return f.metrics.query(fmt.Sprintf("%s(%s)", what, series)) }, expected)
	}
}

// floods is how many floods of accepts an agent sees while the gateway is away. The last ones find no
// room: its queue has 16 MiB, which is more than the records of a full ring take at once.
const floods = 3

// TestGatewayAndQueueBalance requires that each accept is either in the file of the gateway or counted as
// lost, if the agent sees more while the gateway is away than its queue and the kernel's ring hold.
func TestGatewayAndQueueBalance(t *testing.T) {
	balanceQueue(t, "exporters: {otlp_grpc: {sending_queue: {queue_size: 16777216}}}", "sending queue is full", func() {})
}

// TestGatewayAndFullDiskBalance requires the same if the disk of the queue is full, and then has room again.
func TestGatewayAndFullDiskBalance(t *testing.T) {
	disk := t.TempDir()
	mount := func(options string) {
		if output, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "nettap-queue", disk).CombinedOutput(); err != nil {
			t.Fatalf("mount: %v: %s", err, output)
		}
	}
	mount("size=12m")
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	balanceQueue(t, "extensions: {file_storage: {directory: "+disk+"}}", "no space left on device", func() { mount("remount,size=200m") })
}

// balanceQueue makes more accepts than the queue, which the overlay makes small, and the kernel's ring hold, and looks for all of
// them after the queue has been relieved.
func balanceQueue(t *testing.T, overlay, says string, relieve func()) {
	f := startFleet(t, 1, "receivers: {nettap: {traffic: {enabled: false}, drops: {enabled: false}}}\n"+overlay)
	agent := f.agents[0]
	f.gateway.Kill()
	for range floods {
		flood(t, tooMany)
	}
	own := func(name string) float64 { return agent.OwnValue(name, "instrument", "accepts") }
	agent.Wait("accepts are lost", func() bool { return own("otelcol_nettap_events_lost") > 0 })
	if log := agent.Log(); !strings.Contains(log, says) || strings.Contains(log, "\n\t") {
		t.Errorf("the log does not say %q, or has stack traces:\n%s", says, tail(log, 50))
	}
	f.gateway.start()
	relieve()
	agent.Wait("all that was seen is exported or counted as lost", func() bool {
		seen := own("otelcol_nettap_events_seen")
		return seen >= floods*tooMany && seen == own("otelcol_nettap_events_exported")+own("otelcol_nettap_events_lost")
	})
	f.gateway.Wait("all that was exported is in the file", func() bool {
		known := map[string]bool{}
		for _, record := range f.gateway.AllRecords(nil) {
			known[fmt.Sprint(record.Event, record.Time, record.Observed, record.Body)] = true
		}
		return len(known) == int(own("otelcol_nettap_events_exported"))
	})
}

// sender sends datagrams from a process of its own.
type sender struct {
	t        *testing.T
	pid      int
	input    io.Writer
	received *net.UDPConn
	sent     int
}

func startSender(t *testing.T) *sender {
	t.Helper()
	received, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { received.Close() })
	port := received.LocalAddr().(*net.UDPAddr).Port
	program := kerneltest.StartProgram(t, exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/udp/127.0.0.1/%d; while read; do echo >&3; done", port)))
	return &sender{t: t, pid: program.Process.Pid, input: program.Input, received: received}
}

// send sends so many datagrams, and returns when they have arrived.
func (s *sender) send(datagrams int) {
	s.t.Helper()
	if err := s.received.SetDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	for range datagrams {
		if _, err := io.WriteString(s.input, "\n"); err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.received.Read(make([]byte, 1)); err != nil {
			s.t.Fatal(err)
		}
		s.sent++
	}
}

// hear accepts connections until the test ends, and sends to the channel when it has received
// something on one.
func hear(t *testing.T) (*net.TCPAddr, <-chan struct{}) {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 64)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			defer connection.Close()
			if _, err := connection.Read(make([]byte, 16)); err == nil {
				heard <- struct{}{}
			}
		}
	}()
	return listener.Addr().(*net.TCPAddr), heard
}

// await waits until count returns what is wanted of each agent.
func await(t *testing.T, what string, count func() [agents]int, want [agents]int) {
	t.Helper()
	var got [agents]int
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		if got = count(); got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("of each agent there are %v %s, want %v", got, what, want)
		}
	}
}
