// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMaps(t *testing.T) {
	got, err := parseMaps(strings.NewReader(`55d0c4a00000-55d0c4a02000 r--p 00000000 fe:00 1234                       /usr/bin/cat
7f1dbe6f4000-7f1dbe84a000 r-xp 00026000 fe:00 2623                       /opt/two  spaces/libc.so (deleted)
7ffd1c000000-7ffd1c021000 rw-p 00000000 00:00 0                          [stack]
7ffd1c022000-7ffd1c023000 rw-p 00000000 00:00 0 
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{start: 0x55d0c4a00000, end: 0x55d0c4a02000, device: "fe:00", inode: 1234, path: "/usr/bin/cat"},
		{start: 0x7f1dbe6f4000, end: 0x7f1dbe84a000, offset: 0x26000, executable: true, device: "fe:00", inode: 2623, path: "/opt/two  spaces/libc.so (deleted)"},
		{start: 0x7ffd1c000000, end: 0x7ffd1c021000, device: "00:00", path: "[stack]"},
		{start: 0x7ffd1c022000, end: 0x7ffd1c023000, device: "00:00"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Errorf("parseMaps() differs (-want +got):\n%s", diff)
	}
	for _, line := range []string{"x", "1000 r-xp 0 fe:00 1 /a", "1000-2000 r-xp 0 fe:00", "1000-2000 r-xp z fe:00 1"} {
		if m, err := parseMaps(strings.NewReader(line)); err == nil {
			t.Errorf("parseMaps(%q) = %+v, want an error", line, m)
		}
	}
}

func FuzzParseMaps(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		mappings, err := parseMaps(strings.NewReader(text))
		if err == nil && len(mappings) != strings.Count(strings.TrimSuffix(text, "\n")+"\n", "\n") && text != "" {
			t.Errorf("parseMaps() = %d mappings of %q", len(mappings), text)
		}
		findPublished(mappings)
	})
}
