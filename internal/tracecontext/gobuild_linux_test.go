// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// buildGo builds a program of testdata with the go command, with the given settings of its
// environment and flags, and returns its path.
func buildGo(t *testing.T, program string, environment []string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), program)
	command := exec.CommandContext(t.Context(), "go", append(append([]string{"build", "-buildvcs=false", "-o", path}, flags...), ".")...)
	command.Dir = filepath.Join("testdata", program)
	command.Env = append(append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0"), environment...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", command, err, output)
	}
	return path
}

func readLayoutOf(t *testing.T, path string) goLayout {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	layout, err := readGoLayout(file)
	if err != nil {
		t.Fatal(err)
	}
	return layout
}
