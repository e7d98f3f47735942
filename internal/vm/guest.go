// SPDX-License-Identifier: Apache-2.0

// Package vm boots Debian's kernels under qemu. It fetches them from Debian's archive and
// packs a file system that contains only busybox and the files that it is given.
package vm

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Store keeps what was fetched from Debian's archive.
type Store struct {
	directory string            // absolute
	suites    map[string]*suite // by name and architecture
}

// NewStore returns the store in a directory.
func NewStore(directory string) *Store {
	return &Store{directory: directory, suites: map[string]*suite{}}
}

// DefaultStore returns the directory of the store unless another one is given: $NETTAP_CACHE, or
// nettap in the user's cache.
func DefaultStore() string {
	if cache := os.Getenv("NETTAP_CACHE"); cache != "" {
		return cache
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join("build", "cache")
	}
	return filepath.Join(cache, "nettap")
}

// Guest is a virtual machine: a kernel, and the content of its file system.
type Guest struct {
	Release string // as uname -r prints it

	machine    machine
	kernel     string   // the file to boot
	busybox    string   // a static executable
	modules    []string // files to load, in this order
	parameters []string // of the kernel's command line
}

//go:embed init.sh
var initScript []byte

// Guest fetches what is needed for a guest with a kernel of the plan.
func (s *Store) Guest(ctx context.Context, p Plan, k Kernel) (Guest, error) {
	directory, err := s.suite(k.Suite, k.Arch).fetch(ctx, k.Pattern)
	if err != nil {
		return Guest{}, err
	}
	i, err := openImage(directory)
	if err != nil {
		return Guest{}, err
	}
	g := Guest{Release: i.release, machine: machines[k.Arch], kernel: i.kernel, parameters: k.Parameters}
	if g.modules, err = i.modules(ctx, p.modulesOf(k)); err != nil {
		return Guest{}, err
	}
	if directory, err = s.suite(p.Busybox, k.Arch).fetch(ctx, "busybox-static"); err != nil {
		return Guest{}, err
	}
	g.busybox, err = one(directory, "bin/busybox", "usr/bin/busybox")
	return g, err
}

// Package fetches the newest package of a suite whose name matches pattern, as in [filepath.Match], and
// returns the directory with its unpacked content.
func (s *Store) Package(ctx context.Context, suite, arch, pattern string) (string, error) {
	return s.suite(suite, arch).fetch(ctx, pattern)
}

// suite returns the suite of a name and architecture. All calls return the same one.
func (s *Store) suite(name, arch string) *suite {
	key := name + "-" + arch
	if s.suites[key] == nil {
		s.suites[key] = &suite{name: name, arch: arch, dir: filepath.Join(s.directory, key)}
	}
	return s.suites[key]
}

// String names the guest by its kernel and the kernel's parameters.
func (g Guest) String() string {
	return strings.Join(append([]string{g.Release}, g.parameters...), " ")
}

// Boot boots the guest with the given options of qemu. fill adds files to its file system. Its
// process 1 runs the shell script job and then switches the guest off. line is called with each
// line of the console until that has happened or ctx ends. directory is for temporary files.
func (g Guest) Boot(ctx context.Context, directory string, options []string, job []byte, fill func(*Archive) error, line func(string)) error {
	file, err := os.CreateTemp(directory, "initramfs-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = g.write(ctx, file, job, fill)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", file.Name(), err)
	}
	return g.machine.boot(ctx, g.kernel, file.Name(), options, g.parameters, line)
}

// write writes the guest's file system as an initramfs into file.
func (g Guest) write(ctx context.Context, file *os.File, job []byte, fill func(*Archive) error) error {
	buffered := bufio.NewWriterSize(file, 1<<20)
	a := &Archive{to: buffered}
	for _, directory := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "run", "modules"} {
		a.Directory(directory)
	}
	a.File("init", slices.Concat(initScript, job, []byte("\npoweroff -f\n")))
	a.File("etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	if err := errors.Join(a.Copy("bin/busybox", g.busybox), g.addModules(ctx, a), fill(a), a.close()); err != nil {
		return err
	}
	return buffered.Flush()
}

func (g Guest) addModules(ctx context.Context, a *Archive) error {
	var order strings.Builder
	for _, file := range g.modules {
		content, err := decompress(ctx, file)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		a.File("modules/"+name, content)
		fmt.Fprintln(&order, name)
	}
	a.File("modules/order", []byte(order.String()))
	return nil
}

// Copy adds a file of this machine.
func (a *Archive) Copy(name, file string) error {
	content, err := os.ReadFile(file)
	a.File(name, content)
	return err
}

// Tree adds everything below root/below, if there is anything, to a directory.
func (a *Archive) Tree(directory, root, below string) error {
	err := fs.WalkDir(os.DirFS(root), below, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			a.Directory(directory + "/" + path)
			return nil
		}
		return a.Copy(directory+"/"+path, filepath.Join(root, filepath.FromSlash(path)))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// decompress returns the content of a kernel module.
func decompress(ctx context.Context, file string) ([]byte, error) {
	switch filepath.Ext(file) {
	case ".xz":
		return Output(exec.CommandContext(ctx, "xz", "--decompress", "--stdout", file))
	case ".zst":
		return Output(exec.CommandContext(ctx, "zstd", "--decompress", "--stdout", file))
	default:
		return os.ReadFile(file)
	}
}
