// SPDX-License-Identifier: Apache-2.0

package cgroups

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		path string
		want process.CgroupChange
	}{
		"a cgroup that was made":    {"/a.slice/b.scope\x00", process.CgroupChange{ID: 7, Path: "/a.slice/b.scope"}},
		"a cgroup that was removed": {"", process.CgroupChange{ID: 7}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(append(binary.NativeEndian.AppendUint64(nil, 7), test.path...))
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("decode() differs (-want +got), and its error is %v:\n%s", err, diff)
			}
		})
	}
	if got, err := decode(make([]byte, 7)); err == nil {
		t.Errorf("decode() of 7 bytes = %+v, want an error", got)
	}
}
