// SPDX-License-Identifier: Apache-2.0

package view

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// feed is a view of an invented machine, with a clock of its own.
type feed struct {
	*View
	now       time.Time
	processes []fed
	accounts  []accountPoint
	losses    []loss
}

// fed is what a process has moved over an interface so far.
type fed struct {
	pid, uid int64
	comm     string
	dev      string
	amounts
	more map[string]string
	gone bool
}

type accountPoint struct {
	name, account, direction string
	bytes, packets           int64
}

type loss struct {
	symbol, reason, class string
	packets               int64
	iface                 string // "" means lo
	by                    *fed   // the process that lost them, if it is known
}

// putLoss adds what a process has lost.
func putLoss(metrics pmetric.Metrics, p fed, l loss) {
	resource := metrics.ResourceMetrics().AppendEmpty()
	describe(resource.Resource(), p)
	point := sumOf(resource.ScopeMetrics().AppendEmpty(), "nettap.process.packet.dropped").AppendEmpty()
	point.SetIntValue(l.packets)
	for name, value := range map[string]string{
		"nettap.drop.reason": l.reason, "nettap.drop.class": l.class, "nettap.drop.victim": "socket",
		"network.io.direction": "receive", "network.interface.name": cmp.Or(l.iface, "lo"),
	} {
		point.Attributes().PutStr(name, value)
	}
}

var begun = time.Date(2026, 11, 22, 21, 7, 48, 0, time.UTC)

func newFeed() *feed {
	f := &feed{now: begun}
	f.View = New(Options{Instance: "i1", Host: "h1", Now: func() time.Time { return f.now }, CommandLines: true})
	f.Open("nettap")
	return f
}

// second advances the clock by a second in which the instruments are read.
func (f *feed) second() {
	f.now = f.now.Add(time.Second)
	f.read()
	f.Tick(0)
}

func (f *feed) read() {
	f.Traffic(f.traffic())
	f.Drops(f.drops())
}

func (f *feed) traffic() pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	for _, p := range f.processes {
		resource := metrics.ResourceMetrics().AppendEmpty()
		describe(resource.Resource(), p)
		scope := resource.ScopeMetrics().AppendEmpty()
		for name, from := range map[string]int{"process.network.io": txBytes, "nettap.process.network.packet.count": txPackets} {
			points := sumOf(scope, name)
			for i, direction := range []string{"transmit", "receive"} {
				point := points.AppendEmpty()
				point.SetStartTimestamp(pcommon.NewTimestampFromTime(begun))
				point.SetIntValue(int64(p.amounts[from+i]))
				point.SetFlags(point.Flags().WithNoRecordedValue(p.gone))
				point.Attributes().PutStr("network.io.direction", direction)
				point.Attributes().PutStr("network.interface.name", p.dev)
			}
		}
	}
	if len(f.accounts) > 0 {
		scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
		for _, b := range f.accounts {
			io, count := "nettap.interface.io", "nettap.interface.packet.count"
			if b.account == unobservedAccount {
				io, count = "nettap.interface.unobserved.io", "nettap.interface.unobserved.packet.count"
			}
			for name, value := range map[string]int64{io: b.bytes, count: b.packets} {
				point := sumOf(scope, name).AppendEmpty()
				point.SetIntValue(value)
				point.Attributes().PutStr("network.io.direction", b.direction)
				point.Attributes().PutStr("network.interface.name", b.name)
				point.Attributes().PutInt("nettap.netns.inode", 7)
				point.Attributes().PutBool("nettap.interface.stacked", false)
				if b.account != unobservedAccount {
					point.Attributes().PutStr("nettap.account", b.account)
				}
			}
		}
	}
	return metrics
}

func sumOf(scope pmetric.ScopeMetrics, name string) pmetric.NumberDataPointSlice {
	metric := scope.Metrics().AppendEmpty()
	metric.SetName(name)
	return metric.SetEmptySum().DataPoints()
}

func describe(resource pcommon.Resource, p fed) {
	a := resource.Attributes()
	a.PutInt("process.pid", p.pid)
	a.PutInt("process.real_user.id", p.uid)
	a.PutInt("process.user.id", p.uid)
	a.PutStr("nettap.process.comm", p.comm)
	a.PutStr("process.executable.name", p.comm)
	a.PutStr("process.creation.time", "2026-11-22T21:00:00.000Z")
	for key, value := range p.more {
		a.PutStr(key, value)
	}
}

