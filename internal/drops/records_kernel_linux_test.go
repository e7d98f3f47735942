// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// TestKernelReportsADroppedPacketOnce requires that five datagrams of one flow for a closed port make one record with all attributes, and so do
// three segments. Those of another flow make another record.
func TestKernelReportsADroppedPacketOnce(t *testing.T) {
	kerneltest.NeedDroppers(t)
	records, _ := startRecords(t, RecordOptions{Interval: time.Hour, MaxPerSecond: 1000})
	lab := dropstest.NewLab(t)
	port := dropstest.KnockFromOnePort(t, lab, 5)
	dropstest.KnockWithSegments(t, lab, 1111, 3)
	dropstest.KnockWithSegments(t, lab, 1112, 1)

	var got []map[string]any
	settled(func() string {
		got = append(got, recordsOn(t, records, lab.Receiver.Device)...)
		if len(got) < 3 {
			return "too few records"
		}
		return ""
	})
	var stacks [][]string
	for _, one := range got {
		stacks = append(stacks, strings.Split(one["code.stacktrace"].(string), "\n"))
		for _, key := range []string{"code.stacktrace", "nettap.drop.explanation", "nettap.netns.inode"} {
			if one[key] == nil {
				t.Errorf("%s is missing in %v", key, one)
			}
			delete(one, key)
		}
		one["code.function.name"] = dropstest.KnownFunction(one["code.function.name"].(string))
	}
	want := []map[string]any{
		flowRecord(records, lab, map[string]any{
			"code.function.name": "__udp4_lib_rcv", "network.transport": "udp", "source.port": int64(port),
			"nettap.packet.size": int64(58), // 50 and the header of UDP; that of IP is off by now
		}),
		flowRecord(records, lab, map[string]any{
			"code.function.name": "tcp_v4_rcv", "network.transport": "tcp", "source.port": int64(1111), "nettap.tcp.flags": "syn", "nettap.packet.size": int64(20),
		}),
		flowRecord(records, lab, map[string]any{
			"code.function.name": "tcp_v4_rcv", "network.transport": "tcp", "source.port": int64(1112), "nettap.tcp.flags": "syn", "nettap.packet.size": int64(20),
		}),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	for _, stack := range stacks {
		if len(stack) < 3 || !slices.ContainsFunc(stack, func(f string) bool { return strings.HasPrefix(f, "ip_") }) {
			t.Errorf("the stack is %q, and should lead through IP", stack)
		}
	}
}

// flowRecord returns the record of a packet for a closed port of a lab.
func flowRecord(records *Records, lab *dropstest.Lab, own map[string]any) map[string]any {
	record := map[string]any{
		"nettap.drop.reason": "no_socket", "nettap.drop.class": "loss", "network.type": "ipv4", "network.interface.name": lab.Receiver.Device,
		"source.address": lab.Sender.IPv4.String(), "destination.address": lab.Receiver.IPv4.String(), "destination.port": int64(dropstest.ClosedPort),
	}
	if len(records.words.reasons) == 0 {
		record["nettap.drop.reason"], record["nettap.drop.class"] = "not_available", "unknown"
	}
	maps.Copy(record, own)
	return record
}

// TestKernelReportsNoMoreThanAllowedInAStorm requires that there are no more records than allowed, however much is dropped, and that everything is
// counted.
func TestKernelReportsNoMoreThanAllowedInAStorm(t *testing.T) {
	const flows, allowed = 20_000, 10
	records, recorder := startRecords(t, RecordOptions{Interval: time.Hour, MaxPerSecond: allowed})
	lab := dropstest.NewLab(t)
	reported := 0
	collect := func() stats.Counts {
		logs, err := records.Collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reported += logs.LogRecordCount()
		return recorder.Read().Counts
	}
	collect() // what was dropped while the namespaces were made
	before, began := reported, time.Now()
	dropstest.Storm(t, lab, flows)
	if diff := settled(func() string {
		if got := collect(); got.Seen < flows {
			return fmt.Sprintf("%d drops are seen, want %d", got.Seen, flows)
		}
		return ""
	}); diff != "" {
		t.Error(diff)
	}
	if most := allowed * (int(time.Since(began)/time.Second) + 2); reported-before > most || reported < allowed {
		t.Errorf("%d records, want %d at least and at most %d", reported-before, allowed, most)
	}
	if diff := settled(func() string { // others on this machine may lose something between two looks
		got := collect()
		lost := got.Lost["ring_full"] + got.Lost["recursion"] + got.Lost["unreadable"]
		return cmp.Diff(got.Seen, uint64(reported)+got.SampledOut+lost)
	}); diff != "" {
		t.Errorf("what is seen, and what became of it, differ (-want +got):\n%s", diff)
	}
}

func startRecords(t *testing.T, options RecordOptions) (*Records, *stats.Recorder) {
	t.Helper()
	c, recorder := clock.New(), new(stats.Recorder)
	records := NewRecords(metadata.DefaultResourceAttributesConfig(), nil, process.NewDirectory("", c), c, recorder, options)
	kerneltest.Start(t, records)
	return records, recorder
}

// TestKernelReportsTheTraceOfADroppedSegment has a request with a trace, whose segments are dropped because the queue of the sender's interface is full.
func TestKernelReportsTheTraceOfADroppedSegment(t *testing.T) {
	kerneltest.Require(t)
	contexts := startContexts(t)
	c := clock.New()
	records := NewRecords(metadata.DefaultResourceAttributesConfig(), contexts, process.NewDirectory("", c), c, new(stats.Recorder),
		RecordOptions{Interval: time.Millisecond, MaxPerSecond: 1000})
	kerneltest.Start(t, records)
	near, far := kerneltest.Namespaces(t)
	client := connectBetween(t, near, far)
	kerneltest.InNamespace(t, near.Name, func() {
		queue := &netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: near.Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       1000, Limit: 1, Buffer: 64000,
		}
		if err := netlink.QdiscAdd(queue); err != nil {
			t.Fatalf("add a queue: %v", err)
		}
	})
	const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	request := "GET / HTTP/1.1\r\nHost: far\r\ntraceparent: 00-" + traceID + "-" + spanID + "-01\r\n\r\n"
	if _, err := client.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}

	want := traced{Trace: traceID, Span: spanID, Transport: "tcp", Port: int64(client.LocalAddr().(*net.TCPAddr).Port)}
	var got []traced
	if diff := settled(func() string { // the first one is dropped before the call to send is over
		got = append(got, tracedTo(t, records, far.IPv4.String())...)
		if !slices.Contains(got, want) {
			return fmt.Sprintf("records are %+v, want %+v among them", got, want)
		}
		return ""
	}); diff != "" {
		t.Error(diff)
	}
	untraced := want
	untraced.Trace, untraced.Span = "", ""
	if slices.ContainsFunc(got, func(one traced) bool { return one != want && one != untraced }) {
		t.Errorf("records are %+v, want none of another trace", got)
	}
}

