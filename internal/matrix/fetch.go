package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// fetch returns a directory with the newest package of the suite whose name
// matches pattern, unpacked. Debian removes old packages from its archive, and
// now and then an index names what is not there any more: then it is the next
// older one, or one that was fetched before, and the log says so.
func (s *suite) fetch(ctx context.Context, pattern string) (string, error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return "", err
	}
	candidates, err := s.candidates(ctx, pattern)
	if err != nil {
		return "", err
	}
	for _, candidate := range candidates {
		directory := filepath.Join(s.dir, candidate.file())
		if _, err := os.Stat(directory); err == nil {
			return directory, nil
		}
		err := s.unpack(ctx, candidate, directory)
		if err == nil {
			return directory, s.forgetOlder(candidates, candidate)
		}
		log.Printf("matrix: %s %s of %s cannot be fetched, an older one must do: %v", candidate.name, candidate.version, s.name, err)
	}
	return "", fmt.Errorf("nothing like %s can be fetched from %s for %s", pattern, s.name, s.arch)
}

// candidates returns what the archive has and what was fetched before, newest first.
func (s *suite) candidates(ctx context.Context, pattern string) ([]debianPackage, error) {
	var candidates []debianPackage
	err := s.update(ctx)
	if err == nil {
		candidates, err = s.find(ctx, pattern)
	}
	if err != nil {
		log.Printf("matrix: %s for %s cannot be asked for newer packages: %v", s.name, s.arch, err)
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

// unpack downloads a package and unpacks it into directory, which appears whole or not at all.
func (s *suite) unpack(ctx context.Context, p debianPackage, directory string) error {
	log.Printf("matrix: fetching %s %s", p.name, p.version)
	temporary, err := os.MkdirTemp(s.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	if err := s.download(ctx, temporary, append(slices.Clone(p.needs), p.name+"="+p.version)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(temporary, "*.deb"))
	if err != nil {
		return err
	}
	root := filepath.Join(temporary, "root")
	for _, file := range files {
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "--extract", file, root)); err != nil {
			return err
		}
	}
	return os.Rename(root, directory)
}

// forgetOlder removes what was fetched before and is older than newest.
func (s *suite) forgetOlder(candidates []debianPackage, newest debianPackage) error {
	for _, candidate := range candidates[slices.IndexFunc(candidates, func(p debianPackage) bool { return p.file() == newest.file() })+1:] {
		if err := os.RemoveAll(filepath.Join(s.dir, candidate.file())); err != nil {
			return err
		}
	}
	return nil
}
