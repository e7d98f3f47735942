// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unsafe"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// Kernel side: bpf/lib/calls/tree.h.
const (
	functionOffCPU = 0xffff
	noNode         = 0xff
	waitShift      = 4 // the position of the wait in the flags of functionOffCPU
)

const (
	headBytes = int(unsafe.Offsetof(bpfCall{}.Node))
	nodeBytes = int(unsafe.Sizeof(bpfCall{}.Node[0]))
	pathNodes = 6 // the room for a path, as a number of nodes
	maxNodes  = len(bpfCall{}.Node) - pathNodes - maxFrames*frameBytes/nodeBytes

	frameBytes = 8  // an address
	maxFrames  = 18 // of a stack
)

// decode reads a record of the kernel's ring. functions is the length of the table of
// functions to which the nodes refer. It returns an error if the size of the record does not
// match its number of nodes, if the nodes are not a tree, or if a node is outside of the
// time of its parent.
//
// Kernel side: struct call in bpf/lib/calls/tree.h, which ends after its last node, or after the path
// that follows that node, or after the stack that follows these.
func decode(record []byte, functions int) (call, error) {
	var raw bpfCall
	if len(record) < headBytes || len(record) > int(unsafe.Sizeof(raw)) {
		return call{}, fmt.Errorf("decode call: the record has %d bytes", len(record))
	}
	kernel.CopyRecord(&raw, record)
	behindNodes := headBytes + int(raw.Nodes)*nodeBytes
	behindPath := behindNodes + pathBytes(&raw)
	size := behindPath + stackBytes(&raw)
	if len(record) != size || (raw.Nodes == 0) != (raw.Wait != 0) {
		return call{}, fmt.Errorf("decode call: the record has %d bytes, not %d for its %d nodes", len(record), size, raw.Nodes)
	}
	c, err := inOurWords(&raw)
	if err != nil {
		return call{}, fmt.Errorf("decode call: %w", err)
	}
	if c.path, err = pathOf(&raw, record[behindNodes:behindPath]); err != nil {
		return call{}, fmt.Errorf("decode call: %w", err)
	}
	if c.stack, err = stackOf(&raw, record[behindPath:]); err != nil {
		return call{}, fmt.Errorf("decode call: %w", err)
	}
	for i := range int(raw.Nodes) {
		n, err := c.place(&raw, i, functions)
		if err != nil {
			return call{}, fmt.Errorf("decode call: node %d: %w", i, err)
		}
		c.nodes = append(c.nodes, n)
	}
	return c, nil
}

// pathBytes returns how many bytes the path of a Unix socket takes in a record.
func pathBytes(raw *bpfCall) int {
	if raw.PathBytes == 0 {
		return 0
	}
	return pathNodes * nodeBytes
}

// stackBytes returns how many bytes the stack takes in a record.
func stackBytes(raw *bpfCall) int {
	if raw.Frames == 0 {
		return 0
	}
	return maxFrames * frameBytes
}

// stackOf returns the return addresses that are in room.
func stackOf(raw *bpfCall, room []byte) ([]uint64, error) {
	if int(raw.Frames)*frameBytes > len(room) {
		return nil, fmt.Errorf("a stack has %d frames", raw.Frames)
	}
	var stack []uint64
	for at := range int(raw.Frames) {
		stack = append(stack, binary.NativeEndian.Uint64(room[at*frameBytes:]))
	}
	return stack, nil
}

// pathOf returns the path that is in room, if there is one. A path ends at its first zero byte. An
// abstract name begins with a zero byte and may have more of them.
func pathOf(raw *bpfCall, room []byte) (socketPath, error) {
	if raw.PathBytes == 0 && raw.PathEnd == bpfPathEndPATH_OF_NONE {
		return socketPath{}, nil
	}
	if int(raw.PathBytes) > len(room) || raw.PathEnd != bpfPathEndPATH_OF_LOCAL && raw.PathEnd != bpfPathEndPATH_OF_PEER {
		return socketPath{}, fmt.Errorf("a path of %d bytes is of end %d", raw.PathBytes, raw.PathEnd)
	}
	name := string(room[:raw.PathBytes])
	if abstract, ok := strings.CutPrefix(name, "\x00"); ok {
		return socketPath{raw.PathEnd, "@" + abstract}, nil
	}
	name, _, _ = strings.Cut(name, "\x00")
	return socketPath{raw.PathEnd, name}, nil
}

