// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAnUnknownReleaseOfGoIsReportedOnce examines copies of this program that say that they were
// built by releases that do not exist. Each release has built two copies.
func TestAnUnknownReleaseOfGoIsReportedOnce(t *testing.T) {
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	proc := t.TempDir()
	var warnings, want []string
	refused := map[string]int{}
	e := newExaminer(Options{Sources: []Source{GoLabels}, Warn: func(message string) { warnings = append(warnings, message) }}, func(cause string) { refused[cause]++ })
	e.proc = proc
	for i := range 2*maxReleases + 4 {
		release := fmt.Sprintf("go9.%d.", 10+i/2) + strings.Repeat("9", 99)
		release = release[:len(runtime.Version())]
		pid := uint32(100 + i)
		if i%2 == 0 && i/2 < maxReleases {
			want = append(want, fmt.Sprintf("source go_labels is off for process %d, and for all programs that this release has built: unknown release of Go: %s for %s", pid, release, runtime.GOARCH))
		}
		directory := filepath.Join(proc, strconv.Itoa(int(pid)))
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		exe := filepath.Join(directory, "exe")
		if err := os.WriteFile(exe, bytes.ReplaceAll(program, []byte(runtime.Version()), []byte(release)), 0o755); err != nil {
			t.Fatal(err)
		}
		e.findGo(pid, new(bpfObserved), true)
		if err := os.Truncate(exe, 0); err != nil { // it is large
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, warnings); diff != "" {
		t.Errorf("warnings differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"unknown_go_release": 2*maxReleases + 4}, refused); diff != "" {
		t.Errorf("what is counted differs (-want +got):\n%s", diff)
	}
}
