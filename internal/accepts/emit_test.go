// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"iter"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/filter"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

var (
	boot = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now  = boot.Add(6 * time.Second)
)

func wall(bootNanos uint64) time.Time { return boot.Add(time.Duration(bootNanos)) }

func describe(id process.ID, seen process.Seen) process.Process {
	return process.Process{
		ID: id, HostID: "h1", Created: wall(id.StartNanos), Comm: seen.Comm, Executable: seen.Executable,
	}
}

// noJudge judges as if there were no policy.
func noJudge(process.Process, []accept) {}

func settings() receiver.Settings { return receivertest.NewNopSettings(metadata.Type) }

func TestEmit(t *testing.T) {
	unknown := accept{
		process: nginx, seen: process.Seen{Comm: "nginx"}, threadID: 72, nanos: 5_500_000_000,
		local: netip.MustParseAddrPort("[2001:db8::1]:443"), peer: netip.MustParseAddrPort("[2001:db8::7]:40022"),
		queued: -1, queueLength: -1, queueLimit: -1,
		context: tracecontext.Context{TraceID: [16]byte{1, 15: 2}, SpanID: [8]byte{3}, Source: tracecontext.HTTP},
	}
	later := decodedAccept()
	later.nanos, later.threadID, later.queueLength = 5_750_000_000, 3170, 0

	builder := metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings())
	logs := emit(builder, describe, noJudge, wall, now, []accept{decodedAccept(), unknown, later})
	compact, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "accepts.json", compact)
}

func TestEmitNothing(t *testing.T) {
	builder := metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings())
	if n := emit(builder, describe, noJudge, wall, now, nil).ResourceLogs().Len(); n != 0 {
		t.Errorf("emit() of nothing has %d resources", n)
	}
}

func TestEmitLeavesOutWhatTheConfigurationSays(t *testing.T) {
	for name, test := range map[string]struct {
		change func(config *metadata.LogsBuilderConfig)
		want   []string // bodies
	}{
		"the event is switched off": {
			change: func(config *metadata.LogsBuilderConfig) {
				config.Events.NettapConnectionAccepted.Enabled = false
			},
		},
		"a resource is excluded": {
			change: func(config *metadata.LogsBuilderConfig) {
				config.ResourceAttributes.NettapProcessComm.EventsExclude = []filter.Config{{Strict: "sshd"}}
			},
			want: []string{"nginx[71] uid 33 accepted 10.0.0.2:9 on 10.0.0.1:80"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := metadata.DefaultLogsBuilderConfig()
			test.change(&config)
			other := accept{
				process: nginx, seen: process.Seen{Comm: "nginx"},
				local: netip.MustParseAddrPort("10.0.0.1:80"), peer: netip.MustParseAddrPort("10.0.0.2:9"),
			}
			logs := emit(metadata.NewLogsBuilder(config, settings()), describe, noJudge, wall, now,
				[]accept{decodedAccept(), other, decodedAccept()})
			var got []string
			for record := range records(logs) {
				got = append(got, record.Body().Str())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("bodies differ (-want +got):\n%s", diff)
			}
		})
	}
}

// records returns each log record with the resource it is on.
func records(logs plog.Logs) iter.Seq2[plog.LogRecord, pcommon.Resource] {
	return func(yield func(plog.LogRecord, pcommon.Resource) bool) {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					if !yield(record, resource.Resource()) {
						return
					}
				}
			}
		}
	}
}
