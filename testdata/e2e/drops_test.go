// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"os"
	"strings"
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

func TestMain(m *testing.M) {
	dropstest.Main()
	if os.Getenv(bouncerVariable) != "" {
		if err := bounce(); err != nil {
			fmt.Fprintln(os.Stderr, "the bouncer:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if what := os.Getenv(holderVariable); what != "" {
		if err := holder(what); err != nil {
			fmt.Fprintf(os.Stderr, "the holder of %s: %v\n", what, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

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

// drops returns how many packets were dropped on an interface, by what is reported of them, without
// packets that IPv6 sends by itself. A nil device stands for drops without an interface. A
// function that has another name on another kernel has the name of Linux 6.18.
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

// TestDistributionSaysWhoLostThePackets has no traffic instrument: the process is known without
// it. When the process has ended, its series end, and the packets stay in the host's series.
func TestDistributionSaysWhoLostThePackets(t *testing.T) {
	c := Start(t, dropsOnly)
	lab := dropstest.NewLab(t)
	reader := lab.StartReader(t)
	dropped := int64(lab.Overrun(t, reader, 200))
	loss := Attributes{
		"nettap.drop.reason": "socket_rcvbuff", "nettap.drop.class": "loss", "nettap.drop.victim": "socket",
		"network.io.direction": "receive", "network.interface.name": lab.Receiver.Device,
	}
	lost := func(ended bool) func() bool {
		return func() bool {
			points := c.Points("nettap.process.packet.dropped", Attributes{"process.pid": reader.PID})
			return len(points) == 1 && points[0].Value == dropped && points[0].Ended == ended && points[0].Attributes.Has(loss)
		}
	}
	c.Wait("the process has what /proc/net/udp says", lost(false))
	reader.Stop()
	c.Wait("its series has ended", lost(true))
	points := c.Points("nettap.packet.dropped", Attributes{"nettap.drop.reason": "socket_rcvbuff", "network.interface.name": lab.Receiver.Device})
	if len(points) != 1 || points[0].Value != dropped || points[0].Ended {
		t.Errorf("the host's series are %+v, want one that goes on, with %d", points, dropped)
	}
}

func TestDistributionPutsLossesBesideTraffic(t *testing.T) {
	c := Start(t, `
	nettap:
	  traffic: {collection_interval: 200ms, initial_delay: 0s}
	  drops: {collection_interval: 300ms, initial_delay: 0s}
	  accepts: {enabled: false}
`)
	lab := dropstest.NewLab(t)
	reader := lab.StartHeir(t)
	lab.Overrun(t, reader, 50)
	who := func(metric string) Attributes {
		points := c.Points(metric, Attributes{"process.pid": reader.PID})
		if len(points) == 0 {
			return nil
		}
		resource := maps.Clone(points[0].Attributes)
		maps.DeleteFunc(resource, func(key string, _ any) bool {
			return strings.HasPrefix(key, "network.") || strings.HasPrefix(key, "nettap.drop.")
		})
		return resource
	}
	c.Wait("it has lost and moved packets", func() bool {
		return who("nettap.process.packet.dropped") != nil && who("process.network.io") != nil
	})
	if diff := cmp.Diff(who("process.network.io"), who("nettap.process.packet.dropped")); diff != "" {
		t.Errorf("the resources differ (-traffic +drops):\n%s", diff)
	}
	reader.Stop()
	c.Wait("both have ended", func() bool {
		for _, metric := range []string{"process.network.io", "nettap.process.packet.dropped"} {
			for _, point := range c.Points(metric, Attributes{"process.pid": reader.PID}) {
				if !point.Ended {
					return false
				}
			}
		}
		return true
	})
}
