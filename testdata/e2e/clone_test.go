// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/seed-7756021b/nettap"

// TestPlainCloneIsEnough uses this repository the way a user does who has only its address: the
// generated files must be in it, and no module may need a replace directive.
func TestPlainCloneIsEnough(t *testing.T) {
	t.Parallel()
	published := publish(t)

	t.Run("ocb builds a Collector with the receiver", func(t *testing.T) {
		directory := t.TempDir()
		write(t, filepath.Join(directory, "builder.yaml"), fmt.Sprintf(`
dist: {name: otelcol, module: example.com/otelcol, output_path: %s}
receivers:
  - {gomod: %s %s, import: %s/receiver, name: nettapreceiver}
exporters:
  - {gomod: go.opentelemetry.io/collector/exporter/nopexporter v0.159.0}
providers:
  - {gomod: go.opentelemetry.io/collector/confmap/provider/envprovider v1.65.0}
  - {gomod: go.opentelemetry.io/collector/confmap/provider/fileprovider v1.65.0}
`, directory, module, published.version, module))
		write(t, filepath.Join(directory, "config.yaml"), `
receivers: {nettap: }
exporters: {nop: }
service: {pipelines: {metrics: {receivers: [nettap], exporters: [nop]}}}
`)
		published.run(t, ".", "go", "tool", "-modfile=../../internal/tools/go.mod",
			"builder", "--config", filepath.Join(directory, "builder.yaml"))
		published.run(t, directory, "./otelcol", "validate", "--config", "config.yaml")
	})

	t.Run("a program gets the receiver", func(t *testing.T) {
		directory := t.TempDir()
		published.run(t, directory, "go", "mod", "init", "example.com/program")
		write(t, filepath.Join(directory, "main.go"), `package main

import "`+module+`/receiver"

func main() { nettapreceiver.NewFactory() }
`)
		published.run(t, directory, "go", "get", module+"/receiver@"+published.version)
		published.run(t, directory, "go", "vet", ".") // it compiles all dependencies, and does not link
	})

	t.Run("an application gets pproflabels and no Collector", func(t *testing.T) {
		directory := t.TempDir()
		write(t, filepath.Join(directory, "go.mod"), "module example.com/application\n\ngo 1.21\n")
		write(t, filepath.Join(directory, "main.go"), `package main

import (
	"go.opentelemetry.io/otel/sdk/trace"

	"`+module+`/receiver/pproflabels"
)

func main() { trace.NewTracerProvider(trace.WithSpanProcessor(pproflabels.New())) }
`)
		published.run(t, directory, "go", "get", module+"/receiver/pproflabels@"+published.commit)
		published.run(t, directory, "go", "mod", "tidy")
		published.run(t, directory, "go", "run", ".")
		for required := range strings.FieldsSeq(published.run(t, directory, "go", "list", "-m", "-f", "{{.Path}}", "all")) {
			if required == module || strings.Contains(required, "/collector/") || strings.Contains(required, "cilium") {
				t.Errorf("an application with pproflabels gets %s", required)
			}
		}
		if got := content(t, filepath.Join(directory, "go.mod")); !strings.Contains(got, "\ngo 1.21\n") {
			t.Errorf("an application with pproflabels must raise its release of Go:\n%s", got)
		}
	})
}

// publication is a copy of this repository that the go command finds at the repository's address.
type publication struct {
	commit, version string
	environment     []string
}

// publish commits the files of the working tree, except for those that git ignores, to a new
// repository.
func publish(t *testing.T) publication {
	t.Helper()
	if _, err := os.Stat("../../.git"); err != nil {
		t.Skipf("which files belong to the repository is known by git alone: %v", err)
	}
	clone := t.TempDir()
	p := publication{environment: append(os.Environ(),
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url.file://"+clone+".insteadOf", "GIT_CONFIG_VALUE_0=https://"+module,
		"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=test@example.com", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=test@example.com",
		"GOPRIVATE="+module, "GOFLAGS=-modcacherw -buildvcs=false", "GOWORK=off")}
	p.run(t, "../..", "git", "init", "--quiet", "--bare", clone)
	for _, arguments := range [][]string{{"add", "--all"}, {"commit", "--quiet", "--message", "everything"}} {
		p.run(t, "../..", "git", append([]string{"--git-dir", clone, "--work-tree", "."}, arguments...)...)
	}
	p.commit = strings.TrimSpace(p.run(t, clone, "git", "rev-parse", "HEAD"))
	p.version = strings.TrimSpace(p.run(t, t.TempDir(), "go", "list", "-m", "-f", "{{.Version}}", module+"@"+p.commit))
	t.Cleanup(func() { p.forget(t) })
	return p
}

// forget removes this version of the modules from Go's module cache, because no build needs it again.
func (p publication) forget(t *testing.T) {
	cache := strings.TrimSpace(p.run(t, ".", "go", "env", "GOMODCACHE"))
	for _, pattern := range []string{"%s/" + module + "@%s", "%s/" + module + "/receiver/pproflabels@%s",
		"%s/cache/download/" + module + "/@v/%s.*", "%s/cache/download/" + module + "/receiver/pproflabels/@v/%s.*"} {
		found, err := filepath.Glob(fmt.Sprintf(pattern, cache, p.version))
		if err != nil {
			t.Error(err)
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
	}
}

// run runs a command in a directory and returns its output.
func (p publication) run(t *testing.T, directory, name string, arguments ...string) string {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir, command.Env = directory, p.environment
	var messages strings.Builder
	command.Stderr = &messages
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s%s", command, err, output, messages.String())
	}
	return string(output)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	bytes, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes)
}
