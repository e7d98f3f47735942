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

func TestSignOf(t *testing.T) {
	of := func(last uint64, alive ...uint64) sign {
		processes := map[uint64]Process{2: {}, 3: {}, 4: {}, 5: {}}
		for _, number := range alive {
			processes[number] = Process{Alive: true}
		}
		return signOf(last, processes)
	}
	want := sign{last: 6, living: 2*2 + 5*5}
	for name, test := range map[string]struct {
		sign sign
		same bool
	}{
		"the same processes":                        {of(6, 2, 5), true},
		"one has a new number":                      {of(7, 2, 5), false},
		"one has ended":                             {of(6, 2), false},
		"one lives again":                           {of(6, 2, 3, 5), false},
		"two have ended, and two others live again": {of(6, 3, 4), false},
	} {
		if same := test.sign == want; same != test.same {
			t.Errorf("%s: the sign is %+v, that of before %+v", name, test.sign, want)
		}
	}
}

func copyText[C int8 | uint8](to []C, text string) {
	for i := range text {
		to[i] = C(text[i])
	}
}