func (f *feed) drops() pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	for _, l := range f.losses {
		point := sumOf(scope, "nettap.packet.dropped").AppendEmpty()
		point.SetIntValue(l.packets)
		if l.by != nil {
			putLoss(metrics, *l.by, l)
		}
		if l.symbol != "" {
			point.Attributes().PutStr("code.function.name", l.symbol)
		}
		point.Attributes().PutStr("nettap.drop.reason", l.reason)
		point.Attributes().PutStr("nettap.drop.class", l.class)
		point.Attributes().PutStr("network.interface.name", "lo")
	}
	return metrics
}

// accept is an accepted connection.
func (f *feed) accept(p fed, local, peer string) {
	logs := plog.NewLogs()
	f.connection(logs, p, local, peer)
	f.Accepts(logs)
}

func (f *feed) connection(logs plog.Logs, p fed, local, peer string) {
	resource := logs.ResourceLogs().AppendEmpty()
	describe(resource.Resource(), p)
	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("nettap.connection.accepted")
	record.SetTimestamp(pcommon.NewTimestampFromTime(f.now))
	for name, end := range map[string]string{"network.local": local, "network.peer": peer} {
		address, err := net.ResolveTCPAddr("tcp", end)
		if err != nil {
			panic(err)
		}
		record.Attributes().PutStr(name+".address", address.IP.String())
		record.Attributes().PutInt(name+".port", int64(address.Port))
	}
}

// span is a span of a tree. Its parent is an index, -1 for the root, and its times are in
// microseconds.
type span struct {
	parent     int
	name       string
	start, end int
}

func (f *feed) call(p fed, kept, failure string, spans ...span) {
	f.callWith(nil, p, kept, failure, spans...)
}

// callWith feeds a call whose root has more attributes.
func (f *feed) callWith(more map[string]string, p fed, kept, failure string, spans ...span) {
	traces := ptrace.NewTraces()
	resource := traces.ResourceSpans().AppendEmpty()
	describe(resource.Resource(), p)
	all := resource.ScopeSpans().AppendEmpty().Spans()
	for i, s := range spans {
		one := all.AppendEmpty()
		one.SetName(s.name)
		if s.name != "off_cpu" {
			one.Attributes().PutStr("code.function.name", s.name)
		}
		one.SetTraceID([16]byte{1})
		one.SetSpanID([8]byte{byte(i + 1)})
		if s.parent >= 0 {
			one.SetParentSpanID([8]byte{byte(s.parent + 1)})
		} else {
			// the name for people; the function keeps its name
			one.SetName(strings.TrimPrefix(s.name, "__x64_sys_"))
			one.Attributes().PutStr(rootAttribute, kept)
			one.Attributes().PutInt("nettap.thread.id", p.pid)
			for key, value := range more {
				one.Attributes().PutStr(key, value)
			}
			if failure != "" {
				one.Attributes().PutStr("error.type", failure)
			}
		}
		one.SetStartTimestamp(pcommon.NewTimestampFromTime(f.now.Add(time.Duration(s.start) * time.Microsecond)))
		one.SetEndTimestamp(pcommon.NewTimestampFromTime(f.now.Add(time.Duration(s.end) * time.Microsecond)))
	}
	f.Calls(traces)
}

// get sends a request to the view's server while its clock runs.
func (f *feed) get(t *testing.T, url string, more ...string) (status int, body string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodGet, url, nil)
	request.Host = "127.0.0.1:8777"
	for i := 0; i+1 < len(more); i += 2 {
		if more[i] == "Host" {
			request.Host = more[i+1]
		} else if more[i] == "Method" {
			request.Method = more[i+1]
		} else {
			request.Header.Set(more[i], more[i+1])
		}
	}
	recorder := &recorder{ResponseRecorder: httptest.NewRecorder()}
	f.Handler(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, []string{"nettap.example"}).ServeHTTP(recorder, request)
	return recorder.Code, recorder.Body.String()
}

// recorder is a recorder that streams can be sent to.
type recorder struct{ *httptest.ResponseRecorder }

func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// during answers a request while the given events happen, one each second.
func (f *feed) during(t *testing.T, url string, seconds ...func()) string {
	t.Helper()
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer)
	go func() {
		status, body := f.get(t, url)
		answers <- answer{status, body}
	}()
	if !f.AwaitWatcher(t.Context()) {
		t.Fatal("nobody watches")
	}
	f.waitFor(t, func() bool { return f.waiting == 1 })
	f.second()
	for _, happens := range seconds {
		f.waitFor(t, func() bool { return f.waiting == 1 })
		happens()
		f.second()
	}
	a := <-answers
	if a.status != http.StatusOK {
		t.Fatal(fmt.Sprint(a.status, " ", a.body))
	}
	return a.body
}

func (f *feed) waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		ok := holds()
		f.mu.Unlock()
		if ok {
			return
		}
	}
	t.Fatal("it did not come about")
}
