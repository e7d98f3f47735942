// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// fetch returns a directory with the unpacked content of the suite's newest package whose name
// matches pattern.
func (s *suite) fetch(ctx context.Context, pattern string) (string, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", err
	}
	candidates, err := s.candidates(ctx, pattern)
	if err != nil {
		return "", err
	}
	chosen, older, err := firstFetched(candidates, func(p debianPackage) error {
		if _, err := os.Stat(s.directory(p)); err == nil {
			return nil
		}
		return s.unpack(ctx, p)
	})
	if err != nil {
		return "", fmt.Errorf("fetch %s of %s for %s: %w", pattern, s.name, s.arch, err)
	}
	for _, p := range older {
		if err := os.RemoveAll(s.directory(p)); err != nil {
			return "", err
		}
	}
	return s.directory(chosen), nil
}

// firstFetched returns the first package that fetch succeeds for, and those after it. Debian
// removes old packages from its archive, and now and then an index names one that is gone. An
// older one is used then, and the log tells so.
func firstFetched(candidates []debianPackage, fetch func(debianPackage) error) (debianPackage, []debianPackage, error) {
	for i, candidate := range candidates {
		err := fetch(candidate)
		if err == nil {
			return candidate, candidates[i+1:], nil
		}
		log.Printf("vm: %s %s cannot be fetched, an older one must do: %v", candidate.name, candidate.version, err)
	}
	return debianPackage{}, nil, errors.New("no such package can be had")
}

// directory returns the directory with the unpacked content of a package.
func (s *suite) directory(p debianPackage) string { return filepath.Join(s.dir, p.file()) }

// candidates returns the packages in the archive and those that were fetched before, newest first.
func (s *suite) candidates(ctx context.Context, pattern string) ([]debianPackage, error) {
	var candidates []debianPackage
	err := s.update(ctx)
	if err == nil {
		candidates, err = s.find(ctx, pattern)
	}
	if err != nil {
		log.Printf("vm: %s for %s cannot be asked for newer packages: %v", s.name, s.arch, err)
	}
	fetched, err := filepath.Glob(filepath.Join(s.dir, pattern+"_*"))
	if err != nil {
		return nil, fmt.Errorf("pattern %s: %w", pattern, err)
	}
	for _, directory := range fetched {
		candidates = append(candidates, parseFile(filepath.Base(directory)))
	}
	return newestFirst(candidates, later), nil
}

// unpack downloads a package and unpacks it into its directory, which appears only when it is
// complete.
func (s *suite) unpack(ctx context.Context, p debianPackage) error {
	log.Printf("vm: fetching %s %s", p.name, p.version)
	temporary, err := os.MkdirTemp(s.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := s.download(ctx, temporary, append(slices.Clone(p.needs), p.name+"="+p.version)...); err != nil {
		return err
	}
	if len(p.lists) > 0 {
		if err := s.download(ctx, temporary, p.lists...); err != nil {
			log.Printf("vm: what is built into %s %s cannot be fetched: %v", p.name, p.version, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(temporary, "*.deb"))
	if err != nil {
		return err
	}
	root := filepath.Join(temporary, "root")
	for _, file := range files {
		if _, err := Output(exec.CommandContext(ctx, "dpkg-deb", "--extract", file, root)); err != nil {
			return err
		}
	}
	return os.Rename(root, s.directory(p))
}
