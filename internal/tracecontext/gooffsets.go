// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/elf"
	_ "embed" // for the table
	"encoding/csv"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/seed-7756021b/nettap/internal/plain"
)

// goOffsetsTable has the offsets that DWARF contains for programs built with the first minor
// release of each release and with a late one. TestGoOffsets compares them. A new release of Go
// needs two lines.
//
//go:embed go_offsets.csv
var goOffsetsTable string

var readGoOffsets = sync.OnceValues(func() (map[goBuild]goLayout, error) { return parseGoOffsets(goOffsetsTable) })

// goBuild is what the offsets depend on. They are the same in every minor release.
type goBuild struct{ release, arch string }

// minorRelease matches a release of Go. It excludes release candidates, development versions,
// distributions' own versions, and GOEXPERIMENT, which can add fields.
var minorRelease = regexp.MustCompile(`^(go1\.\d+)\.\d+$`)

// goOffsets returns a layout with its release and offsets, for a version in the form of
// [runtime.Version].
func goOffsets(version string, machine elf.Machine) (goLayout, error) {
	offsets, err := readGoOffsets()
	if err != nil {
		return goLayout{}, fmt.Errorf("go_offsets.csv: %w", err)
	}
	build := goBuild{arch: "amd64"}
	if machine == elf.EM_AARCH64 {
		build.arch = "arm64"
	}
	if match := minorRelease.FindStringSubmatch(version); match != nil {
		build.release = match[1]
	}
	layout, ok := offsets[build]
	if !ok {
		// It is logged, and whoever made the program has chosen its text.
		return goLayout{}, fmt.Errorf("%w: %.100s for %s", errUnknownRelease, plain.Text(version), build.arch)
	}
	layout.release = version
	return layout, nil
}

func parseGoOffsets(table string) (map[goBuild]goLayout, error) {
	lines := csv.NewReader(strings.NewReader(table))
	records, err := lines.ReadAll()
	if err != nil {
		return nil, err
	}
	if len(records) == 0 || len(records[0]) != 7 {
		return nil, errors.New("not a table of seven columns")
	}
	layouts := map[goBuild]goLayout{}
	for _, record := range records[1:] {
		var layout goLayout
		for i, field := range []*uint16{&layout.m, &layout.curg, &layout.labels, &layout.startPC} {
			offset, err := strconv.ParseUint(record[2+i], 10, 16)
			if err != nil {
				return nil, err
			}
			*field = uint16(offset)
		}
		layout.labelMap = record[6] == "map"
		layouts[goBuild{record[0], record[1]}] = layout
	}
	return layouts, nil
}
