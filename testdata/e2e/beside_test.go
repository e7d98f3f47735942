// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	kernelhost "github.com/seed-7756021b/nettap/internal/kernel/host"
)

const (
	// bounced is how many datagrams the process of startBouncer sends at once, and connected how many
	// connections it makes.
	bounced, connected = 100, 20

	// bouncedLength is the length of such a datagram with its headers. No other traffic has it.
	bouncedLength = 8643
)

// stranger is a BPF program of another application, which counts what a bouncer does.
type stranger struct {
	counts   *ebpf.Map
	program  *ebpf.Program
	attached io.Closer
}

// foreignHook is a way in which another application attaches a program where nettap does.
type foreignHook struct {
	fires  int  // for each time that the bouncer does what the test lets it do
	pairs  bool // two runs of the program belong together, at the begin and at the end of a function
	attach func(t *testing.T, pid int) stranger
}

// foreignHooks are the ways in which other applications attach programs where nettap does: Cilium and
// systemd to cgroups and to interfaces, OBI and others to tracepoints.
var foreignHooks = map[string]foreignHook{
	"a link to the cgroup": {fires: bounced, attach: func(t *testing.T, _ int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress}, ofBouncedLength)
		return s.attach(t, func() (io.Closer, error) {
			return link.AttachCgroup(link.CgroupOptions{Path: cgroupRoot(t), Attach: ebpf.AttachCGroupInetIngress, Program: program})
		})
	}},
	"the cgroup with BPF_F_ALLOW_MULTI": {fires: bounced, attach: func(t *testing.T, _ int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress}, ofBouncedLength)
		return s.attach(t, func() (io.Closer, error) { return hold(t, cgroupWithOthers, program), nil })
	}},
	"a typed tracepoint": {fires: bounced, attach: func(t *testing.T, pid int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "net_dev_start_xmit"}, ofProcess(pid))
		return s.attach(t, func() (io.Closer, error) { return link.AttachTracing(link.TracingOptions{Program: program}) })
	}},
	"a raw tracepoint": {fires: bounced, attach: func(t *testing.T, pid int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.RawTracepoint}, ofProcess(pid))
		return s.attach(t, func() (io.Closer, error) {
			return link.AttachRawTracepoint(link.RawTracepointOptions{Name: "net_dev_start_xmit", Program: program})
		})
	}},
	"a perf event of a tracepoint": {fires: bounced, attach: func(t *testing.T, pid int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.TracePoint}, ofProcess(pid))
		return s.attach(t, func() (attached io.Closer, err error) {
			withTracefs(t, func() { attached, err = link.Tracepoint("net", "net_dev_start_xmit", program, nil) })
			return attached, err
		})
	}},
	"a link to an interface": {fires: bounced, attach: func(t *testing.T, _ int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, ofFrameOfBouncedLength)
		return s.attach(t, func() (io.Closer, error) {
			return link.AttachTCX(link.TCXOptions{Interface: loopback(t), Attach: ebpf.AttachTCXIngress, Program: program})
		})
	}},
	"a filter of an interface": {fires: bounced, attach: func(t *testing.T, _ int) stranger {
		s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.SchedCLS}, ofFrameOfBouncedLength)
		return s.attach(t, func() (io.Closer, error) {
			hold(t, queueOfFilters, program)
			return hold(t, filterOfLoopback, program), nil
		})
	}},
}

// These go on if the packet has the length, without or with its Ethernet header, and otherwise jump to
// the end.
var (
	ofBouncedLength        = ofLength(bouncedLength)
	ofFrameOfBouncedLength = ofLength(bouncedLength + 14)
)

func ofLength(length int32) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // len of struct __sk_buff
		asm.JNE.Imm(asm.R2, length, "end"),
	}
}

// ofProcess goes on if a process is running.
func ofProcess(pid int) asm.Instructions {
	return asm.Instructions{
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(pid), "end"),
	}
}

// loadStranger loads a program that counts how often it runs under a condition.
func loadStranger(t *testing.T, spec ebpf.ProgramSpec, condition asm.Instructions) (s stranger, program *ebpf.Program) {
	t.Helper()
	counts, err := ebpf.NewMap(&ebpf.MapSpec{Name: "stranger", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { counts.Close() })
	spec.Name, spec.License = "stranger", "GPL"
	goOn := int32(0)
	switch spec.Type {
	case ebpf.CGroupSKB:
		goOn = 1 // 0 would drop the packet
	case ebpf.SchedCLS:
		goOn = -1 // any other number would keep it from the next program
	}
	spec.Instructions = append(condition,
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, goOn).WithSymbol("end"),
		asm.Return(),
	)
	program, err = ebpf.NewProgram(&spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return stranger{counts: counts, program: program}, program
}

func (s stranger) attach(t *testing.T, attach func() (io.Closer, error)) stranger {
	t.Helper()
	var err error
	if s.attached, err = attach(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.attached.Close() }) // again, if the test has
	return s
}

