// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

func TestCountersOf(t *testing.T) {
	rules, err := readRules(countersCSV)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		series    series
		elsewhere bool // not in the host's network namespace
		want      []string
	}{
		"counters overlap": {
			series: series{reason: "socket_rcvbuff", transport: "udp", networkType: "ipv4"},
			want:   []string{"UdpRcvbufErrors", "UdpInErrors"},
		},
		"each family has its own": {
			series: series{reason: "socket_rcvbuff", transport: "udp", networkType: "ipv6"},
			want:   []string{"Udp6RcvbufErrors", "Udp6InErrors"},
		},
		"one counts what a function drops, whatever the compiler calls it": {
			series: series{reason: "pkt_too_small", function: "ip_rcv_core.isra.0", transport: "udp", networkType: "ipv4"},
			want:   []string{"IpExtInTruncatedPkts"},
		},
		"what is not in the host's network namespace": {
			series: series{reason: "socket_rcvbuff", transport: "udp", networkType: "ipv4"}, elsewhere: true,
		},
		"a counter of the whole machine": {
			series: series{reason: "cpu_backlog"}, elsewhere: true, want: []string{"softnet_stat dropped"},
		},
		"what no counter counts": {series: series{reason: "otherhost", networkType: "ipv4"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, countersOf(rules, test.series, !test.elsewhere)); diff != "" {
				t.Errorf("countersOf() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadRulesErrors(t *testing.T) {
	for name, text := range map[string]string{
		"a row for no counter":          "counter,of,type,transport,reason,function,with,without,provoked\n,machine,,,no_socket,,,,test\n",
		"a row for no reason":           "counter,of,type,transport,reason,function,with,without,provoked\nUdpNoPorts,namespace,,,,,,,test\n",
		"a counter of something else":   "counter,of,type,transport,reason,function,with,without,provoked\nUdpNoPorts,world,,,no_socket,,,,test\n",
		"a row that is not tested":      "counter,of,type,transport,reason,function,with,without,provoked\nUdpNoPorts,namespace,,,no_socket,,,,\n",
		"a row that is short of fields": "counter,of,type,transport,reason,function,with,without,provoked\nUdpNoPorts,namespace\n",
	} {
		t.Run(name, func(t *testing.T) {
			if rules, err := readRules(text); err == nil {
				t.Errorf("readRules() = %v, want an error", rules)
			}
		})
	}
}

func TestRulesFor(t *testing.T) {
	always, newer, older := rule{counter: "A"}, rule{counter: "A", with: "new"}, rule{counter: "A", without: "new"}
	for name, test := range map[string]struct {
		reasons map[uint32]string
		want    []rule
	}{
		"a kernel that has the reason":   {map[uint32]string{1: "new"}, []rule{always, newer}},
		"a kernel that lacks the reason": {map[uint32]string{1: "other"}, []rule{always, older}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rulesFor([]rule{always, newer, older}, test.reasons)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(rule{})); diff != "" {
				t.Errorf("rulesFor() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddSums(t *testing.T) {
	got := map[string]uint64{"A": 3, "B": 4, "C": 5}
	addSums(got, []rule{{counter: "A"}, {counter: "A + B"}, {counter: "A + B"}, {counter: "C + missing"}, {counter: "missing + gone"}})
	want := map[string]uint64{"A": 3, "B": 4, "C": 5, "A + B": 7, "C + missing": 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters differ (-want +got):\n%s", diff)
	}
}

func TestReadCounters(t *testing.T) {
	got := map[string]uint64{}
	for _, err := range []error{
		readPairs(got, strings.NewReader("Tcp: MaxConn InErrs\nTcp: -1 4\nUdp: NoPorts\nUdp: 5\n")),
		readLines(got, strings.NewReader("Udp6NoPorts                     \t6\nIcmp6OutType135 \t1\n")),
		readSoftnet(got, strings.NewReader("01cb37af 00000010 00000068\n02c335fd 00000001 00000092\n")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := map[string]uint64{"TcpInErrs": 4, "UdpNoPorts": 5, "Udp6NoPorts": 6, "Icmp6OutType135": 1, "softnet_stat dropped": 17}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters differ (-want +got):\n%s", diff)
	}
}

func TestReadPairsErrors(t *testing.T) {
	for name, text := range map[string]string{
		"numbers of another group": "Tcp: InErrs\nUdp: 4\n",
		"a number is missing":      "Tcp: InErrs InCsumErrors\nTcp: 4\n",
	} {
		t.Run(name, func(t *testing.T) {
			if err := readPairs(map[string]uint64{}, strings.NewReader(text)); err == nil {
				t.Error("readPairs() has no error")
			}
		})
	}
}

func TestUnseen(t *testing.T) {
	rules := []rule{{counter: "A"}, {counter: "B"}, {counter: "B"}, {counter: "missing"}}
	account := newUnseenAccount(rules, started, map[string]uint64{"A": 100, "B": 7, "other": 1})
	for _, step := range []struct {
		name              string
		counters, covered map[string]uint64
		want              []unseen
	}{
		{"nothing has grown", map[string]uint64{"A": 100, "B": 7}, nil, nil},
		{"what we have is not unseen", map[string]uint64{"A": 110, "B": 7}, map[string]uint64{"A": 4}, []unseen{{"A", started, 6}}},
		{"we have seen more by now", map[string]uint64{"A": 110, "B": 7}, map[string]uint64{"A": 12}, []unseen{{"A", started, 0}}},
		{"a counter cannot be read now", map[string]uint64{"B": 9}, map[string]uint64{"A": 12}, []unseen{{"B", started, 2}}},
		{
			"one that has grown goes on", map[string]uint64{"A": 113, "B": 9}, map[string]uint64{"A": 12},
			[]unseen{{"A", started, 1}, {"B", started, 2}},
		},
	} {
		if diff := cmp.Diff(step.want, account.post(step.counters, step.covered), cmp.AllowUnexported(unseen{})); diff != "" {
			t.Errorf("%s: unseen differs (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestEmitUnseen(t *testing.T) {
	builder := testBuilder(metadata.NewDefaultMetricsBuilderConfig())
	host := builder.NewResourceBuilder()
	host.SetHostID("h1")
	e := emitter{builder: builder, host: host.Emit(), wall: wallSinceStart}
	metrics := pmetric.NewMetrics()
	e.emitUnseen(started.Add(time.Second), []unseen{{"TcpExtListenDrops", started, 387}, {"UdpNoPorts", started, 0}}).
		MoveAndAppendTo(metrics.ResourceMetrics())
	compact, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "unseen.json", compact)
}

// TestLedgerCoversWhatCountersCount requires that the packets of an entry are subtracted from a counter once, including those that came until the
// entry was removed.
func TestLedgerCoversWhatCountersCount(t *testing.T) {
	l, w := newLedger(started), words{rules: []rule{{counter: "A", reason: "reason_5"}, {counter: "B", reason: "reason_5"}}}
	key, elsewhere := bpfDropKey{Reason: 5, Netns: 1}, bpfDropKey{Reason: 5, Netns: 2}
	for _, packets := range []uint64{3, 3, 8} {
		l.enter(&snapshot{now: started, host: 1, detailed: map[bpfDropKey]uint64{key: packets, elsewhere: 50}}, w)
	}
	l.remove(key, 10)
	if diff := cmp.Diff(map[string]uint64{"A": 10, "B": 10}, l.covered); diff != "" {
		t.Errorf("covered differs (-want +got):\n%s", diff)
	}
}
