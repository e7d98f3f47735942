// SPDX-License-Identifier: Apache-2.0

package places

import (
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// counter is the name of the program of one of the test's objects.
const counter = "see"

// counts is the name of its map of one element, in which it counts.
const counts = "counts"

// flags is the name of the section that has the variable by which programs are disabled.
const flags = ".bss"

// counting returns the spec of an object whose program counts the datagrams that this process sends. There is one that goes on
// with the second program of the place, too.
func counting(jumps bool) *ebpf.CollectionSpec {
	spec := &ebpf.CollectionSpec{
		Maps: map[string]*ebpf.MapSpec{
			counts:       {Name: counts, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
			bpfMapAtSend: {Name: bpfMapAtSend, Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: uint32(bpfRankRANKS)},
			flags: {
				Name: flags, Type: ebpf.Array, KeySize: 4, ValueSize: 1, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
				Contents: []ebpf.MapKV{{Key: uint32(0), Value: []byte{1}}},
			},
		},
		Variables: map[string]*ebpf.VariableSpec{"enabled": {Name: "enabled", SectionName: flags, Value: []byte{1}}},
		Programs:  map[string]*ebpf.ProgramSpec{},
	}
	name, end := counter, asm.Instructions{asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return()}
	if jumps {
		name, end = counter+first, asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("end"), asm.LoadMapPtr(asm.R2, 0).WithReference(bpfMapAtSend), asm.Mov.Imm(asm.R3, int32(Second)), asm.FnTailCall.Call(),
			asm.Mov.Imm(asm.R0, 0), asm.Return(),
		}
	}
	for _, name := range slices.Compact([]string{counter, name}) {
		spec.Programs[name] = &ebpf.ProgramSpec{
			Name: name, Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: "sock_send_length", SectionName: Send, License: "Dual BSD/GPL",
			Instructions: slices.Concat(asm.Instructions{
				asm.Mov.Reg(asm.R6, asm.R1),
				asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.JNE.Imm(asm.R0, int32(os.Getpid()), "end"),
				asm.StoreImm(asm.RFP, -4, 0, asm.Word),
				asm.LoadMapPtr(asm.R1, 0).WithReference(counts), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4), asm.FnMapLookupElem.Call(),
				asm.JEq.Imm(asm.R0, 0, "end"), asm.Mov.Imm(asm.R1, 1), asm.AddAtomic.Mem(asm.R0, asm.R1, asm.DWord, 0),
			}, end),
		}
	}
	return spec
}

// start starts an object of the given rank, and counts.
func start(t *testing.T, p *Places, rank Rank) *kernel.Object {
	t.Helper()
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	spec := counting(rank == First)
	seats := p.Seat(spec, []kernel.Hook{{Name: Send, Programs: []string{counter}}}, map[string]Rank{Send: rank})
	object, err := kernel.Load(spec, seats.Hooks, seats.Maps)
	if err != nil {
		t.Fatal(err)
	}
	object.Follow(seats.Slots)
	if err := object.Attach(""); err != nil {
		t.Fatal(err)
	}
	return object
}

