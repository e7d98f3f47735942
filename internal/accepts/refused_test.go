// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/refusals"
)

var refusedAttempts = []refusals.Refusal{
	{
		Local: netip.MustParseAddr("10.64.0.5"), Peer: netip.MustParseAddr("192.0.2.99"), NetnsInode: 4026531840,
		Port: 23, Cause: "closed_port", Count: 3, FirstNanos: 5_000_000_000,
	},
	{
		Local: netip.MustParseAddr("2001:db8::1"), Peer: netip.MustParseAddr("2001:db8::7"), NetnsInode: 4026531840,
		Port: 22, Cause: "queue_full", Count: 1, FirstNanos: 5_100_000_000,
	},
	{Peer: netip.MustParseAddr("192.0.2.99"), NetnsInode: 4026531840, Cause: "closed_port", Count: 65519, FirstNanos: 5_200_000_000},
	{NetnsInode: 4026531840, Port: 22, Cause: "queue_full", Count: 1_000_000, FirstNanos: 5_300_000_000},
	{Cause: "closed_port", Count: 7, FirstNanos: 5_400_000_000},
}

func TestEmitRefused(t *testing.T) {
	builder := metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings())
	logs := plog.NewLogs()
	host := process.Process{HostID: "h1"}.Resource(builder.NewResourceBuilder())
	emitRefused(logs, builder, host, wall, now, refusedAttempts)
	compact, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "refused.json", compact)
}

func TestRefusedLine(t *testing.T) {
	var got []string
	for _, r := range refusedAttempts {
		got = append(got, refusedLine(r))
	}
	want := []string{
		"192.0.2.99 was refused on 10.64.0.5:23, closed_port, 3 times",
		"2001:db8::7 was refused on [2001:db8::1]:22, queue_full, 1 times",
		"192.0.2.99 was refused on many ports, closed_port, 65519 times",
		"many were refused on port 22, queue_full, 1000000 times",
		"many were refused on many ports, closed_port, 7 times",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
}
