// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestHiddenOBIIsNoWarning looks for the map in a directory that cannot be searched, as the file system of BPF
// cannot be by a user other than root where systemd has mounted it.
func TestHiddenOBIIsNoWarning(t *testing.T) {
	hidden := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(hidden, 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(hidden, "traces_ctx_v1")
	var warnings, informations []string
	o := obi{
		path:   path,
		warn:   func(message string) { warnings = append(warnings, message) },
		inform: func(message string) { informations = append(informations, message) },
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread loses root's capabilities and ends
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			t.Error(err)
			return
		}
		for range 2 {
			o.refresh()
		}
	}()
	<-done
	if len(warnings) > 0 {
		t.Errorf("there are warnings: %q", warnings)
	}
	want := []string{"source obi is off: whether OBI has pinned its map cannot be seen: stat " + path + ": permission denied"}
	if diff := cmp.Diff(want, informations); diff != "" {
		t.Errorf("other information is logged (-want +got):\n%s", diff)
	}
}
