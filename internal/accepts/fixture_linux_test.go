// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// withEachHook runs a test for each rung of the ladder that this kernel has.
func withEachHook(t *testing.T, test func(t *testing.T, observe func(*testing.T, ...func(*Accepts)) *fixture)) {
	kerneltest.Require(t)
	var better []string // the hooks that are better than that of the subtest
	for _, hook := range ladder {
		kind := path.Base(hook.Name)
		if kind != "sys_exit" {
			kind = path.Dir(hook.Name)
		}
		avoid := slices.Clone(better)
		better = append(better, kind)
		t.Run(kind, func(t *testing.T) {
			if err := kernel.Probe(hook.Name); err != nil {
				t.Skip(err)
			}
			test(t, func(t *testing.T, options ...func(*Accepts)) *fixture {
				t.Helper()
				o := observe(t, append(options, func(a *Accepts) { a.options.AvoidHooks = avoid })...)
				if hooks := o.recorder.Read().Hooks; !slices.ContainsFunc(hooks, func(used kernel.Hook) bool { return used.Name == hook.Name }) {
					t.Fatalf("the hooks in use are %v, want %s", hooks, hook.Name)
				}
				o.requireOnly(t, hook)
				return o
			})
		})
	}
}

// requireOnly requires that no other rung of the ladder is loaded: a tracepoint at the end of
// every system call would slow the whole machine for no benefit.
func (o *fixture) requireOnly(t *testing.T, hook kernel.Hook) {
	t.Helper()
	for _, other := range ladder {
		for _, program := range other.Programs {
			if _, loaded := o.accepts.object.Programs[program]; loaded && other.Name != hook.Name {
				t.Fatalf("%s is in use, and %s is loaded too", hook.Name, program)
			}
		}
	}
}

// fixture is a running instrument and its output.
type fixture struct {
	accepts  *Accepts
	recorder *stats.Recorder
	records  []sighting
	others   []other
}

// other is a log record of another event.
type other struct {
	plog.LogRecord
	pid int64 // of its resource; 0 if it has none
}

func observe(t *testing.T, options ...func(*Accepts)) *fixture {
	t.Helper()
	o := &fixture{recorder: &stats.Recorder{}}
	builder := metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings())
	c := clock.New()
	o.accepts = New(builder, nil, process.NewDirectory("", c), c, o.recorder, Options{})
	for _, option := range options {
		option(o.accepts)
	}
	kerneltest.Start(t, o.accepts)
	return o
}

// sighting has what a test compares of a log record.
type sighting struct {
	Comm                   string
	PID, TID, UID, RealUID int64
	Local, Peer            netip.AddrPort
	Type, Transport, Body  string

	accepted                time.Time
	netns                   int64
	queued                  float64
	queueLength, queueLimit int64
	verdict, id             string
}

// collect reads everything until now.
func (o *fixture) collect(t *testing.T) {
	t.Helper()
	logs, err := o.accepts.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for record, resource := range records(logs) {
		if record.EventName() != "nettap.connection.accepted" {
			pid, _ := resource.Attributes().AsRaw()["process.pid"].(int64)
			o.others = append(o.others, other{record, pid})
			continue
		}
		o.records = append(o.records, newSighting(t, record, resource))
	}
}

// on returns what was seen on a local port since the start, by the peer's port.
func (o *fixture) on(t *testing.T, port uint16) []sighting {
	t.Helper()
	o.collect(t)
	var found []sighting
	for _, s := range o.records {
		if s.Local.Port() == port {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b sighting) int { return a.Peer.Compare(b.Peer) })
	return found
}

// expect compares the accepts that were seen on ports with the connections that were made to them.
func (o *fixture) expect(t *testing.T, connections []connection, ports ...uint16) {
	t.Helper()
	var want, got []sighting
	for _, c := range connections {
		want = append(want, c.sighting())
	}
	for _, port := range ports {
		got = append(got, o.on(t, port)...)
	}
	order := func(a, b sighting) int { // a client's port may be used twice
		return cmp.Or(a.Local.Compare(b.Local), a.Peer.Compare(b.Peer), cmp.Compare(a.PID, b.PID), cmp.Compare(a.TID, b.TID))
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	unsaid := gocmp.FilterPath(func(path gocmp.Path) bool {
		field, ok := path.Last().(gocmp.StructField)
		return ok && field.Name()[0] >= 'a'
	}, gocmp.Ignore())
	addresses := gocmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := gocmp.Diff(want, got, unsaid, addresses, gocmp.AllowUnexported(sighting{})); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}

// sighting is what the record of the connection should contain.
func (c connection) sighting() sighting {
	s := sighting{
		Comm: c.by.Comm, PID: int64(c.by.PID), TID: int64(c.by.TID), UID: int64(c.by.UID), RealUID: int64(c.by.RealUID),
		Local: c.server, Peer: c.client, Type: "ipv6", Transport: "tcp",
		Body: fmt.Sprintf("%s[%d] uid %d accepted %v on %v", c.by.Comm, c.by.PID, c.by.RealUID, c.client, c.server),
	}
	if c.server.Addr().Is4() {
		s.Type = "ipv4"
	}
	return s
}

func newSighting(t *testing.T, record plog.LogRecord, resource pcommon.Resource) sighting {
	t.Helper()
	verdict, _ := record.Attributes().Get("nettap.policy.verdict")
	severity := plog.SeverityNumberInfo
	if verdict.Str() == unexpected {
		severity = plog.SeverityNumberWarn
	}
	if record.SeverityNumber() != severity {
		t.Errorf("event %q has severity %v", record.EventName(), record.SeverityNumber())
	}
	if late := record.ObservedTimestamp().AsTime().Sub(record.Timestamp().AsTime()); late < 0 {
		t.Errorf("observed %v before it happened", -late)
	}
	number := func(attributes pcommon.Map, name string) int64 {
		value, ok := attributes.Get(name)
		if !ok {
			return -1
		}
		return value.Int()
	}
	text := func(attributes pcommon.Map, name string) string {
		value, ok := attributes.Get(name)
		if !ok {
			t.Errorf("attribute %s is missing", name)
		}
		return value.Str()
	}
	address := func(side string) netip.AddrPort {
		ip, err := netip.ParseAddr(text(record.Attributes(), "network."+side+".address"))
		if err != nil {
			t.Error(err)
		}
		return netip.AddrPortFrom(ip, uint16(number(record.Attributes(), "network."+side+".port")))
	}
	s := sighting{
		Comm: text(resource.Attributes(), "nettap.process.comm"),
		PID:  number(resource.Attributes(), "process.pid"), TID: number(record.Attributes(), "nettap.thread.id"),
		UID: number(resource.Attributes(), "process.user.id"), RealUID: number(resource.Attributes(), "process.real_user.id"),
		Local: address("local"), Peer: address("peer"),
		Type: text(record.Attributes(), "network.type"), Transport: text(record.Attributes(), "network.transport"),
		Body: record.Body().Str(),

		accepted:    record.Timestamp().AsTime(),
		netns:       number(record.Attributes(), "nettap.netns.inode"),
		queued:      -1,
		verdict:     verdict.Str(),
		queueLength: number(record.Attributes(), "nettap.accept.queue.length"),
		queueLimit:  number(record.Attributes(), "nettap.accept.queue.limit"),
	}
	if value, ok := record.Attributes().Get("nettap.connection.id"); ok {
		s.id = value.Str()
	}
	if value, ok := record.Attributes().Get("nettap.accept.queue.duration"); ok {
		s.queued = value.Double()
	}
	return s
}
