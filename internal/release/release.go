// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const name = "otelcol-nettap"

// release is what a release is made from, and where it is written.
type release struct {
	version    string
	time       time.Time // the time of all files
	repository string    // the directory of the repository, which has deploy/
	directory  string    // where the release is written
	modules    string    // Go's module cache, which has the licence of each module
	programs   []program
}

// program is the distribution for one architecture.
type program struct {
	architecture string // as in GOARCH
	path         string
}

// make deletes the directory, writes all files of the release there, and returns their checksums as
// sha256sum prints them.
func (r *release) make() (string, error) {
	if err := os.RemoveAll(r.directory); err != nil {
		return "", err
	}
	if err := os.MkdirAll(r.directory, 0o755); err != nil {
		return "", err
	}
	for _, p := range r.programs {
		if err := r.writeSoftware(p); err != nil {
			return "", fmt.Errorf("list the modules of %s: %w", p.path, err)
		}
		if err := r.writePackages(p); err != nil {
			return "", fmt.Errorf("make packages of %s: %w", p.path, err)
		}
	}
	if err := r.writeImage(); err != nil {
		return "", fmt.Errorf("make the image: %w", err)
	}
	return r.writeChecksums()
}

// write writes one file of the release.
func (r *release) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.directory, name), content, 0o644)
}

// writeChecksums writes SHA256SUMS, which sha256sum --check reads, and returns its content.
func (r *release) writeChecksums() (string, error) {
	entries, err := os.ReadDir(r.directory) // they are sorted by name
	if err != nil {
		return "", err
	}
	entries = slices.DeleteFunc(entries, os.DirEntry.IsDir)
	var list strings.Builder
	for _, entry := range entries {
		content, err := os.ReadFile(filepath.Join(r.directory, entry.Name()))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), entry.Name())
	}
	return list.String(), r.write("SHA256SUMS", []byte(list.String()))
}

// compress returns content compressed with gzip, without a name and a time, so that it is reproducible.
func compress(content []byte) ([]byte, error) {
	var compressed bytes.Buffer
	writer, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := writer.Write(content); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return compressed.Bytes(), nil
}
