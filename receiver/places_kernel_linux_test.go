// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/places"
)

// TestKernelInstrumentsShareTracepoints requires that at the tracepoints where two instruments have a program each, one is attached, as
// long as any of the instruments runs, and in whichever order they end.
func TestKernelInstrumentsShareTracepoints(t *testing.T) {
	kerneltest.Require(t)
	types, err := kernel.Types()
	if err != nil {
		t.Fatal(err)
	}
	if kernel.Probe(places.Send) != nil || kernel.IsRealTime(types) {
		return // they are apart there
	}
	for name, order := range map[string][]int{"as they began": {0, 1, 2}, "in the reverse order": {2, 1, 0}} {
		t.Run(name, func(t *testing.T) {
			config := fewCalls()
			config.AvoidHooks = []string{"fentry", "fentry.multi", "kprobe", "kprobe.multi", "kprobe.session"}
			shared, err := config.sharedTracepoints()
			if err != nil {
				t.Fatal(err)
			}
			want := []string{places.Send, places.Receive, places.Transmit, places.Arrival, places.Exit}
			if diff := cmp.Diff(want, shared); diff != "" {
				t.Errorf("the shared tracepoints differ (-want +got):\n%s", diff)
			}
			if version, err := features.LinuxVersionCode(); err != nil {
				t.Fatal(err)
			} else if version >= 7<<16 {
				shared = []string{places.Transmit, places.Arrival} // at the others a thread can be preempted
			}
			signals := allSignals(t, config)
			startAll(t, signals)
			for _, at := range order {
				wantOneProgram(t, shared)
				if err := signals[at].Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if attached := tracepointsInUse(t); len(attached) > 0 {
				t.Errorf("in the end there are programs at %v", attached)
			}
		})
	}
}

// wantOneProgram requires that this process has one program at each of the tracepoints.
func wantOneProgram(t *testing.T, sections []string) {
	t.Helper()
	attached := tracepointsInUse(t)
	for _, section := range sections {
		name := strings.TrimPrefix(section, "tp_btf/")
		if n := len(slices.DeleteFunc(slices.Clone(attached), func(other string) bool { return other != name })); n != 1 {
			t.Errorf("%d programs are attached to %s, want one", n, name)
		}
	}
}

// tracepointsInUse returns the tracepoints to which this process has attached programs, once for each of them.
func tracepointsInUse(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, id := range kerneltest.ObjectsOf(t, os.Getpid())["link"] {
		attached, err := link.NewFromID(link.ID(id))
		if err != nil {
			t.Fatal(err)
		}
		info, err := attached.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Type == link.RawTracepointType {
			names = append(names, info.RawTracepoint().Name)
		}
		if err := attached.Close(); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	return names
}
