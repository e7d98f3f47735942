// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// place is where a program is attached, or several.
type place struct {
	program ebpf.ProgramType
	attach  ebpf.AttachType
	target  string // a tracepoint or function; "" for the root cgroup, or for many functions
	exit    bool   // for a kprobe: at the exit

	functions string // the addresses of many functions, as text
}

// seen is what is attached on the whole machine.
type seen struct {
	links  map[link.ID]bool
	probes map[string]bool // lines of the kernel's list of kprobes
}

// attached returns what is attached now.
func attached() (seen, error) {
	s := seen{links: map[link.ID]bool{}}
	err := eachLink(func(info *link.Info) error {
		s.links[info.ID] = true
		return nil
	})
	if err != nil {
		return seen{}, err
	}
	s.probes, err = probes()
	return s, err
}

// added returns the places where programs were attached since, if the functions are seen by rung.
func (s seen) added(rung string) ([]place, error) {
	types, err := kernel.Types() // once, since parsing them takes long
	if err != nil {
		return nil, err
	}
	var places []place
	err = eachLink(func(info *link.Info) error {
		if s.links[info.ID] {
			return nil
		}
		p, err := placeOf(info, rung, types)
		if err == nil && p != (place{}) {
			places = append(places, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	now, err := probes()
	for line := range now {
		if s.probes[line] {
			continue
		}
		words := strings.Fields(line)
		function, _, _ := strings.Cut(words[2], "+")
		places = append(places, place{program: ebpf.Kprobe, target: function, exit: words[1] == "r"})
	}
	return unique(places), err
}

// unique returns each place once, as the cost of a place that programs share arises once.
func unique(places []place) []place {
	var different []place
	for _, p := range places {
		if !slices.Contains(different, p) {
			different = append(different, p)
		}
	}
	return different
}

func eachLink(see func(*link.Info) error) error {
	links := link.Iterator{}
	defer links.Close()
	for links.Next() {
		info, err := links.Link.Info()
		if err != nil {
			return fmt.Errorf("look at link: %w", err)
		}
		if err := see(info); err != nil {
			return err
		}
	}
	return links.Err()
}

// probes returns the lines of the kernel's list of kprobes, or none if the kernel has no kprobes.
func probes() (map[string]bool, error) {
	file, err := os.Open("/sys/kernel/debug/kprobes/list")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	found := map[string]bool{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) >= 3 {
			found[strings.Join(words[:3], " ")] = true
		}
	}
	return found, lines.Err()
}

// placeOf returns where a link has its program. It returns no place if no packet and no call gets
// there, or if the link is that of a kprobe.
func placeOf(info *link.Info, rung string, types *btf.Spec) (place, error) {
	switch info.Type {
	case link.RawTracepointType:
		return place{program: ebpf.Tracing, attach: ebpf.AttachTraceRawTp, target: info.RawTracepoint().Name}, nil
	case link.TracingType:
		return tracingPlace(info.Tracing(), types)
	case link.CgroupType:
		program, err := ebpf.NewProgramFromID(info.Program)
		if err != nil {
			return place{}, err
		}
		defer program.Close()
		return place{program: program.Type(), attach: ebpf.AttachType(info.Cgroup().AttachType)}, nil
	case link.KprobeMultiType:
		p := place{program: ebpf.Kprobe, attach: ebpf.AttachTraceKprobeMulti, exit: info.KprobeMulti().Flags&1 != 0}
		if rung == "kprobe.session" {
			p.attach = ebpf.AttachTraceKprobeSession
		}
		addresses, _ := info.KprobeMulti().Addresses()
		for _, a := range addresses {
			p.functions += fmt.Sprintf("%x ", a.Address)
		}
		return p, nil
	case link.PerfEventType, link.UprobeMultiType, link.IterType:
		return place{}, nil
	}
	return place{}, fmt.Errorf("link %d is of a kind (%d) whose place is not known", info.ID, info.Type)
}

func tracingPlace(info *link.TracingInfo, types *btf.Spec) (place, error) {
	target, err := types.TypeByID(info.TargetBtfId)
	if err != nil {
		return place{}, err
	}
	function, ok := target.(*btf.Func)
	if !ok {
		return place{}, fmt.Errorf("%v is no function", target)
	}
	return place{program: ebpf.Tracing, attach: ebpf.AttachType(info.AttachType), target: function.Name}, nil
}

// attachEmpty attaches a program that does nothing to each place, and returns a function that
// removes them. They are in one collection, for which the kernel's types are parsed once.
func attachEmpty(places []place) (remove func(), err error) {
	spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{}}
	for i, p := range places {
		spec.Programs[strconv.Itoa(i)] = p.emptyProgram()
	}
	programs, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load empty programs: %w", err)
	}
	open := kernel.Closers{kernel.CloseFunc(programs.Close)}
	for i, p := range places {
		attached, err := p.link(programs.Programs[strconv.Itoa(i)])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach an empty program to %+v: %w", p, err), open.Close())
		}
		open = append(open, attached)
	}
	return func() { open.Close() }, nil
}

func (p place) emptyProgram() *ebpf.ProgramSpec {
	result := int32(0)
	if p.program == ebpf.CGroupSKB || p.program == ebpf.CGroupSock {
		result = 1 // continue
	}
	spec := &ebpf.ProgramSpec{
		Name: "nettap_empty", Type: p.program, AttachType: p.attach, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, result), asm.Return()},
	}
	if p.program == ebpf.Tracing {
		spec.AttachTo = p.target
	}
	return spec
}

func (p place) link(program *ebpf.Program) (io.Closer, error) {
	switch {
	case p.program == ebpf.Tracing:
		return link.AttachTracing(link.TracingOptions{Program: program})
	case p.program != ebpf.Kprobe:
		root, err := host.CgroupRoot("")
		if err != nil {
			return nil, err
		}
		return link.AttachCgroup(link.CgroupOptions{Path: root, Attach: p.attach, Program: program})
	case p.functions != "":
		options := link.KprobeMultiOptions{Session: p.attach == ebpf.AttachTraceKprobeSession}
		for word := range strings.FieldsSeq(p.functions) {
			var address uint64
			if _, err := fmt.Sscanf(word, "%x", &address); err != nil {
				return nil, err
			}
			options.Addresses = append(options.Addresses, uintptr(address))
		}
		if p.exit {
			return link.KretprobeMulti(program, options)
		}
		return link.KprobeMulti(program, options)
	case p.exit:
		return link.Kretprobe(p.target, program, nil)
	}
	return link.Kprobe(p.target, program, nil)
}
