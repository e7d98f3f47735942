// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
)

var (
	errNotGo          = errors.New("not a Go program")
	errUnknownRelease = errors.New("unknown release of Go")
)

// goLayout is where a Go program keeps the data that lead to the pprof labels of the goroutine
// that a thread runs: thread pointer + tls -> g -> m -> curg -> labels. On arm64 the first step is
// register x28.
//
// Source: struct g and struct m in src/runtime/runtime2.go; setProfLabel in
// src/runtime/proflabel.go and type labelMap in src/runtime/pprof/label.go.
type goLayout struct {
	release  string // "go1.26.8"
	tls      int32  // offset of g from the thread pointer; 0 on arm64
	m        uint16 // offset of m in g
	curg     uint16 // of curg in m
	labels   uint16 // of labels in g
	startPC  uint16 // of startpc in g
	cgo      bool   // it can call C code, which runs on g0's stack
	labelMap bool   // labels is a *map[string]string (until Go 1.23), and not a *[]struct{ key, value string }
	// pooled are the entry points, as linked, of goroutines that serve many requests and have
	// the labels of whoever started them.
	pooled []uint64
	entry  uint64 // the program's entry point as linked, for loadBias
}

// readGoLayout finds the layout of a program by reading its file, which may be stripped. The
// offsets come from a table, because a program contains them only in its debugging information.
//
// The error matches errNotGo for any file that is not a Go program for Linux on x86-64 or arm64.
// It matches errUnknownRelease if the program was built with a release that is not in the table,
// such as "devel go1.27-5f6e2c1" or "go1.26.0 X:arenas": with wrong offsets any memory would be
// read. Other errors are about Go programs that are damaged or packed.
func readGoLayout(r io.ReaderAt) (goLayout, error) {
	f, err := openELF(r)
	if err != nil {
		return goLayout{}, fmt.Errorf("%w: %w", errNotGo, err)
	}
	info, err := buildinfo.Read(r)
	if err != nil {
		return goLayout{}, fmt.Errorf("%w: %w", errNotGo, err)
	}
	layout, err := goOffsets(info.GoVersion, f.Machine)
	if err != nil {
		return goLayout{}, err
	}
	layout.entry = f.Entry
	layout.cgo = !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"})
	functions, err := readGoFunctions(f)
	if err != nil {
		return goLayout{}, fmt.Errorf("read table of functions: %w", err)
	}
	layout.pooled = functions.pooled(layout.release)
	if f.Machine == elf.EM_X86_64 {
		layout.tls, err = functions.tlsOffset(f)
	}
	if err != nil {
		return goLayout{}, fmt.Errorf("find the thread's goroutine: %w", err)
	}
	return layout, nil
}