// count returns how often the program has run, and how often the kernel says that it left it out: it runs no
// program at a probe while any other one at a probe runs on the CPU, or a system call reads or writes a map there.
func (s stranger) count(t *testing.T) (ran, missed int) {
	t.Helper()
	var count uint64
	if err := s.counts.Lookup(uint32(0), &count); err != nil {
		t.Fatal(err)
	}
	stats, err := s.program.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return int(count), int(stats.RecursionMisses)
}

func cgroupRoot(t *testing.T) string {
	t.Helper()
	root, err := kernelhost.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// withTracefs calls f on a thread of its own that sees tracefs where it should be, which is not mounted
// on every machine.
func withTracefs(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good, so that the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, "")
		}
		if errors.Is(err, unix.EBUSY) { // it is there
			err = nil
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func loopback(t *testing.T) (index int) {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	return lo.Index
}

// TestDistributionRunsBesideOthers has programs of other applications at tracepoints, at the cgroup and at the
// interface.
func TestDistributionRunsBesideOthers(t *testing.T) {
	b := startBouncer(t)
	b.runBeside(foreignHooks, func() { b.do(datagrams) }, func() (*Collector, func(times int)) {
		c := Start(t, fast)
		return c, func(times int) {
			t.Helper()
			c.awaitPackets(Attributes{"process.pid": b.Process.Pid, "network.interface.name": "lo"}, times*bounced)
		}
	})
}

// awaitPackets waits until so many packets are counted in each direction.
func (c *Collector) awaitPackets(of Attributes, packets int) {
	c.t.Helper()
	for _, direction := range []string{"transmit", "receive"} {
		of["network.io.direction"] = direction
		c.Wait(fmt.Sprintf("nettap has %d packets as %s", packets, direction), func() bool {
			return c.Value("nettap.process.network.packet.count", of) == int64(packets)
		})
	}
}

// runBeside has programs of other applications at hooks that nettap uses, which were attached before it and
// after it. Each must see everything that act does, also when others have gone, and so must nettap: start
// starts it, and returns a function that waits until it has seen what act does that many times.
func (b bouncer) runBeside(hooks map[string]foreignHook, act func(), start func() (c *Collector, seen func(times int))) {
	b.t.Helper()
	attachAll := func() map[string]stranger {
		all := map[string]stranger{}
		for name, hook := range hooks {
			all[name] = hook.attach(b.t, b.Process.Pid)
		}
		return all
	}
	require := func(when string, strangers map[string]stranger, times int) {
		b.t.Helper()
		want, got := map[string]int{}, map[string]int{}
		for name, hook := range hooks {
			ran, missed := strangers[name].count(b.t)
			if hook.pairs {
				missed *= 2 // where the begin was left out, the end is too
			}
			want[name], got[name] = times*hook.fires, ran
			if lost := want[name] - ran; lost > 0 && lost <= missed {
				got[name] += lost
				b.t.Logf("%s: the kernel left %s out %d times", when, name, lost)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			b.t.Errorf("%s the programs count differently (-want +got):\n%s", when, diff)
		}
	}

	before := attachAll()
	c, seen := start()
	after := attachAll()
	act()
	require("attached before nettap", before, 1)
	require("attached after nettap", after, 1)
	seen(1)

	for name, s := range before {
		if err := s.attached.Close(); err != nil {
			b.t.Errorf("detach %s: %v", name, err)
		}
	}
	act()
	require("once detached", before, 1)
	require("when others are detached", after, 2)
	seen(2)

	c.Stop()
	act()
	require("when nettap has stopped", after, 3)
}

// TestDistributionNamesAProgramThatIsAlone has another program at the root cgroup that allows none
// beside it.
func TestDistributionNamesAProgramThatIsAlone(t *testing.T) {
	s, program := loadStranger(t, ebpf.ProgramSpec{Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress}, ofBouncedLength)
	s = s.attach(t, func() (io.Closer, error) { return hold(t, cgroupAlone, program), nil })
	output := Refuse(t, Options{Receivers: fast})
	last := tail(strings.TrimSpace(output), 1)
	for _, want := range []string{
		`"stranger", of another application is attached to the cgroup ` + cgroupRoot(t) + " so that no other can be",
		"let it be attached with BPF_F_ALLOW_MULTI or detach it (bpftool cgroup show",
	} {
		if !strings.Contains(last, want) {
			t.Errorf("the error does not say %q:\n%s", want, tail(output, 5))
		}
	}
	if err := s.attached.Close(); err != nil {
		t.Fatal(err)
	}
	Start(t, fast).Stop()
}
