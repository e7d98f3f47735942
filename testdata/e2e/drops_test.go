//go:build linux

package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
)

const dropsOnly = `
	nettap:
	  traffic: {enabled: false}
	  drops: {collection_interval: 200ms, initial_delay: 0s}
	  accepts: {enabled: false}
`

func TestDistributionNamesEachDrop(t *testing.T) {
	c := Start(t, dropsOnly)
	lab := dropstest.NewLab(t)
	want := map[dropstest.Drop]int{}
	for _, provocation := range dropstest.Provocations() {
		t.Run(provocation.Name, func(t *testing.T) {
			drop := provocation.Provoke(t, lab)
			packets := drop.Packets
			drop.Packets = 0
			want[drop] += packets
		})
	}
	if len(want) < 8 {
		t.Errorf("only %d kinds of drops were provoked", len(want))
	}
	var diff string
	t.Cleanup(func() {
		if diff != "" {
			t.Errorf("drops on %s differ (-want +got):\n%s", lab.Receiver.Device, diff)
		}
	})
	c.Wait("the drops have come out as they were provoked", func() bool {
		diff = cmp.Diff(want, c.drops(lab.Receiver.Device))
		return diff == ""
	})
}

// drops returns how many packets were dropped on an interface, by how that was
// said, without those that IPv6 makes by itself; nil are those of which no
// interface is said. A function that another kernel calls otherwise has the name
// it has in Linux 6.18.
func (c *Collector) drops(device any) map[dropstest.Drop]int {
	c.t.Helper()
	drops := map[dropstest.Drop]int{}
	for _, point := range c.Points("nettap.packet.dropped", Attributes{"network.interface.name": device}) {
		text := func(name string) string {
			value, _ := point.Attributes[name].(string)
			return value
		}
		drop := dropstest.Drop{
			Function:  dropstest.KnownFunction(text("code.function.name")),
			Reason:    text("nettap.drop.reason"),
			Class:     text("nettap.drop.class"),
			Type:      text("network.type"),
			Transport: text("network.transport"),
		}
		if drop.Transport != "icmpv6" {
			drops[drop] += int(point.Value)
		}
	}
	return drops
}

func TestDistributionAccountsForEveryDrop(t *testing.T) {
	c := Start(t, dropsOnly)
	lab := dropstest.NewLab(t)
	dropstest.Provocations()[0].Provoke(t, lab)
	c.Wait("every drop seen is aggregated or lost", func() bool {
		value := func(name string) float64 { return c.OwnValue(name, "instrument", "drops") }
		seen := value("otelcol_nettap_events_seen")
		return seen >= 5 && seen == value("otelcol_nettap_events_aggregated")+value("otelcol_nettap_events_lost")
	})
}
