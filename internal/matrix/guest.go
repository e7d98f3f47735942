package main

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
	"strings"
)

// guest is a virtual machine: a kernel, and what its file system is packed from.
type guest struct {
	machine   machine
	image     image
	busybox   string   // a static executable
	modules   []string // files to load, in this order
	packages  []tested // to test, in this order
	arguments []string // of each test binary

	parameters   []string // of the kernel's command line
	distribution string   // an executable that tests drive; "" is none
}

//go:embed init.sh
var initScript []byte

// prepare fetches what a guest with the kernel needs.
func (m *matrix) prepare(ctx context.Context, k kernel) (guest, error) {
	directory, err := m.suite(k.suite, k.arch).fetch(ctx, k.pattern)
	if err != nil {
		return guest{}, err
	}
	g := guest{machine: machines[k.arch], parameters: k.parameters}
	if g.image, err = openImage(directory); err != nil {
		return guest{}, err
	}
	if g.modules, err = g.image.modules(ctx, m.modulesOf(k)); err != nil {
		return guest{}, err
	}
	if directory, err = m.suite(m.busybox, k.arch).fetch(ctx, "busybox-static"); err != nil {
		return guest{}, err
	}
	g.busybox, err = one(directory, "bin/busybox", "usr/bin/busybox")
	return g, err
}

// suite returns the suite with the same name and architecture, always the same.
func (m *matrix) suite(name, arch string) *suite {
	key := name + "-" + arch
	if m.suites[key] == nil {
		m.suites[key] = &suite{name: name, arch: arch, dir: filepath.Join(m.cache, key)}
	}
	return m.suites[key]
}

// write packs the guest as an initramfs into file.
func (g guest) write(ctx context.Context, file string) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buffered := bufio.NewWriterSize(out, 1<<20)
	a := &archive{to: buffered}
	for _, directory := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "run", "modules", "tests"} {
		a.directory(directory)
	}
	a.file("init", initScript)
	a.file("etc/passwd", []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"))
	a.file("arguments", []byte(strings.Join(g.arguments, "\n")))
	if err := errors.Join(a.copy("bin/busybox", g.busybox), g.addModules(ctx, a), g.addTests(a), g.addDistribution(a), a.close()); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return buffered.Flush()
}

func (g guest) addModules(ctx context.Context, a *archive) error {
	var order strings.Builder
	for _, file := range g.modules {
		content, err := decompress(ctx, file)
		if err != nil {
			return err
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		a.file("modules/"+name, content)
		fmt.Fprintln(&order, name)
	}
	a.file("modules/order", []byte(order.String()))
	return nil
}

func (g guest) addTests(a *archive) error {
	var list strings.Builder
	for _, p := range g.packages {
		fmt.Fprintln(&list, p.name)
		directory := "tests"
		for part := range strings.SplitSeq(p.name, "/") {
			directory += "/" + part
			a.directory(directory)
		}
		if err := errors.Join(a.copy(directory+"/test", p.binary), a.tree(directory, p.directory, "testdata")); err != nil {
			return err
		}
	}
	a.file("packages", []byte(list.String()))
	return nil
}

// addDistribution adds what is built where the tests that drive it look for it.
func (g guest) addDistribution(a *archive) error {
	if g.distribution == "" {
		return nil
	}
	directory := "tests/" + filepath.Dir(g.distribution)
	a.directory(directory)
	return a.copy(filepath.Join(directory, filepath.Base(g.distribution)), g.distribution)
}

// copy adds a file of this machine.
func (a *archive) copy(name, file string) error {
	content, err := os.ReadFile(file)
	a.file(name, content)
	return err
}

// tree adds what is below root/below, if there is anything, to a directory.
func (a *archive) tree(directory, root, below string) error {
	err := fs.WalkDir(os.DirFS(root), below, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			a.directory(directory + "/" + path)
			return nil
		}
		return a.copy(directory+"/"+path, filepath.Join(root, filepath.FromSlash(path)))
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
		return output(exec.CommandContext(ctx, "xz", "--decompress", "--stdout", file))
	case ".zst":
		return output(exec.CommandContext(ctx, "zstd", "--decompress", "--stdout", file))
	default:
		return os.ReadFile(file)
	}
}
