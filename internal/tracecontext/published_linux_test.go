// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadPublishedContext(t *testing.T) {
	for _, kind := range []string{"memfd", "anonymous"} {
		t.Run(kind, func(t *testing.T) {
			pid, lines := publish(t, kind)
			var nanos uint64
			var named string
			if _, err := fmt.Sscan(strings.Join(lines, " "), &nanos, &named); err != nil {
				t.Fatal(err)
			}
			if kind == "anonymous" && named != "named" {
				t.Skip("this kernel does not name anonymous memory: CONFIG_ANON_VMA_NAME")
			}
			got, err := contextOf(pid)
			if err != nil {
				t.Fatal(err)
			}
			want := publishedContext{
				publishedNanos: nanos,
				resource: map[string]string{
					"service.name":        "checkout",
					"service.instance.id": strings.Repeat("6a1e-42", 40),
				},
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(publishedContext{})); diff != "" {
				t.Errorf("readPublishedContext() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadPublishedContextErrors(t *testing.T) {
	if _, err := contextOf(os.Getpid()); !errors.Is(err, errNotPublished) {
		t.Errorf("a process without: %v, want %v", err, errNotPublished)
	}
	if _, err := contextOf(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no process: %v, want %v", err, os.ErrNotExist)
	}
	pid, _ := publish(t, "writing")
	if _, err := contextOf(pid); !errors.Is(err, errBeingWritten) {
		t.Errorf("a process that does not end writing: %v, want %v", err, errBeingWritten)
	}
}

func publish(t *testing.T, kind string) (pid int, lines []string) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skipf("this test publishes with Python: %v", err)
	}
	return start(t, exec.Command("python3", "testdata/publish.py", kind))
}
