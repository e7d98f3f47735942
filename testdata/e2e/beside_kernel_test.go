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

// besideProbes is a receiver with everything that probes functions. It reads once a second, because a guest
// does hardly anything else if it reads as often as other tests let it.
const besideProbes = `
	nettap:
	  max_cpu: 0
	  avoid_hooks: [%s]
	  traffic:
	    collection_interval: 1s
	    initial_delay: 0s
	    metrics:
	      nettap.process.network.packet.count: {attributes: [network.io.direction, network.interface.name, network.transport]}
	  drops: {enabled: false}
	  accepts: {collection_interval: 1s, initial_delay: 0s, events: {nettap.connection.closed: {enabled: true}}}
	  calls:
	    collection_interval: 1s
	    initial_delay: 0s
	    min_duration: 0s
	    max_per_second: 0
	    functions: ["sock_*msg", "__sys_s[eh]*", "__sys_recv*"]
	    filter: {pids: [%d]}
`

// TestKernelDistributionRunsBesideProbes has programs of other applications at functions that nettap probes, by
// each kind of probe that the kernel has. In a guest most of the time is that of one start of the Collector.
func TestKernelDistributionRunsBesideProbes(t *testing.T) { runBesideProbes(t) }

// TestKernelDistributionByKprobesRunsBesideProbes is the same without the hooks that are better than kprobes.
func TestKernelDistributionByKprobesRunsBesideProbes(t *testing.T) {
	runBesideProbes(t, "tp_btf/sock_send_length", "kprobe.session", "kprobe.multi", "fentry", "fentry.multi")
}

func runBesideProbes(t *testing.T, avoid ...string) {
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
		hooks[p.kind+" "+strings.Join(p.functions, ", ")] = foreignHook{
			fires: p.fires, pairs: p.kind == "kprobe.session",
			attach: func(t *testing.T, pid int) stranger { return probe(t, p.kind, p.functions, pid) },
		}
	}
	if len(hooks) == 0 {
		return
	}
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
}

// awaitBounces waits until what a bouncer did so many times is reported, or counted as missed: the kernel may
// leave out runs of programs at probes, as stranger.count says.
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
		missed := int(c.OwnValue("otelcol_nettap_hook_missed_runs"))
		for kind, n := range want {
			if lost := n - got[kind]; lost > 0 && lost <= missed {
				got[kind] += lost
				missed -= lost
			}
		}
		diff = cmp.Diff(want, got)
		return diff == ""
	})
	if n := c.OwnValue("otelcol_nettap_events_lost"); n != 0 {
		c.t.Errorf("otelcol_nettap_events_lost is %v", n)
	}
}
