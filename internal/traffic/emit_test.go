// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"
	"time"

	"go.opentelemetry.io/collector/filter"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

func TestEmit(t *testing.T) {
	gone := usage{process: curl(false), start: 10 * second, rows: []row{
		{interfaceName: "eth0", direction: bpfDirectionTRANSMIT, transport: 6, networkType: 0x0800, quantity: quantity{packets: 2, bytes: 200}},
	}}
	bridge := statement{
		interfaceName: "br0", netnsInode: hostInode, stacked: true, start: 10 * second,
		accounts: []accountRow{
			{direction: bpfDirectionTRANSMIT, account: "process", quantity: quantity{packets: 3, bytes: 300}},
			{direction: bpfDirectionRECEIVE, account: "unclaimed", quantity: quantity{packets: 4, bytes: 400}},
		},
		unobserved: []unobservedRow{{direction: bpfDirectionTRANSMIT, packets: -1, bytes: -14}},
	}

	for name, test := range map[string]struct {
		report  report
		configs func(*metadata.MetricsBuilderConfig)
	}{
		"nothing.json": {},
		"process.json": {report: report{processes: []usage{gone}}},
		"process_with_all_attributes.json": {
			report: report{processes: []usage{gone, {process: curl(true), start: 10 * second, rows: []row{
				{direction: bpfDirectionRECEIVE, transport: 253, networkType: 0x1234, quantity: quantity{packets: 1, bytes: 60}},
			}}}},
			configs: func(c *metadata.MetricsBuilderConfig) {
				c.Metrics.NettapProcessNetworkPacketCount.Enabled = false
				c.Metrics.ProcessNetworkIo.EnabledAttributes = append(c.Metrics.ProcessNetworkIo.EnabledAttributes,
					metadata.ProcessNetworkIoMetricAttributeKeyNetworkTransportOptIn,
					metadata.ProcessNetworkIoMetricAttributeKeyNetworkTypeOptIn,
					metadata.ProcessNetworkIoMetricAttributeKeyNettapNetnsInodeOptIn)
			},
		},
		"process_that_ended.json":   {report: report{gone: []usage{gone}}},
		"interface.json":            {report: report{interfaces: []statement{bridge}}},
		"interface_that_ended.json": {report: report{departed: []statement{bridge}}},
	} {
		t.Run(name, func(t *testing.T) {
			config := metadata.NewDefaultMetricsBuilderConfig()
			if test.configs != nil {
				test.configs(&config)
			}
			boot := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
			e := emitter{
				builder: builder,
				speak: membersOf(builder, func(id process.ID, seen process.Seen) process.Process {
					return process.Process{ID: id, HostID: "h1", Created: boot.Add(time.Duration(id.StartNanos)), Comm: seen.Comm}
				}),
				withTransports: true,
				withTypes:      true,
				start:          boot.Add(10 * second),
				boot:           10 * second,
			}

			metrics := e.emit(boot.Add(20*second), &test.report)

			compact, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
			if err != nil {
				t.Fatal(err)
			}
			golden.Compare(t, name, compact)
		})
	}
}

// membersOf returns processes with their descriptions.
func membersOf(builder *metadata.MetricsBuilder, describe func(process.ID, process.Seen) process.Process) func(process.ID, process.Seen) *member {
	members := map[process.ID]*member{}
	return func(id process.ID, seen process.Seen) *member {
		if members[id] == nil {
			members[id] = &member{resource: describe(id, seen).Resource(builder.NewResourceBuilder())}
		}
		return members[id]
	}
}

// TestCopiedPointsAreAsBuilt requires that points that are copied from those of another process are what the builder would have
// made, also if the configuration adds up series or leaves processes out.
func TestCopiedPointsAreAsBuilt(t *testing.T) {
	var both report
	for pid := range uint32(4) {
		of := func(direction bpfDirection, name string) row {
			return row{interfaceName: name, direction: direction, transport: 6, networkType: 0x0800, quantity: quantity{packets: uint64(pid), bytes: 100 * uint64(pid)}}
		}
		u := usage{process: curl(true), start: uint64(10+pid) * second, rows: []row{of(bpfDirectionTRANSMIT, "eth0"), of(bpfDirectionRECEIVE, "eth0")}}
		u.process.ID.PID = 7 + pid
		both.gone = append(both.gone, u)
		if pid%2 == 1 {
			u.rows = append(u.rows, of(bpfDirectionRECEIVE, "lo"))
		}
		both.processes = append(both.processes, u)
	}
	for name, configure := range map[string]func(*metadata.MetricsBuilderConfig){
		"with the defaults": func(*metadata.MetricsBuilderConfig) {},
		"without directions": func(c *metadata.MetricsBuilderConfig) {
			c.Metrics.ProcessNetworkIo.EnabledAttributes = nil
		},
		"without packets": func(c *metadata.MetricsBuilderConfig) { c.Metrics.NettapProcessNetworkPacketCount.Enabled = false },
		"without one process": func(c *metadata.MetricsBuilderConfig) {
			c.ResourceAttributes.ProcessPid.MetricsExclude = []filter.Config{{Strict: "8"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := metadata.NewDefaultMetricsBuilderConfig()
			configure(&config)
			builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
			e := emitter{
				builder: builder,
				speak:   membersOf(builder, func(id process.ID, _ process.Seen) process.Process { return process.Process{ID: id} }),
			}
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			text := func(reports ...report) string {
				all := pmetric.NewMetrics()
				for _, r := range reports {
					e.emit(now, &r).ResourceMetrics().MoveAndAppendTo(all.ResourceMetrics())
				}
				json, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(all)
				if err != nil {
					t.Fatal(err)
				}
				return string(json)
			}
			var each []report // with one process in a report, there is no other to copy from
			for _, u := range both.processes {
				each = append(each, report{processes: []usage{u}})
			}
			for _, u := range both.gone {
				each = append(each, report{gone: []usage{u}})
			}

			first := text(both)
			want := text(each...)
			equal(t, "the first time", want, first)
			equal(t, "when all are known", want, text(both))
		})
	}
}
