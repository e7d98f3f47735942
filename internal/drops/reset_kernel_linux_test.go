// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"maps"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func TestKernelSaysWhoResetsAndWhy(t *testing.T) {
	drops := newDrops(new(stats.Recorder))
	drops.options.Resets = true
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapTCPReset.Enabled = true
	drops.builder = testBuilder(config)
	begin(t, drops)
	needOwners(t, drops)
	lab := dropstest.NewLab(t)
	us := os.Getpid()

	for name, test := range map[string]struct {
		provoke func(t *testing.T)
		want    map[dropstest.Reset]int
	}{
		"a reader that leaves something unread": {
			lab.CloseUnread, map[dropstest.Reset]int{{PID: us, Direction: "transmit", Reason: "tcp_abort_on_close"}: 1, {PID: us, Direction: "receive"}: 1},
		},
		"one that does not wait": {
			lab.CloseAtOnce, map[dropstest.Reset]int{{PID: us, Direction: "transmit", Reason: "tcp_state"}: 1, {PID: us, Direction: "receive"}: 1},
		},
		"a closed port": {
			func(t *testing.T) { t.Helper(); lab.KnockAtClosedPort(t, 3) },
			map[dropstest.Reset]int{{PID: us, Direction: "receive"}: 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := collectResets(t, drops)
			test.provoke(t)
			want := map[dropstest.Reset]int{}
			for reset, n := range test.want {
				if len(drops.words.resets) == 0 {
					reset.Reason = ""
				}
				want[reset] = n
			}
			if diff := settled(func() string { return cmp.Diff(want, newResets(before, collectResets(t, drops), us)) }); diff != "" {
				t.Errorf("resets differ (-want +got):\n%s", diff)
			}
		})
	}

	if len(drops.words.resets) == 0 {
		return // nor do these kernels tell of a reset without a socket
	}
	// Others on this machine may do the same, so it is so many at least.
	refused := dropstest.Reset{Direction: "transmit", Reason: "no_socket"}
	before := collectResets(t, drops)[refused]
	lab.KnockAtClosedPort(t, 5)
	if after := collectResets(t, drops)[refused]; after-before < 5 {
		t.Errorf("%d resets of no process more, want 5", after-before)
	}
}

func collectResets(t *testing.T, drops *Drops) map[dropstest.Reset]int {
	t.Helper()
	metrics, err := drops.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return dropstest.Resets(metrics)
}

// newResets returns the resets of a process that are in after and not in before.
func newResets(before, after map[dropstest.Reset]int, pid int) map[dropstest.Reset]int {
	grown := maps.Clone(after)
	for reset := range grown {
		if grown[reset] -= before[reset]; grown[reset] == 0 || reset.PID != pid {
			delete(grown, reset)
		}
	}
	return grown
}
