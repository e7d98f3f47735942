// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

func TestProcessFrom(t *testing.T) {
	key := bpfProcess{StartNs: 100, Pid: 7, ExecId: 3, Uid: 1000, RealUid: 1001}
	var entry bpfProcessEntry
	entry.Round = 5
	entry.Seen.FirstNs, entry.Seen.CgroupId = 150, 42
	copyText(entry.Seen.Comm[:], "nginx")
	copyText(entry.Seen.Executable[:], "nginx-debug")

	want := Process{
		ID:    process.ID{StartNanos: 100, PID: 7, ExecID: 3, UserID: 1000, RealUserID: 1001},
		Seen:  process.Seen{FirstNanos: 150, CgroupID: 42, Comm: "nginx", Executable: "nginx-debug"},
		Alive: true,
	}
	for round, alive := range map[uint64]bool{4: true, 5: true, 6: false} {
		want.Alive = alive
		if diff := cmp.Diff(want, processFrom(key, entry, round)); diff != "" {
			t.Errorf("in round %d the process differs (-want +got):\n%s", round, diff)
		}
	}
	if got := keyOf(want.ID); got != key {
		t.Errorf("the key is %+v, want %+v", got, key)
	}
}

func copyText[C int8 | uint8](to []C, text string) {
	for i := range text {
		to[i] = C(text[i])
	}
}