// traced has what a test of traces compares of a record.
type traced struct {
	Trace, Span, Transport string
	Port                   int64 // of the sender
}

// tracedTo collects and returns the records of packets to an address.
func tracedTo(t *testing.T, records *Records, address string) (found []traced) {
	t.Helper()
	logs, err := records.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				a := record.Attributes().AsRaw()
				if a["destination.address"] != address || a["source.port"] == nil {
					continue
				}
				found = append(found, traced{record.TraceID().String(), record.SpanID().String(), a["network.transport"].(string), a["source.port"].(int64)})
			}
		}
	}
	return found
}

// startContexts starts trace contexts of messages. It skips the test if the kernel has no hooks for them.
func startContexts(t *testing.T) *tracecontext.Contexts {
	t.Helper()
	contexts := tracecontext.NewContexts(tracecontext.Options{
		Sources: []tracecontext.Source{tracecontext.HTTP, tracecontext.Socket}, HeadBytes: 2048, SocketTTL: time.Minute,
		Warn: func(message string) { t.Log(message) },
	})
	kerneltest.Run(t, contexts)
	t.Cleanup(func() {
		if err := contexts.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	hooks, _ := contexts.Hooks()
	for _, hook := range hooks {
		if hook.Job == "message" && len(hook.Programs) == 0 {
			t.Skip("not seen here: ", hook.NotSeen, ": ", hook.Refused)
		}
	}
	return contexts
}

// connectBetween connects a client in one namespace to a server in another one.
func connectBetween(t *testing.T, near, far kerneltest.Namespace) (client net.Conn) {
	t.Helper()
	var listener *net.TCPListener
	kerneltest.InNamespace(t, far.Name, func() { listener = kerneltest.Listen(t, net.JoinHostPort(far.IPv4.String(), "0")) })
	kerneltest.InNamespace(t, near.Name, func() { client = kerneltest.Dial(t, listener.Addr()) })
	t.Cleanup(func() { client.Close() })
	return client
}

// recordsOn collects and returns the attributes of each record of a device.
func recordsOn(t *testing.T, records *Records, device string) []map[string]any {
	t.Helper()
	logs, err := records.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if attributes := record.Attributes().AsRaw(); attributes["network.interface.name"] == device && attributes["source.port"] != nil {
					all = append(all, attributes)
				}
			}
		}
	}
	return all
}
