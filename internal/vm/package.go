// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// debianPackage is one version of a Debian package.
type debianPackage struct {
	name, version string
	// needs are the packages that contain its files. From Linux 6.19 on linux-image-* is
	// empty: the kernel is in linux-binary-*, and its modules are in linux-modules-*.
	needs []string
	// lists are the packages that contain the list of the modules that are built in. They are in
	// Debian's archive for every architecture at once, so they are removed from it before the
	// kernel is.
	lists []string
}

var (
	kernelPart = regexp.MustCompile(`\blinux-(?:binary|modules)-[0-9][^ ,]*`)
	kernelList = regexp.MustCompile(`\blinux-base-[0-9][^ ,]*`)
)

// parsePackages reads the stanzas that apt-cache show prints.
func parsePackages(stanzas string) []debianPackage {
	var packages []debianPackage
	for stanza := range strings.SplitSeq(strings.TrimSpace(stanzas), "\n\n") {
		var p debianPackage
		for line := range strings.Lines(stanza) {
			field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch field {
			case "Package":
				p.name = value
			case "Version":
				p.version = value
			case "Depends":
				p.needs = kernelPart.FindAllString(value, -1)
				p.lists = kernelList.FindAllString(value, -1)
			}
		}
		if p.name != "" {
			packages = append(packages, p)
		}
	}
	return packages
}

// file returns the name of the directory for the unpacked content of the package.
func (p debianPackage) file() string { return p.name + "_" + p.version }

// parseFile is the inverse of file.
func parseFile(file string) debianPackage {
	name, version, _ := strings.Cut(file, "_")
	return debianPackage{name: name, version: version}
}

// newestFirst sorts packages and removes duplicates. later reports whether a version is later than
// another one.
func newestFirst(packages []debianPackage, later func(a, b string) bool) []debianPackage {
	slices.SortStableFunc(packages, func(a, b debianPackage) int {
		switch {
		case later(a.version, b.version):
			return -1
		case later(b.version, a.version):
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	return slices.CompactFunc(packages, func(a, b debianPackage) bool { return a.file() == b.file() })
}

// later reports whether version a of a Debian package is later than b.
func later(a, b string) bool {
	return exec.Command("dpkg", "--compare-versions", a, "gt", b).Run() == nil
}
