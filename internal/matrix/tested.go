// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/seed-7756021b/nettap/internal/vm"
)

// tested is a Go package with kernel tests.
type tested struct {
	name      string // its import path below the module's
	directory string
	binary    string // its tests, compiled
}

// buildTests compiles the tests of those packages that have kernel tests, into a directory.
func buildTests(ctx context.Context, arch, directory string, patterns []string) ([]tested, error) {
	const format = `{{.Module.Path}} {{.ImportPath}} {{.Dir}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}`
	listed, err := vm.Output(vm.GoCommand(ctx, arch, append([]string{"list", "-f", format}, patterns...)...))
	if err != nil {
		return nil, err
	}
	var packages []tested
	var paths []string
	for line := range strings.Lines(string(listed)) {
		words := strings.Fields(line)
		module, importPath, source, files := words[0], words[1], words[2], words[3:]
		if has, err := hasKernelTests(source, files); err != nil || !has {
			if err != nil {
				return nil, err
			}
			continue
		}
		paths = append(paths, importPath)
		packages = append(packages, tested{
			name:      strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/"),
			directory: source,
			binary:    filepath.Join(directory, path.Base(importPath)+".test"),
		})
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("no kernel tests in %s", strings.Join(patterns, " "))
	}
	_, err = vm.Output(vm.GoCommand(ctx, arch, append([]string{"test", "-c", "-ldflags=-w", "-o", directory + string(filepath.Separator)}, paths...)...))
	return packages, err
}

func hasKernelTests(directory string, files []string) (bool, error) {
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			return false, err
		}
		if bytes.Contains(content, []byte("\nfunc TestKernel")) {
			return true, nil
		}
	}
	return false, nil
}
