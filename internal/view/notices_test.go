// SPDX-License-Identifier: Apache-2.0

package view

import (
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// notice feeds an event that the instrument accepts reports. Without a process it is on the host's
// resource.
func (f *feed) notice(p *fed, event, text, local, peer string) {
	logs := plog.NewLogs()
	resource := logs.ResourceLogs().AppendEmpty()
	if p != nil {
		describe(resource.Resource(), *p)
	}
	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(event)
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(f.now))
	record.Body().SetStr(text)
	for name, end := range map[string]string{"network.local": local, "network.peer": peer} {
		address, err := net.ResolveTCPAddr("tcp", end)
		if err != nil || end == "" {
			continue
		}
		record.Attributes().PutStr(name+".address", address.IP.String())
		record.Attributes().PutInt(name+".port", int64(address.Port))
	}
	f.Accepts(logs)
}

// feedNotices feeds an event of each kind.
func (f *feed) feedNotices() {
	sshd := fed{pid: 3165, comm: "sshd"}
	f.notice(&sshd, "nettap.listener.opened", "sshd[3165] uid 0 listens on 0.0.0.0:22", "0.0.0.0:22", "")
	f.notice(nil, "nettap.connection.refused", "192.0.2.99 was refused on 10.64.0.5:23, closed_port, 3 times", "10.64.0.5:23", "192.0.2.99:0")
	f.notice(&sshd, "nettap.connection.closed", "sshd[3165] uid 0: 10.64.0.5:22 with 10.64.0.227:51514 ended", "10.64.0.5:22", "10.64.0.227:51514")
	f.notice(&sshd, "nettap.listener.closed", "sshd[3165] uid 0 listens no more on 0.0.0.0:22", "0.0.0.0:22", "")
	f.notice(&sshd, "nettap.something.else", "sshd[3165] does something else", "", "")
}

func TestConnectionsTellWhatElseHappened(t *testing.T) {
	const at = "2026-11-22T21:07:48.000Z "
	opened := at + "listener_opened sshd[3165] uid 0 listens on 0.0.0.0:22"
	refused := at + "refused         192.0.2.99 was refused on 10.64.0.5:23, closed_port, 3 times"
	closed := at + "closed          sshd[3165] uid 0: 10.64.0.5:22 with 10.64.0.227:51514 ended"
	ended := at + "listener_closed sshd[3165] uid 0 listens no more on 0.0.0.0:22"
	for query, want := range map[string][]string{
		"":                        {opened, refused, closed, ended},
		"?n=1":                    {ended},
		"?filter=port:22":         {opened, closed, ended},
		"?filter=process:sshd":    {opened, closed, ended},
		"?filter=peer:192.0.2.99": {refused},
		"?filter=closed_port":     {refused},
		"?filter=-refused&n=2":    {closed, ended},
	} {
		f := newFeed()
		f.feedNotices()
		want = append([]string{"TIME                     EVENT           WHAT"}, append(want, "")...)
		if diff := cmp.Diff(strings.Join(want, "\n"), f.during(t, "/connections"+query)); diff != "" {
			t.Errorf("/connections%s differs (-want +got):\n%s", query, diff)
		}
	}
}

func TestStateHasTheNewestNotices(t *testing.T) {
	f := newFeed()
	f.feedNotices()
	var state State
	if err := json.Unmarshal([]byte(f.during(t, "/api/v1/state?n=3&filter=-closed")), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Notices) != 1 || state.Notices[0].Event != "listener_opened" || state.NoticesLeftOut != 0 {
		t.Errorf("the notices are %+v, and %d others", state.Notices, state.NoticesLeftOut)
	}
	f = newFeed()
	for range maxNotices + 5 {
		f.feedNotices()
	}
	if len(f.notices) != maxNotices || f.dropped["notices"] != 4*(maxNotices+5)-maxNotices {
		t.Errorf("%d notices are kept, and %d are not", len(f.notices), f.dropped["notices"])
	}
}

