// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/seed-7756021b/nettap/internal/vm"
)

// guest is a virtual machine with the tests that it runs.
type guest struct {
	vm.Guest
	packages     []tested // to test, in this order
	arguments    []string // of each test binary
	distribution string   // an executable that tests run; "" if there is none
	selftests    bool     // the kernel's own tests are there, too
}

//go:embed job.sh
var job []byte

// fill adds to the guest's file system what it needs.
func (g guest) fill(a *vm.Archive) error {
	a.Directory("tests")
	a.File("arguments", []byte(strings.Join(g.arguments, "\n")))
	err := errors.Join(g.addTests(a), g.addDistribution(a))
	if g.selftests {
		err = errors.Join(err, addSelftests(a), addTools(a))
	}
	return err
}

func (g guest) addTests(a *vm.Archive) error {
	var list strings.Builder
	for _, p := range g.packages {
		fmt.Fprintln(&list, p.name)
		directory := "tests"
		for part := range strings.SplitSeq(p.name, "/") {
			directory += "/" + part
			a.Directory(directory)
		}
		if err := errors.Join(a.Copy(directory+"/test", p.binary), a.Tree(directory, p.directory, "testdata")); err != nil {
			return err
		}
	}
	a.File("packages", []byte(list.String()))
	return nil
}

// addDistribution adds the distribution in the place where the tests that run it expect it.
func (g guest) addDistribution(a *vm.Archive) error {
	if g.distribution == "" {
		return nil
	}
	directory := "tests/" + filepath.Dir(g.distribution)
	a.Directory(directory)
	return a.Copy(filepath.Join(directory, filepath.Base(g.distribution)), g.distribution)
}