// stop stops an object, and returns what it has counted.
func stop(t *testing.T, p *Places, object *kernel.Object) uint64 {
	t.Helper()
	counted, err := object.Maps[counts].Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer counted.Close()
	if err := errors.Join(object.Close(), p.Shutdown(t.Context())); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := counted.Lookup(uint32(0), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// send sends datagrams from one end of a pair of sockets to the other.
func send(n int) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for range n {
		if _, err := unix.Write(pair[0], []byte{1}); err != nil {
			return err
		}
		if _, err := unix.Read(pair[1], make([]byte, 1)); err != nil {
			return err
		}
	}
	return nil
}

func mustSend(t *testing.T, n int) {
	t.Helper()
	if err := send(n); err != nil {
		t.Fatal(err)
	}
}

func requirePlaces(t *testing.T) {
	t.Helper()
	kerneltest.Require(t)
	if err := kernel.Probe(Send); err != nil {
		t.Skip(err)
	}
}

// TestKernelProgramsOfAPlaceComeAndGoInAnyOrder requires that each program sees each event once while it is there, whichever
// of the two comes or goes first.
func TestKernelProgramsOfAPlaceComeAndGoInAnyOrder(t *testing.T) {
	requirePlaces(t)
	for _, test := range []struct {
		name     string
		sections []string
	}{
		{"at a place", []string{Send}},
		{"where there is none", []string{Exit}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := New(func() ([]string, error) { return test.sections, nil })
			one := start(t, p, First)
			if at := slices.Contains(p.sections, Send); at != (one.Programs[counter+first] != nil) {
				t.Errorf("programs %v are loaded, want the one that goes on with another: %t", slices.Sorted(maps.Keys(one.Programs)), at)
			}
			mustSend(t, 1)
			two := start(t, p, Second)
			mustSend(t, 4)
			three := start(t, p, Second) // of another receiver: its seat is taken
			mustSend(t, 16)
			if n := stop(t, p, one); n != 1+4+16 {
				t.Errorf("the first program has seen %d datagrams, want %d", n, 1+4+16)
			}
			mustSend(t, 64)
			one = start(t, p, First)
			mustSend(t, 256)
			if n := stop(t, p, two); n != 4+16+64+256 {
				t.Errorf("the second program has seen %d datagrams, want %d", n, 4+16+64+256)
			}
			mustSend(t, 1024)
			if n := stop(t, p, three); n != 16+64+256+1024 {
				t.Errorf("the third program has seen %d datagrams, want %d", n, 16+64+256+1024)
			}
			if n := stop(t, p, one); n != 256+1024 {
				t.Errorf("the first program, which came back, has seen %d datagrams, want %d", n, 256+1024)
			}
		})
	}
}

// TestKernelTheFirstProgramOfAPlaceIsAttachedItself requires that the program which only jumps is attached only if the second program
// comes first.
func TestKernelTheFirstProgramOfAPlaceIsAttachedItself(t *testing.T) {
	requirePlaces(t)
	for comes, want := range map[Rank]head{First: leads, Second: reaches} {
		p := New(func() ([]string, error) { return []string{Send}, nil })
		one := start(t, p, comes)
		other := start(t, p, 1-comes)
		if got := p.heads[Send]; got != want && p.object != nil {
			t.Errorf("if the program of rank %d comes first, the head of the place is %d, want %d", comes, got, want)
		}
		stop(t, p, one)
		stop(t, p, other)
	}
}

// TestKernelAProgramOfAPlaceSeesAllWhileTheOtherComesAndGoes lets one program come and go while datagrams are sent.
func TestKernelAProgramOfAPlaceSeesAllWhileTheOtherComesAndGoes(t *testing.T) {
	requirePlaces(t)
	const datagrams = 20000
	for stays, comes := range maps.All(map[Rank]Rank{First: Second, Second: First}) {
		p := New(func() ([]string, error) { return []string{Send}, nil })
		object := start(t, p, stays)
		sent := make(chan error, 1)
		go func() { sent <- send(datagrams) }()
		times := 0
		for done := false; !done; times++ {
			other := start(t, p, comes)
			select {
			case err := <-sent:
				if done = true; err != nil {
					t.Fatal(err)
				}
			default:
			}
			stop(t, p, other)
		}
		if n := stop(t, p, object); n != datagrams {
			t.Errorf("the program of rank %d has seen %d datagrams while another one came and went %d times, want %d", stays, n, times, datagrams)
		}
	}
}

// TestKernelAFirstProgramThatIsNeededOnlyJumps requires that a program from which another one is reached counts nothing any more when
// its object is closed.
func TestKernelAFirstProgramThatIsNeededOnlyJumps(t *testing.T) {
	requirePlaces(t)
	p := New(func() ([]string, error) { return []string{Send}, nil })
	one := start(t, p, First)
	two := start(t, p, Second)
	enabled, err := one.Maps[flags].Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer enabled.Close()
	led := p.object != nil
	if n := stop(t, p, one); n != 0 {
		t.Errorf("the first program has seen %d datagrams, want none", n)
	}
	mustSend(t, 1)
	var value uint8
	if err := enabled.Lookup(uint32(0), &value); err != nil {
		t.Fatal(err)
	}
	if (value == 0) != led {
		t.Errorf("the first program's variable is %d, want it disabled: %t", value, led)
	}
	if n := stop(t, p, two); n != 1 {
		t.Errorf("the second program has seen %d datagrams, want 1", n)
	}
}