// putCount adds a point of a metric that counts, of a process or of none.
func putCount(metrics pmetric.Metrics, p *fed, metric string, n int64, attributes map[string]string) {
	resource := metrics.ResourceMetrics().AppendEmpty()
	if p != nil {
		describe(resource.Resource(), *p)
	}
	point := sumOf(resource.ScopeMetrics().AppendEmpty(), metric).AppendEmpty()
	point.SetIntValue(n)
	for key, value := range attributes {
		point.Attributes().PutStr(key, value)
	}
}

func TestDropwatchTellsOfResetsAndOfWhatIsUnseen(t *testing.T) {
	f := newFeed()
	java := &fed{pid: 3120, comm: "java"}
	read := func(resets, unseen int64) {
		metrics := pmetric.NewMetrics()
		putCount(metrics, java, "nettap.tcp.reset", 2*resets, map[string]string{"network.io.direction": "transmit", "nettap.tcp.reset.reason": "tcp_timeout"})
		putCount(metrics, nil, "nettap.tcp.reset", resets, map[string]string{"network.io.direction": "receive"})
		putCount(metrics, nil, "nettap.drop.unseen", unseen, map[string]string{"nettap.drop.counter": "TcpExtListenDrops"})
		f.Drops(metrics)
	}
	read(1, 7)
	for query, want := range map[string]string{
		"":      "",
		"&wide": "8 resets of 3120 java transmit tcp_timeout\n4 resets of - - receive -\n3 packets unseen in TcpExtListenDrops\n",
	} {
		got := f.during(t, "/dropwatch?interval=2s"+query, func() { read(5, 10) }, func() {})
		_, table, _ := strings.Cut(got, "2026\n")
		if diff := cmp.Diff(want+"Stopping dropped packet monitor\n", table); diff != "" {
			t.Errorf("the table with %q differs (-want +got):\n%s", query, diff)
		}
		f = newFeed()
		read(1, 7)
	}
	var state State
	if err := json.Unmarshal([]byte(f.during(t, "/api/v1/state")), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Resets) != 2 || len(state.Unseen) != 1 || state.Unseen[0].Packets != 7 || state.Unseen[0].Symbol != "TcpExtListenDrops" {
		t.Errorf("the resets are %+v, and unseen is %+v", state.Resets, state.Unseen)
	}
}

// An increment has what is new, how much more there is of what is known, and what was forgotten.
func TestIncrementsTellOfResetsAndOfWhatIsUnseen(t *testing.T) {
	f := newFeed()
	count := func(resets, unseen int64) func() {
		return func() {
			metrics := pmetric.NewMetrics()
			putCount(metrics, &fed{pid: 3120, comm: "java"}, "nettap.tcp.reset", resets, map[string]string{"network.io.direction": "receive"})
			putCount(metrics, nil, "nettap.drop.unseen", unseen, map[string]string{"nettap.drop.counter": "TcpExtListenDrops"})
			f.Drops(metrics)
		}
	}
	later := func() { f.now = f.now.Add(keep * time.Millisecond) }
	seconds := []func(){count(1, 7), count(5, 10), later}
	for range missing + coarseStep/1000 { // the view forgets once in a coarse step
		seconds = append(seconds, func() {})
	}
	body := f.during(t, "/api/v1/events", append(seconds, func() { f.Close() })...)
	var told Increment
	for line := range strings.Lines(body) {
		data, ok := strings.CutPrefix(line, "data: ")
		var one Increment
		if !ok || json.Unmarshal([]byte(data), &one) != nil || one.SpanS == 0 { // a snapshot has no span
			continue
		}
		told.Resets, told.Unseen = append(told.Resets, one.Resets...), append(told.Unseen, one.Unseen...)
		told.Reset, told.Overlooked = append(told.Reset, one.Reset...), append(told.Overlooked, one.Overlooked...)
		if one.Gone != nil {
			told.Gone = one.Gone
		}
	}
	want := Increment{
		Resets: []Drop{{ID: "2", Process: "1", Direction: "receive"}}, Reset: [][]any{{"2", 1.0}, {"2", 4.0}},
		Unseen: []Drop{{ID: "3", Symbol: "TcpExtListenDrops"}}, Overlooked: [][]any{{"3", 7.0}, {"3", 3.0}},
		Gone: &Gone{Resets: []string{"2"}, Unseen: []string{"3"}},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("the increments differ (-want +got):\n%s", diff)
	}
}