// inOurWords converts the record of a call, without its nodes.
func inOurWords(raw *bpfCall) (call, error) {
	if raw.StartNs > math.MaxInt64 || raw.DurationNs > math.MaxInt64-raw.StartNs {
		return call{}, fmt.Errorf("it lasts %d ns from %d on", raw.DurationNs, raw.StartNs)
	}
	if keptNames[raw.Reason] == "" {
		return call{}, fmt.Errorf("there is no reason %d", raw.Reason)
	}
	if raw.Wait != 0 && kindNames[raw.Wait] == "" {
		return call{}, fmt.Errorf("there is no wait %d", raw.Wait)
	}
	k := raw.Context
	context, err := tracecontext.New(k.TraceId, k.SpanId, k.Source, k.Link, k.Sampled)
	if err != nil {
		return call{}, err
	}
	c := call{
		context: context,
		process: process.ID{
			StartNanos: raw.Process.StartNs,
			PID:        raw.Process.Pid,
			ExecID:     raw.Process.ExecId,
			UserID:     raw.Process.Uid,
			RealUserID: raw.Process.RealUid,
		},
		seen: process.Seen{
			FirstNanos: raw.Seen.FirstNs,
			CgroupID:   raw.Seen.CgroupId,
			Comm:       process.Text(raw.Seen.Comm[:]),
			Executable: process.Text(raw.Seen.Executable[:]),
		},
		startNanos:  raw.StartNs,
		duration:    time.Duration(raw.DurationNs),
		runnable:    duration(raw.RunnableNs),
		idle:        duration(raw.IdleNs),
		result:      raw.Result,
		threadID:    raw.ThreadId,
		threadName:  process.Text(raw.ThreadName[:]),
		syscall:     int(raw.Syscall),
		fd:          int(raw.Fd),
		local:       addrPort(raw.LocalAddress, raw.LocalPort),
		peer:        addrPort(raw.PeerAddress, raw.PeerPort),
		netnsInode:  raw.NetnsInode,
		family:      raw.Family,
		protocol:    raw.Protocol,
		lostNodes:   raw.LostNodes,
		missedExits: raw.MissedExits,
		rootOnly:    raw.RootOnly != 0,
		expected:    raw.Expected != 0,
		reason:      raw.Reason,
		nodes:       make([]node, 0, raw.Nodes),
		wait:        wait{kind: raw.Wait, flags: raw.WaitFlags, peer: duration(raw.PeerNs), local: duration(raw.LocalNs)},
	}
	for kind, nanos := range raw.BlockedNs {
		c.blocked[kind] = duration(nanos)
	}
	return c, nil
}

// place returns node i of the record. Its parent must be one of the nodes before it.
func (c *call) place(record *bpfCall, i, functions int) (node, error) {
	raw := &record.Node[i]
	n := node{
		function: int(raw.Function),
		parent:   int(raw.Parent),
		start:    duration(raw.StartNs),
		duration: duration(raw.DurationNs),
		missed:   raw.Flags&(bpfNodeFlagNODE_OPEN|bpfNodeFlagNODE_MISSED) != 0,
		result:   raw.Result,
	}
	flags := raw.Flags
	switch {
	case raw.Function == functionOffCPU:
		flags &= 1<<waitShift - 1
		n.kind, n.function, n.result = offCPU, 0, 0
		n.runnable, n.wait = time.Duration(raw.Result), bpfWait(raw.Flags>>waitShift)
	case raw.Flags&bpfNodeFlagNODE_POINT != 0:
		n.kind, n.duration = ofTracepoint, 0
	}
	if n.function >= functions || flags > bpfNodeFlagNODE_OPEN|bpfNodeFlagNODE_MISSED|bpfNodeFlagNODE_POINT ||
		n.wait >= bpfWaitWAIT_KINDS || n.runnable < 0 {
		return node{}, fmt.Errorf("function %d, flags %#x, result %d mean nothing", raw.Function, raw.Flags, raw.Result)
	}
	if i == 0 {
		if raw.Parent != noNode || n.kind != ofFunction {
			return node{}, errors.New("it is no root")
		}
		n.parent, n.start, n.duration = -1, 0, c.duration
		return n, nil
	}
	if n.parent >= i || c.nodes[n.parent].kind != ofFunction {
		return node{}, fmt.Errorf("it is in %d, which is no function before it", raw.Parent)
	}
	return n, n.within(c.nodes[n.parent], raw.Flags&bpfNodeFlagNODE_OPEN != 0)
}

// within checks that a node is within the time of its parent. A node whose end was not seen
// ends with its parent at the latest.
func (n *node) within(parent node, open bool) error {
	end := parent.start + parent.duration
	if n.missed {
		n.start = min(max(n.start, parent.start), end)
		n.duration = min(n.duration, end-n.start)
		if open {
			n.duration = end - n.start
		}
	}
	if n.start < parent.start || n.start > end || n.duration > end-n.start {
		return fmt.Errorf("it lasts %v from %v on, and node %d lasts %v from %v on",
			n.duration, n.start, n.parent, parent.duration, parent.start)
	}
	return nil
}

// duration converts ns, and returns the longest duration if it is too large.
func duration(nanos uint64) time.Duration { return time.Duration(min(nanos, math.MaxInt64)) }

// addrPort returns an invalid AddrPort for a socket without an address.
func addrPort(address [16]uint8, port uint16) netip.AddrPort {
	a := netip.AddrFrom16(address).Unmap()
	if a.IsUnspecified() && port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, port)
}
