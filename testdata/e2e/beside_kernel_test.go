// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// foreignProbes are programs of other applications at functions that nettap probes: those of OBI and Tetragon
// are attached in these ways.
var foreignProbes = []struct {
	kind      string // of hook
	functions []string
	fires     int
}{
	{"kprobe", []string{"security_socket_sendmsg"}, bounced},
	{"kprobe", []string{"tcp_connect"}, connected},
	{"kretprobe", []string{"inet_csk_accept"}, connected},
	{"kprobe.multi", []string{"security_socket_sendmsg", "security_sock_graft"}, bounced + connected},
	{"kretprobe.multi", []string{"sock_recvmsg"}, bounced},
	{"kprobe.session", []string{"security_socket_sendmsg", "__sys_sendto"}, 4 * bounced},
	{"fentry", []string{"security_socket_sendmsg"}, bounced},
	{"fentry", []string{"security_sock_graft"}, connected},
	{"fexit", []string{"sock_recvmsg"}, bounced},
}

// probe attaches a program of another application to functions.
func probe(t *testing.T, kind string, functions []string, pid int) stranger {
	t.Helper()
	spec := ebpf.ProgramSpec{Type: ebpf.Kprobe}
	multi := link.KprobeMultiOptions{Symbols: functions}
	var attach func(program *ebpf.Program) (io.Closer, error)
	switch kind {
	case "kprobe":
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.Kprobe(functions[0], p, nil) }
	case "kretprobe":
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.Kretprobe(functions[0], p, nil) }
	case "kprobe.multi":
		spec.AttachType = ebpf.AttachTraceKprobeMulti
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.KprobeMulti(p, multi) }
	case "kretprobe.multi":
		spec.AttachType = ebpf.AttachTraceKprobeMulti
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.KretprobeMulti(p, multi) }
	case "kprobe.session":
		spec.AttachType, multi.Session = ebpf.AttachTraceKprobeSession, true
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.KprobeMulti(p, multi) }
	case "fentry", "fexit":
		spec.Type, spec.AttachType, spec.AttachTo = ebpf.Tracing, ebpf.AttachTraceFEntry, functions[0]
		if kind == "fexit" {
			spec.AttachType = ebpf.AttachTraceFExit
		}
		attach = func(p *ebpf.Program) (io.Closer, error) { return link.AttachTracing(link.TracingOptions{Program: p}) }
	}
	s, program := loadStranger(t, spec, ofProcess(pid))
	return s.attach(t, func() (io.Closer, error) { return attach(program) })
}

// besideProbes is a receiver with everything that probes functions.
const besideProbes = `
	nettap:
	  max_cpu: 0
	  avoid_hooks: [%s]
	  traffic:
	    collection_interval: 200ms
	    initial_delay: 0s
	    metrics:
	      nettap.process.network.packet.count: {attributes: [network.io.direction, network.interface.name, network.transport]}
	  drops: {collection_interval: 200ms, initial_delay: 0s}
	  accepts: {collection_interval: 200ms, initial_delay: 0s, events: {nettap.connection.closed: {enabled: true}}}
	  calls:
	    collection_interval: 200ms
	    initial_delay: 0s
	    min_duration: 0s
	    max_per_second: 0
	    functions: ["sock_*msg", "__sys_s[eh]*", "__sys_recv*"]
	    filter: {pids: [%d]}
`

// TestKernelDistributionRunsBesideProbes has programs of other applications at functions that nettap probes, by
// each kind of probe that the kernel has.
func TestKernelDistributionRunsBesideProbes(t *testing.T) {
	missing := map[string]error{}
	withTracefs(t, func() {
		for _, p := range foreignProbes {
			missing[p.kind] = kernel.Probe(p.kind)
		}
	})
	for kind, err := range missing {
		if err != nil {
			t.Run(kind, func(t *testing.T) { t.Skip(err) })
		}
	}
	hooks := map[string]foreignHook{}
	for _, p := range foreignProbes {
		if missing[p.kind] != nil {
			continue
		}
		hooks[p.kind+" "+strings.Join(p.functions, ", ")] = foreignHook{p.fires, func(t *testing.T, pid int) stranger {
			return probe(t, p.kind, p.functions, pid)
		}}
	}
	if len(hooks) == 0 {
		return
	}
	for name, avoid := range map[string][]string{
		"with the best hooks": nil,
		"with kprobes":        {"tp_btf/sock_send_length", "kprobe.session", "kprobe.multi", "fentry", "fentry.multi"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBouncer(t)
			act := func() {
				b.do(datagrams)
				b.do(connections)
			}
			b.runBeside(hooks, act, func() (*Collector, func(times int)) {
				c := StartWith(t, Options{Traces: true, Receivers: fmt.Sprintf(besideProbes, strings.Join(avoid, ", "), b.Process.Pid)})
				return c, func(times int) {
					t.Helper()
					c.awaitBounces(b.Process.Pid, times)
				}
			})
		})
	}
}

// awaitBounces waits until exactly what a bouncer did so many times is reported, and requires that nothing was
// missed.
func (c *Collector) awaitBounces(pid, times int) {
	c.t.Helper()
	of := Attributes{"process.pid": pid}
	c.awaitPackets(Attributes{"process.pid": pid, "network.interface.name": "lo", "network.transport": "udp"}, times*bounced)
	want := map[string]int{
		"nettap.connection.accepted": times * connected, "nettap.connection.closed": times * 2 * connected,
		"sendto": times * bounced, "recvfrom": times * bounced,
	}
	var diff string
	c.t.Cleanup(func() {
		if diff != "" {
			c.t.Errorf("other connections and calls are reported (-want +got):\n%s", diff)
		}
	})
	c.Wait("the connections and calls are reported", func() bool {
		got := map[string]int{}
		for _, record := range c.Records(of) {
			got[record.Event]++
		}
		for _, span := range c.Spans(of) {
			if span.Attributes["nettap.wait.kind"] == nil { // a datagram waits until it is read
				got[span.Name()]++
			}
		}
		diff = cmp.Diff(want, got)
		return diff == ""
	})
	for _, kind := range []string{"otelcol_nettap_hook_missed_runs", "otelcol_nettap_events_lost"} {
		if n := c.OwnValue(kind); n != 0 {
			c.t.Errorf("%s is %v", kind, n)
		}
	}
}
