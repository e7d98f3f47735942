// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/mod/module"
)

// moduleCache returns the directory in which Go keeps the sources of modules.
func moduleCache() (string, error) {
	output, err := exec.Command("go", "env", "GOMODCACHE").Output()
	return strings.TrimSpace(string(output)), err
}

// modulesOf returns the build information of the program, which lists the modules of which it is built.
// It fails if the program has none.
func modulesOf(p program) (*debug.BuildInfo, error) {
	info, err := buildinfo.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	if info.GoVersion == "" {
		return nil, fmt.Errorf("%s does not say what it was built with", p.path)
	}
	return info, nil
}

// licences returns the licence texts of Go and of each module in the program. The licences require that
// their texts are distributed with the program.
func (r *release) licences(p program) ([]byte, error) {
	info, err := modulesOf(p)
	if err != nil {
		return nil, err
	}
	var licences bytes.Buffer
	if err := writeLicences(&licences, "Go "+info.GoVersion, runtime.GOROOT()); err != nil { //nolint:staticcheck // go run has just built this program, so the directory exists
		return nil, err
	}
	for _, dependency := range info.Deps {
		if strings.HasPrefix(dependency.Path, ownModule) {
			continue // its licence is in the file copyright
		}
		directory, err := r.directoryOf(dependency)
		if err != nil {
			return nil, err
		}
		if err := writeLicences(&licences, dependency.Path+" "+dependency.Version, directory); err != nil {
			return nil, err
		}
	}
	return licences.Bytes(), nil
}

// ownModule is the prefix of the modules in this repository.
const ownModule = "github.com/seed-7756021b/nettap"

func (r *release) directoryOf(dependency *debug.Module) (string, error) {
	if dependency.Replace != nil {
		dependency = dependency.Replace
	}
	path, err := module.EscapePath(dependency.Path)
	if err != nil {
		return "", err
	}
	version, err := module.EscapeVersion(dependency.Version)
	return filepath.Join(r.modules, path+"@"+version), err
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|unlicense)([-._].*)?$`)

// writeLicences writes the licence texts in the directory of a module. A module without one is an error,
// because it must not be distributed.
func writeLicences(licences *bytes.Buffer, title, directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) {
			continue
		}
		content, err := os.ReadFile(filepath.Join(directory, entry.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(licences, "---- %s: %s\n\n%s\n\n", title, entry.Name(), bytes.TrimSpace(content))
	}
	if !found {
		return fmt.Errorf("%s has no licence in %s", title, directory)
	}
	return nil
}
