// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLibraries(t *testing.T) {
	got := libraries(`	linux-vdso.so.1 (0x00007f2511264000)
	libmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f25110e0000)
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2510eda000)
	/lib64/ld-linux-x86-64.so.2 (0x00007f2511266000)
`)
	want := []string{"/lib/x86_64-linux-gnu/libmnl.so.0", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("libraries() differs (-want +got):\n%s", diff)
	}
}
