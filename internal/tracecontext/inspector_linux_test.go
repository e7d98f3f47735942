// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"container/heap"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

func TestInspectorWantsWhatTheConfigurationSays(t *testing.T) {
	proc := t.TempDir()
	for pid, comm := range map[string]string{"1": "init", "7": "nginx", "8": "otelcol"} {
		if err := os.Mkdir(filepath.Join(proc, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "comm"), []byte(comm+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		options Options
		want    []uint32
	}{
		"without a filter, all but the Collector": {Options{IgnoredPID: 8}, []uint32{1, 7, 9}},
		"by pid":                            {Options{PIDs: []uint32{7, 9}}, []uint32{7, 9}},
		"the Collector's own, by its pid":   {Options{PIDs: []uint32{8}, IgnoredPID: 8}, nil},
		"by command, if it has one":         {Options{Commands: []string{"nginx", "otelcol"}}, []uint32{7, 8}},
		"by pid and command, both must fit": {Options{PIDs: []uint32{1, 7}, Commands: []string{"nginx", "otelcol"}}, []uint32{7}},
	} {
		t.Run(name, func(t *testing.T) {
			e := &examiner{options: test.options, proc: proc}
			var got []uint32
			for _, pid := range []uint32{1, 7, 8, 9} {
				if e.wants(pid) {
					got = append(got, pid)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("wanted processes differ (-want +got):\n%s", diff)
			}
		})
	}
}

// A process is identified by its start and its program, and what it has published is not
// attributed to another process with its pid.
func TestInspectorKnowsAProcessByMoreThanItsPID(t *testing.T) {
	o := &inspector{known: map[uint32]*acquaintance{}}
	first := o.meet(7, bpfObserved{StartNs: 100, ExecId: 1})
	first.service = Service{Name: "shop"}
	if again := o.meet(7, bpfObserved{StartNs: 100, ExecId: 1}); again != first {
		t.Error("the same process is met as another one")
	}
	shop := process.ID{PID: 7, StartNanos: 100, ExecID: 1}
	others := map[string]process.ID{
		"with another start":   {PID: 7, StartNanos: 200, ExecID: 1},
		"with another program": {PID: 7, StartNanos: 100, ExecID: 2},
		"with another pid":     {PID: 8, StartNanos: 100, ExecID: 1},
	}
	if got := o.service(shop); got.Name != "shop" {
		t.Errorf("the process is %+v", got)
	}
	for name, id := range others {
		if got := o.service(id); got != (Service{}) {
			t.Errorf("a process %s is %+v", name, got)
		}
	}
	o.meet(7, bpfObserved{StartNs: 200, ExecId: 1})
	if got := o.service(shop); got != (Service{}) || len(o.due) != 1 {
		t.Errorf("a process whose pid another one has is %+v, and %d are to be looked at", got, len(o.due))
	}
	o.forget(7)
	if len(o.known) != 0 || len(o.due) != 0 {
		t.Errorf("a forgotten process is among %v, %v", o.known, o.due)
	}
}

func TestTimetableHasTheNextOneFirst(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	o := &inspector{known: map[uint32]*acquaintance{}}
	for pid, seconds := range map[uint32]time.Duration{1: 30, 2: 10, 3: 20, 4: 40} {
		a := o.meet(pid, bpfObserved{StartNs: uint64(pid)})
		a.next = now.Add(seconds * time.Second)
		heap.Fix(&o.due, a.place)
	}
	o.forget(3)
	o.known[1].next = now
	heap.Fix(&o.due, o.known[1].place)
	var got []uint32
	for len(o.due) > 0 {
		got = append(got, o.due[0].pid)
		o.forget(o.due[0].pid)
	}
	if diff := cmp.Diff([]uint32{1, 2, 4}, got); diff != "" {
		t.Errorf("the order differs (-want +got):\n%s", diff)
	}
}

// TestInspectorStopsWhileAProcessIsDue closes an inspector when the time of a process has come.
func TestInspectorStopsWhileAProcessIsDue(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	o := &inspector{known: map[uint32]*acquaintance{}, refreshed: now, swept: now}
	o.meet(7, bpfObserved{StartNs: 100}).next = now
	o.closing.Store(true)
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		o.lookAgain(now)
	}()
	select {
	case <-looked:
	case <-time.After(10 * time.Second):
		t.Fatal("it does not stop looking")
	}
}
