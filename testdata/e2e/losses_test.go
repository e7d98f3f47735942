// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// tooMany is more accepts than the ring has room for, which has 2 MiB for records of 200 bytes.
const tooMany = 20_000

// TestDistributionCountsWhatTheRingLoses fills the ring while the Collector's process is stopped,
// with a backend that refuses everything. Meanwhile the Collector's own metrics must say what was
// lost. When the backend accepts again, the records that were kept are exported, and each
// accept must be accounted for.
func TestDistributionCountsWhatTheRingLoses(t *testing.T) {
	var back atomic.Bool
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !back.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer backend.Close()
	c := StartWith(t, Options{
		Receivers: `
			nettap:
			  accepts: {collection_interval: 100ms, initial_delay: 0s}
			  traffic: {enabled: false}
			  drops: {enabled: false}
		`,
		Overlay: fmt.Sprintf(`
			exporters:
			  otlp_http:
			    endpoint: %s
			    retry_on_failure: {enabled: false}
			    sending_queue: {enabled: false}
			service: {pipelines: {logs: {exporters: [otlp_http]}}}
		`, backend.URL),
	})

	c.Halted(func() { flood(t, tooMany) })
	lost := func() float64 {
		return c.OwnValue("otelcol_nettap_events_lost", "instrument", "accepts", "cause", "ring_full")
	}
	c.Wait("the losses are published while the backend is away", func() bool { return lost() > 0 })
	back.Store(true)
	c.Wait("all that was seen was exported or is counted as lost", func() bool {
		seen := c.OwnValue("otelcol_nettap_events_seen", "instrument", "accepts")
		exported := c.OwnValue("otelcol_nettap_events_exported", "instrument", "accepts")
		return seen >= tooMany && exported > 0 && seen == exported+lost()
	})
}

func TestDistributionCountsProcessesBeyondTheLimit(t *testing.T) {
	c := Start(t, `
		nettap:
		  traffic: {collection_interval: 200ms, initial_delay: 0s, max_processes: 1}
		  drops: {enabled: false}
		  accepts: {enabled: false}
	`)
	address := listen(t)
	for range 5 {
		talker(t, address)
	}
	c.Wait("their traffic is on the account overflow", func() bool {
		return c.Value("nettap.interface.io", Attributes{"nettap.account": "overflow", "network.interface.name": "lo"}) > 0
	})
	c.Wait("the Collector's own metrics say so", func() bool {
		return c.OwnValue("otelcol_nettap_events_lost", "instrument", "traffic", "cause", "processes_full") > 0 &&
			c.OwnValue("otelcol_nettap_map_limit", "instrument", "traffic", "map", "processes") == 1
	})
}

// TestDistributionCountsDropsThatFindNoPlace has more kinds of drops than a network
// namespace may have in a map before the next collection makes room, and then more kinds
// without detail. The latter are written into the map, because no kernel drops for so many
// reasons.
func TestDistributionCountsDropsThatFindNoPlace(t *testing.T) {
	c := Start(t, strings.Replace(dropsOnly, "200ms", "2s", 1))
	own := func(name string, labels ...string) int {
		return int(c.OwnValue("otelcol_nettap_"+name, append(labels, "instrument", "drops")...))
	}
	isFull := func(name string) bool {
		return own("map_entries", "map", name) == own("map_limit", "map", name) && own("map_limit", "map", name) > 0
	}
	lab := dropstest.NewLab(t)
	devices := 0
	scatter := func() { // it is repeated, because a collection meanwhile may make room
		for made := 0; made < 5000; devices++ {
			made += dropstest.Scatter(t, lab, devices)
		}
	}
	c.Wait("the part of the namespace is used up, and the next kinds are counted without detail", func() bool {
		scatter()
		return own("map_refused", "map", "drops") > 0 && c.drops(nil)[dropstest.Drop{Function: "ip_rcv_core", Reason: "ip_csum", Class: "loss"}] > 0
	})
	if lost := own("events_lost"); lost != own("events_lost", "cause", "recursion") {
		t.Errorf("%d drops are lost", lost)
	}

	kerneltest.ObjectsOf(t, c.PID()).Fill(t, "drops_without_detail")
	closedPorts := dropstest.Provocations()[:3] // those that can be repeated
	next := 0
	c.Wait("a kind after that is counted as lost", func() bool {
		scatter()
		closedPorts[next%len(closedPorts)].Provoke(t, lab)
		next++
		return isFull("drops_without_detail") && own("events_lost", "cause", "map_full") > 0
	})
	c.Wait("every drop seen is in a series or lost", func() bool {
		return own("events_seen") == own("events_aggregated")+own("events_lost")
	})
}

// TestDistributionCountsPacketsThatFindNoPlace fills a map that has room for more
// interfaces than a test can make.
func TestDistributionCountsPacketsThatFindNoPlace(t *testing.T) {
	c := Start(t, fast)
	own := func(name string, labels ...string) int {
		return int(c.OwnValue("otelcol_nettap_"+name, append(labels, "instrument", "traffic")...))
	}
	kerneltest.ObjectsOf(t, c.PID()).Fill(t, ".data.cpu_cells")
	kerneltest.ObjectsOf(t, c.PID()).Fill(t, "accounts")
	kerneltest.ObjectsOf(t, c.PID()).Fill(t, "spare_accounts")
	a, b := kerneltest.Namespaces(t)
	kerneltest.InNamespace(t, a.Name, func() {
		if output, err := exec.Command("ping", "-c", "3", "-i", "0.01", b.IPv4.String()).CombinedOutput(); err != nil {
			t.Fatalf("ping: %v\n%s", err, output)
		}
	})
	c.Wait("the Collector's own metrics say so", func() bool {
		return own("map_entries", "map", "accounts") == own("map_limit", "map", "accounts") && own("map_limit", "map", "accounts") > 0 &&
			own("events_lost", "cause", "map_full") >= 12 // three requests and three replies, each on two interfaces
	})
}
