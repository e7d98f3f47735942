// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"errors"
	"testing"
	"time"
)

// BenchmarkSurvey finds out which of 8,000 known processes live, of which none has begun or ended since,
// and reads them for two instruments. They are entered into the kernel's map by hand, so that they count as ended.
func BenchmarkSurvey(b *testing.B) {
	const crowd = 8000
	one := New(Options{MaxProcesses: 2 * crowd})
	other := one.Another()
	if err := errors.Join(one.Start(b.Context()), other.Start(b.Context()), one.Enable()); err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() {
		one.Shutdown(b.Context())
		other.Shutdown(b.Context())
	})
	for i := range uint32(crowd) {
		entry := bpfProcessEntry{Number: 1<<40 + uint64(i)}
		if err := one.object.Maps[bpfMapProcesses].Put(bpfProcess{Pid: 1<<23 + i}, entry); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := one.Survey(time.Now()); err != nil {
			b.Fatal(err)
		}
		for _, o := range []*Owners{one, other} {
			if all, err := o.Processes(); err != nil || len(all) < crowd {
				b.Fatal(len(all), err)
			}
		}
	}
}
