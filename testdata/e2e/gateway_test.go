// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// agents is how many agents send to the gateway. They run on one machine, so each of them sees
// everything, and each has a host.id of its own. The test is about how the data are sent.
const agents = 3

// agentOverlay is the configuration of an agent, merged over deploy/service.yaml. The agent retries
// soon, and keeps only the calls of bash.
const agentOverlay = `
receivers: {nettap: {calls: {min_duration: 0s, max_per_second: 0, filter: {commands: [bash]}}}}
processors: {resource: {attributes: [{action: upsert, key: host.id, value: agent%d}]}}
exporters: {otlp_grpc: {retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}}}
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {processors: [memory_limiter, resource_detection, resource]}
    traces: {processors: [memory_limiter, resource_detection, resource]}
`

// gatewayOverlay is the configuration of the gateway, merged over deploy/gateway.yaml.
const gatewayOverlay = `
exporters:
  otlp_grpc/traces: {retry_on_failure: {initial_interval: 100ms, max_interval: 300ms}}
  file/logs: {flush_interval: 50ms}
extensions: {health_check: {endpoint: "127.0.0.1:%d"}}
service: {telemetry: {metrics: {level: none}}}
`

// backendConfig is the configuration of a Collector that stands for a backend of traces.
const backendConfig = `
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:%d"}}}}
exporters: {file: {path: %q, append: true, flush_interval: 50ms}}
service:
  telemetry: {metrics: {level: none}}
  pipelines: {traces: {receivers: [otlp], exporters: [file]}}
`

// fleet has the agents, a gateway and a backend of traces.
type fleet struct {
	agents           []*Collector
	gateway, backend *Collector
	commands         map[*Collector][]string
}

func startFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{commands: map[*Collector][]string{}}
	member := func(words ...string) *Collector {
		c := &Collector{t: t, directory: t.TempDir()}
		for i, word := range words {
			words[i] = strings.ReplaceAll(word, "DIRECTORY", c.directory)
		}
		f.commands[c] = append([]string{"env", "STATE_DIRECTORY=" + c.directory}, words...)
		f.start(c)
		return c
	}
	gatewayPort, backendPort := freePort(t), freePort(t)
	f.backend = member(binary, "--config", "yaml:"+fmt.Sprintf(backendConfig, backendPort, "DIRECTORY/traces.json"))
	f.gateway = member(fmt.Sprintf("OTLP_ADDRESS=127.0.0.1:%d", gatewayPort), fmt.Sprintf("TRACES_ENDPOINT=127.0.0.1:%d", backendPort),
		"LOGS_FILE=DIRECTORY/logs.json", fmt.Sprintf("METRICS_ENDPOINT=http://127.0.0.1:%d", freePort(t)),
		binary, "--config", "../../deploy/gateway.yaml", "--config", "yaml:"+fmt.Sprintf(gatewayOverlay, freePort(t)))
	for i := range agents {
		f.agents = append(f.agents, member(fmt.Sprintf("OTLP_ENDPOINT=127.0.0.1:%d", gatewayPort), "OTLP_INSECURE=true",
			binary, "--config", "../../deploy/service.yaml", "--config", "yaml:"+fmt.Sprintf(agentOverlay, i, freePort(t))))
	}
	return f
}

// start starts a member of the fleet, for the first time or again.
func (f *fleet) start(c *Collector) {
	c.t.Helper()
	c.launch(f.commands[c]...)
	c.awaitReady()
}

// accepted returns how many connections to the port each agent has reported to the gateway.
// A record that arrives again, because its first arrival was not acknowledged, is counted once.
func (f *fleet) accepted(port int) [agents]int {
	var counts [agents]int
	known := map[string]bool{}
	for _, record := range f.gateway.Records(Attributes{"network.local.port": int64(port)}) {
		if key := fmt.Sprint(record.Attributes["host.id"], record.Attributes["network.peer.port"]); !known[key] {
			known[key] = true
			f.count(&counts, record.Attributes)
		}
	}
	return counts
}

// connected returns of how many of the processes each agent has reported calls to the backend.
func (f *fleet) connected(pids []int) [agents]int {
	var counts [agents]int
	for _, pid := range pids {
		known := map[string]bool{}
		for _, span := range f.backend.KernelSpans(Attributes{"process.pid": int64(pid)}) {
			if host := fmt.Sprint(span.Attributes["host.id"]); span.Name() == "connect" && !known[host] {
				known[host] = true
				f.count(&counts, span.Attributes)
			}
		}
	}
	return counts
}

func (f *fleet) count(counts *[agents]int, attributes Attributes) {
	for i := range counts {
		if attributes["host.id"] == fmt.Sprintf("agent%d", i) {
			counts[i]++
		}
	}
}

// TestGatewayLosesNothing requires that no accept and no call is lost while the gateway is killed,
// an agent restarted and the backend stopped: data that cannot be sent wait in the queues of
// deploy/service.yaml and deploy/gateway.yaml.
func TestGatewayLosesNothing(t *testing.T) {
	t.Parallel()
	f := startFleet(t)
	address, heard := hear(t)
	var pids []int
	talk := func() (want [agents]int) {
		for range 4 {
			pids = append(pids, talker(t, address))
			<-heard // the connection was accepted, so an agent that stops now has seen it
		}
		for i := range want {
			want[i] = len(pids)
		}
		return want
	}
	want := talk()
	accepted := func() [agents]int { return f.accepted(address.Port) }
	connected := func() [agents]int { return f.connected(pids) }
	f.await(t, "accepts", accepted, want)
	f.await(t, "calls", connected, want)

	f.gateway.Kill()
	talk()
	f.agents[0].Stop()
	f.start(f.agents[0])
	talk()
	f.backend.Stop()
	f.start(f.gateway)
	want = talk()
	f.await(t, "accepts", accepted, want)
	if connected() == want {
		t.Error("the backend has calls that were made while it was stopped")
	}
	f.start(f.backend)
	f.await(t, "calls", connected, want)
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
func (f *fleet) await(t *testing.T, what string, count func() [agents]int, want [agents]int) {
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
