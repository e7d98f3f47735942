// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/golden"
	"github.com/seed-7756021b/nettap/internal/listeners"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

var (
	former = listeners.Listener{
		Process: nginx, Seen: process.Seen{Comm: "ng\ninx"}, Local: netip.MustParseAddrPort("[::]:443"), NetnsInode: 4026531840,
		Inode: 1234, QueueLimit: 511,
	}
	brief = listeners.Listener{
		Process: nginx, Seen: process.Seen{Comm: "nginx"}, Local: netip.MustParseAddrPort("10.64.0.5:80"), NetnsInode: 4026531840,
		Inode: 1235, QueueLimit: 128, Opened: 5_000_000_000,
	}
)

// gone is a listener that has ended.
func gone(l listeners.Listener, at uint64) listeners.Listener {
	l.Closed = at
	return l
}

func TestEmitListeners(t *testing.T) {
	builder := metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings())
	logs := plog.NewLogs()
	emitListeners(logs, builder, describe, wall, now, listeners.Changes{
		Opened: []listeners.Listener{former, brief},
		// the end of the first was not seen
		Closed: []listeners.Listener{brief, gone(former, 5_500_000_000), gone(brief, 5_750_000_000)},
	})
	compact, err := (&plog.JSONMarshaler{}).MarshalLogs(logs)
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "listeners.json", compact)
}

func TestListenerLines(t *testing.T) {
	got := []string{openedLine(former), openedLine(brief), stoppedLine(gone(former, 6_000_000_000)), stoppedLine(gone(brief, 6_500_000_000)), stoppedLine(brief)}
	want := []string{
		"ng inx[71] uid 33 listens on [::]:443, up to 511 connections wait, since before nettap's start",
		"nginx[71] uid 33 listens on 10.64.0.5:80, up to 128 connections wait",
		"ng inx[71] uid 33 listens no more on [::]:443",
		"nginx[71] uid 33 listens no more on 10.64.0.5:80, after 1.5s",
		"nginx[71] uid 33 listens no more on 10.64.0.5:80",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines differ (-want +got):\n%s", diff)
	}
}
