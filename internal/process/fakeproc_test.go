// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/clock"
)

var boot = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fakeProcess is a process as /proc shows it.
type fakeProcess struct {
	pid         uint32
	zombie      bool
	threads     int // 0 is one
	startTicks  uint64
	parent      int
	vpid        int
	executable  string
	commandLine string
	cgroups     string
}

// newDirectory returns a directory of a machine on which only the given processes live.
func newDirectory(t *testing.T, processes ...fakeProcess) *Directory {
	t.Helper()
	root := t.TempDir()
	writeFile(t, root, "etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	writeFile(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n")
	d := NewDirectory(root, clock.Fixed(boot, boot.Add(time.Hour)))
	d.cgroups.root = func() (string, error) { return "", os.ErrNotExist }
	d.proc = &proc{path: t.TempDir(), reading: make(chan struct{}, maxReading), relative: func() bool { return false }}
	for _, p := range processes {
		p.write(t, d.proc.path)
	}
	return d
}

func (p fakeProcess) write(t *testing.T, proc string) {
	t.Helper()
	directory := filepath.Join(proc, fmt.Sprint(p.pid))
	state := "S"
	if p.zombie {
		state = "Z"
	}
	writeFile(t, directory, "stat", fmt.Sprintf("%d (a) b) %s %d 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 %d 0 %d"+
		" 1 1 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", p.pid, state, p.parent, max(p.threads, 1), p.startTicks))
	writeFile(t, directory, "status", fmt.Sprintf("Name:\ta) b\nNSpid:\t%d\t%d\n", p.pid, p.vpid))
	writeFile(t, directory, "cmdline", p.commandLine)
	writeFile(t, directory, "cgroup", p.cgroups)
	if err := os.Symlink(p.executable, filepath.Join(directory, "exe")); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, directory, name, content string) {
	t.Helper()
	file := filepath.Join(directory, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
