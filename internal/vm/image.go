// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// image is an unpacked kernel package.
type image struct {
	release string // as uname -r prints it
	kernel  string // the file to boot
	base    string // the directory that holds lib/modules
}

func openImage(directory string) (image, error) {
	modules, err := one(directory, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return image{}, err
	}
	kernel, err := one(directory, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	if err != nil {
		return image{}, err
	}
	return image{
		release: filepath.Base(modules),
		kernel:  kernel,
		base:    filepath.Join(modules, "../../.."),
	}, nil
}

// one returns the first file below directory that matches one of the patterns.
func one(directory string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		found, err := filepath.Glob(filepath.Join(directory, pattern))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s has no %s", directory, strings.Join(patterns, " and no "))
}

// modules returns the files of the named modules and of those that they need, in the order in
// which to load them. Modules that are part of the kernel have no files. If no list says which
// these are, every module without a file is taken for one, and the log tells so.
func (i image) modules(ctx context.Context, names []string) ([]string, error) {
	directory := filepath.Join(i.base, "lib/modules", i.release)
	if _, err := os.Stat(filepath.Join(directory, "modules.builtin")); errors.Is(err, fs.ErrNotExist) {
		var missing []string
		if names, missing, err = inFiles(os.DirFS(directory), names); err != nil {
			return nil, fmt.Errorf("find modules of %s: %w", i.release, err)
		}
		if len(missing) > 0 {
			log.Printf("vm: no list says what is built into %s, which is taken to be %s", i.release, strings.Join(missing, ", "))
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	if _, err := os.Stat(filepath.Join(directory, "modules.dep.bin")); err != nil {
		if _, err := Output(exec.CommandContext(ctx, "/sbin/depmod", "--basedir", i.base, i.release)); err != nil {
			return nil, err
		}
	}
	commands, err := Output(exec.CommandContext(ctx, "/sbin/modprobe", append([]string{
		"--dirname", i.base, "--set-version", i.release, "--all", "--show-depends"}, names...)...))
	return modulesOf(string(commands)), err
}

// inFiles parts the names of modules into those that have a file below a directory and those that
// have none.
func inFiles(directory fs.FS, names []string) (found, missing []string, err error) {
	files := map[string]bool{}
	err = fs.WalkDir(directory, ".", func(_ string, entry fs.DirEntry, err error) error {
		if name, _, isModule := strings.Cut(entry.Name(), ".ko"); isModule {
			files[strings.ReplaceAll(name, "-", "_")] = true
		}
		return err
	})
	for _, name := range names {
		if files[strings.ReplaceAll(name, "-", "_")] {
			found = append(found, name)
		} else {
			missing = append(missing, name)
		}
	}
	return found, missing, err
}

// modulesOf returns the files that modprobe --show-depends would insert, each once.
func modulesOf(commands string) []string {
	var files []string
	seen := map[string]bool{}
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == "insmod" && !seen[words[1]] {
			seen[words[1]] = true
			files = append(files, words[1])
		}
	}
	return files
}
