// SPDX-License-Identifier: Apache-2.0

// Command release makes a release from the distribution's program: deb and rpm packages, a container
// image, software bills of materials (SBOM), and checksums. The result is reproducible: the same input
// gives the same bytes.
//
//	release -repository ../.. -directory ../../build/release -version 0.1.0 amd64=../../build/otelcol-nettap
//
// The environment variable SOURCE_DATE_EPOCH, in seconds since 1970, is the time of all files in them.
// make release sets it to the time of the commit.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run() error {
	var r release
	flag.StringVar(&r.repository, "repository", "../..", "the repository's `directory`")
	flag.StringVar(&r.directory, "directory", "../../build/release", "the `directory` to write to")
	flag.StringVar(&r.version, "version", "", "the `version`")
	flag.Parse()
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("read SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	if r.programs, err = parsePrograms(flag.Args()); err != nil {
		return err
	}
	if r.modules, err = moduleCache(); err != nil {
		return err
	}
	list, err := r.make()
	if err != nil {
		return err
	}
	fmt.Print(list)
	return nil
}

// parsePrograms reads arguments such as amd64=build/otelcol-nettap.
func parsePrograms(arguments []string) ([]program, error) {
	var programs []program
	for _, argument := range arguments {
		architecture, path, found := strings.Cut(argument, "=")
		if !found {
			return nil, fmt.Errorf("%q is not ARCHITECTURE=PROGRAM", argument)
		}
		programs = append(programs, program{architecture: architecture, path: path})
	}
	if len(programs) == 0 {
		return nil, fmt.Errorf("no program was given, as amd64=build/otelcol-nettap")
	}
	return programs, nil
}
