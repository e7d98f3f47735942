// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/google/go-cmp/cmp"
)

// TestKernelCollectsWhileACPUIsHeldUp delays a CPU while it handles a packet, as happens to a virtual CPU on a busy host. The packet must
// not be unclaimed before it has reached its socket.
func TestKernelCollectsWhileACPUIsHeldUp(t *testing.T) {
	l := share(t)
	w := connect(t, l)
	w.holdUp(t, 4*timeToClaim)
	var from, receiver *net.UDPConn
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	w.inFar(func() { receiver = datagrams(t, w.far.IPv4, 0) })

	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		sendTo(t, from, receiver.LocalAddr(), 3, 1000, receiver)
	}()
	for isDone := false; !isDone; {
		l.collect(t)
		select {
		case <-done:
			isDone = true
		default:
		}
	}
	if took := time.Since(began); took < 3*2*timeToClaim {
		t.Fatalf("the packets took %v: they were not held up", took)
	}
	_, far, _ := w.moved()
	want := map[string]quantity{"receive process": {packets: 3, bytes: 3 * (1000 + 8 + 20 + 14)}}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the receiver's end differs (-want +got):\n%s", diff)
	}
}

// holdUp delays the CPU for the given time at each packet that arrives at the far end, after its arrival
// was counted.
func (w *wire) holdUp(t *testing.T, howLong time.Duration) {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: busyFor(howLong)})
	if err != nil {
		t.Skipf("this kernel has no loop that may end at any round: %v", err)
	}
	defer program.Close()
	w.inFar(func() {
		held, err := link.AttachTCX(link.TCXOptions{Interface: w.far.Index, Program: program, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { held.Close() })
	})
}

// busyFor returns a program that reads the clock until the given time has passed.
func busyFor(howLong time.Duration) asm.Instructions {
	const mayGoto = 0xe5 // BPF_JMP | BPF_JCOND: it leaves a loop after eight million rounds, from Linux 6.9 on
	return asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.Mov.Reg(asm.R6, asm.R0),
		asm.Instruction{OpCode: mayGoto, Offset: 4}.WithSymbol("again"),
		asm.FnKtimeGetNs.Call(),
		asm.Sub.Reg(asm.R0, asm.R6),
		asm.JLT.Imm(asm.R0, int32(howLong), "again"),
		asm.Ja.Label("end"),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), // TCX_NEXT is -1, TCX_PASS 0
		asm.Return(),
	}
}
