// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	// selftests is where internal/selftests has built the kernel's own tests.
	selftests = "build/selftests"

	// selftestsBelow is where the tests are in it.
	selftestsBelow = "tools/testing/selftests/net"
)

// tools are the programs of this machine that the kernel's own tests need, and of which a busybox has none
// or one that can do less.
var tools = strings.Fields("bash ethtool ip sysctl tc")

// addSelftests adds the kernel's own tests in the place where TestSelftestsPass expects them.
func addSelftests(a *vm.Archive) error {
	if _, err := os.Stat(filepath.Join(selftests, "version")); err != nil {
		return fmt.Errorf("go run ./internal/selftests %s builds the kernel's own tests: %w", selftests, err)
	}
	directory := "tests/" + selftests
	a.Directory(directory)
	for part := range strings.SplitSeq(filepath.Dir(selftestsBelow), "/") {
		directory += "/" + part
		a.Directory(directory)
	}
	return a.Tree("tests/"+selftests, selftests, selftestsBelow)
}

// library matches a line of ldd: "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)".
var library = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// libraries returns the files that ldd has named.
func libraries(printed string) (files []string) {
	for _, found := range library.FindAllStringSubmatch(printed, -1) {
		files = append(files, found[1])
	}
	return files
}

// addTools adds the tools, and the libraries that they need, where they are on this machine.
func addTools(a *vm.Archive) error {
	added := map[string]bool{"": true, "bin": true}
	add := func(path, file string) error {
		path = strings.TrimPrefix(path, "/")
		if added[path] {
			return nil
		}
		added[path] = true
		directory := ""
		for part := range strings.SplitSeq(filepath.Dir(path), "/") {
			if directory = strings.TrimPrefix(directory+"/"+part, "/"); !added[directory] {
				added[directory] = true
				a.Directory(directory)
			}
		}
		return a.Copy(path, file)
	}
	for _, tool := range tools {
		file, err := exec.LookPath(tool)
		if err != nil {
			return err
		}
		needed, err := vm.Output(exec.Command("ldd", file))
		if err != nil {
			return err
		}
		for _, file := range libraries(string(needed)) {
			if err := add(file, file); err != nil {
				return err
			}
		}
		if err := add("/bin/"+tool, file); err != nil {
			return err
		}
	}
	return nil
}
