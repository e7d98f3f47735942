// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/process"
)

var (
	curl  = process.ID{StartNanos: 100, PID: 3165, ExecID: 2, UserID: 1000, RealUserID: 1000}
	nginx = process.ID{StartNanos: 900, PID: 71, ExecID: 5, UserID: 33, RealUserID: 33}
)

// functions is the table to which the records of these tests refer.
var functions = []function{
	{name: "__sys_recvfrom", fails: true},
	{name: "sock_recvmsg", fails: true},
	{name: "sock_sendmsg", fails: true},
	{name: "sockfd_lookup_light"},
	{name: "net_dev_queue"},
}

// compare has the options with which calls are compared.
var compare = cmp.Options{
	cmp.AllowUnexported(call{}, node{}, wait{}, socketPath{}),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct {
		change func(raw *bpfCall)
		want   func(want *call)
	}{
		"a call with functions in functions, a tracepoint and time off the CPU": {},
		"a call that is one function": {
			change: func(raw *bpfCall) { raw.Nodes = 1 },
			want:   func(want *call) { want.nodes = want.nodes[:1] },
		},
		"IPv6": {
			change: func(raw *bpfCall) {
				raw.LocalAddress = netip.MustParseAddr("2001:db8::1").As16()
				raw.PeerAddress = netip.MustParseAddr("2001:db8::7").As16()
			},
			want: func(want *call) {
				want.local = netip.MustParseAddrPort("[2001:db8::1]:51514")
				want.peer = netip.MustParseAddrPort("[2001:db8::7]:443")
			},
		},
		"a socket without addresses": {
			change: func(raw *bpfCall) {
				raw.LocalAddress, raw.LocalPort = [16]uint8{}, 0
				raw.PeerAddress, raw.PeerPort = netip.MustParseAddr("::ffff:0.0.0.0").As16(), 0
			},
			want: func(want *call) { want.local, want.peer = netip.AddrPort{}, netip.AddrPort{} },
		},
		"a listener on any address": {
			change: func(raw *bpfCall) { raw.LocalAddress, raw.LocalPort = [16]uint8{}, 80 },
			want:   func(want *call) { want.local = netip.MustParseAddrPort("[::]:80") },
		},
		"what the kernel side does not know": {
			change: func(raw *bpfCall) { raw.Syscall, raw.Fd, raw.NetnsInode = -1, -1, 0 },
			want:   func(want *call) { want.syscall, want.fd, want.netnsInode = -1, -1, 0 },
		},
		"a function whose end was not seen ends with the one it is in": {
			change: func(raw *bpfCall) {
				raw.Node[1].Flags, raw.Node[1].DurationNs = bpfNodeFlagNODE_OPEN, 0
			},
			want: func(want *call) { want.nodes[1].missed, want.nodes[1].duration = true, 3_999_000 },
		},
		"a function whose end was noticed late ended then, but not after the one it is in": {
			change: func(raw *bpfCall) {
				raw.Node[1].Flags, raw.Node[1].DurationNs = bpfNodeFlagNODE_MISSED, 1<<63
				raw.Node[4].Flags, raw.Node[4].DurationNs = bpfNodeFlagNODE_MISSED, 300
			},
			want: func(want *call) {
				want.nodes[1].missed, want.nodes[1].duration = true, 3_999_000
				want.nodes[4].missed, want.nodes[4].duration = true, 300
			},
		},
		"a wait": {
			change: func(raw *bpfCall) {
				raw.Nodes, raw.Wait = 0, bpfSocketWaitSOCKET_WAIT_RECEIVE
				raw.WaitFlags, raw.PeerNs, raw.LocalNs = bpfWaitFlagWAIT_HAS_PEER|bpfWaitFlagWAIT_HAS_LOCAL, 3_000_000, 1_000_000
			},
			want: func(want *call) {
				want.nodes = []node{}
				want.wait = wait{
					kind: bpfSocketWaitSOCKET_WAIT_RECEIVE, flags: bpfWaitFlagWAIT_HAS_PEER | bpfWaitFlagWAIT_HAS_LOCAL,
					peer: 3 * time.Millisecond, local: time.Millisecond,
				}
			},
		},
		"a path": {
			change: func(raw *bpfCall) { withPath(raw, bpfPathEndPATH_OF_PEER, "/run/nscd/socket\x00 old") },
			want:   func(want *call) { want.path = socketPath{bpfPathEndPATH_OF_PEER, "/run/nscd/socket"} },
		},
		"a path as long as any": {
			change: func(raw *bpfCall) { withPath(raw, bpfPathEndPATH_OF_LOCAL, strings.Repeat("p", 108)) },
			want:   func(want *call) { want.path = socketPath{bpfPathEndPATH_OF_LOCAL, strings.Repeat("p", 108)} },
		},
		"an abstract name": {
			change: func(raw *bpfCall) { withPath(raw, bpfPathEndPATH_OF_PEER, "\x00a\x00b") },
			want:   func(want *call) { want.path = socketPath{bpfPathEndPATH_OF_PEER, "@a\x00b"} },
		},
		"a path behind as many nodes as there can be": {
			change: func(raw *bpfCall) {
				repeatNode(raw)
				withPath(raw, bpfPathEndPATH_OF_PEER, "/p")
			},
			want: func(want *call) {
				want.nodes = append(want.nodes, slices.Repeat(want.nodes[4:], maxNodes-len(want.nodes))...)
				want.path = socketPath{bpfPathEndPATH_OF_PEER, "/p"}
			},
		},
		"a stack behind the nodes": {
			change: func(raw *bpfCall) { withStack(raw, 0xffffffff81000001, 0xffffffff81000002) },
			want:   func(want *call) { want.stack = []uint64{0xffffffff81000001, 0xffffffff81000002} },
		},
		"a stack as deep as any, behind a path and as many nodes as there can be": {
			change: func(raw *bpfCall) {
				repeatNode(raw)
				withPath(raw, bpfPathEndPATH_OF_PEER, "/p")
				withStack(raw, slices.Repeat([]uint64{7}, maxFrames)...)
			},
			want: func(want *call) {
				want.nodes = append(want.nodes, slices.Repeat(want.nodes[4:], maxNodes-len(want.nodes))...)
				want.path, want.stack = socketPath{bpfPathEndPATH_OF_PEER, "/p"}, slices.Repeat([]uint64{7}, maxFrames)
			},
		},
		"a name may be bytes that are no text": {
			change: func(raw *bpfCall) { copy(raw.ThreadName[:], chars("\xff\xfe\n\x00 old")) },
			want:   func(want *call) { want.threadName = "\xff\xfe\n" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			raw, want := rawCall(), decodedCall()
			if test.change != nil {
				test.change(&raw)
				test.want(&want)
			}
			got, err := decode(encode(t, raw), len(functions))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("decode() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(raw *bpfCall)
		want   string
	}{
		"no nodes":                           {func(raw *bpfCall) { raw.Nodes = 0 }, "for its 0 nodes"},
		"a wait with nodes":                  {func(raw *bpfCall) { raw.Wait = bpfSocketWaitSOCKET_WAIT_SEND }, "for its 5 nodes"},
		"a kind of wait that nobody knows":   {func(raw *bpfCall) { raw.Nodes, raw.Wait = 0, bpfSocketWaitSOCKET_WAITS }, "no wait 4"},
		"a root in another node":             {func(raw *bpfCall) { raw.Node[0].Parent = 0 }, "node 0: it is no root"},
		"a tracepoint as root":               {func(raw *bpfCall) { raw.Node[0].Flags = bpfNodeFlagNODE_POINT }, "node 0: it is no root"},
		"time off the CPU as root":           {func(raw *bpfCall) { raw.Node[0].Function = functionOffCPU }, "node 0: it is no root"},
		"a second root":                      {func(raw *bpfCall) { raw.Node[2].Parent = noNode }, "node 2: it is in 255"},
		"a node in itself":                   {func(raw *bpfCall) { raw.Node[2].Parent = 2 }, "node 2: it is in 2"},
		"a node in a later one":              {func(raw *bpfCall) { raw.Node[1].Parent = 2 }, "node 1: it is in 2"},
		"a node in a tracepoint":             {func(raw *bpfCall) { raw.Node[4].Parent = 3 }, "node 4: it is in 3"},
		"a node in time off the CPU":         {func(raw *bpfCall) { raw.Node[3].Parent = 2 }, "node 3: it is in 2"},
		"a function that nobody knows":       {func(raw *bpfCall) { raw.Node[1].Function = 5 }, "node 1: function 5"},
		"a wait that nobody knows":           {func(raw *bpfCall) { raw.Node[2].Flags = 6 << 4 }, "node 2: function 65535, flags 0x60"},
		"a flag that nobody knows":           {func(raw *bpfCall) { raw.Node[1].Flags = 8 }, "node 1: function 1, flags 0x8"},
		"a reason that nobody knows":         {func(raw *bpfCall) { raw.Reason = 4 }, "no reason 4"},
		"no reason":                          {func(raw *bpfCall) { raw.Reason = 0 }, "no reason 0"},
		"a node that begins too early":       {func(raw *bpfCall) { raw.Node[2].StartNs = 999 }, "node 2: it lasts"},
		"a node that ends too late":          {func(raw *bpfCall) { raw.Node[1].DurationNs++ }, "node 1: it lasts"},
		"a node that never ends":             {func(raw *bpfCall) { raw.Node[1].DurationNs = 1<<64 - 1 }, "node 1: it lasts"},
		"a tracepoint before its parent":     {func(raw *bpfCall) { raw.Node[3].StartNs = 1 << 63 }, "node 3: it lasts"},
		"more runnable than time is":         {func(raw *bpfCall) { raw.Node[2].Result = -1 }, "node 2: function 65535"},
		"a path of no end":                   {func(raw *bpfCall) { withPath(raw, bpfPathEndPATH_OF_NONE, "/p") }, "a path of 2 bytes is of end 0"},
		"a path of an end nobody knows":      {func(raw *bpfCall) { withPath(raw, 3, "/p") }, "a path of 2 bytes is of end 3"},
		"a path that is too long":            {func(raw *bpfCall) { withPath(raw, 1, "/p"); raw.PathBytes = 145 }, "a path of 145 bytes"},
		"an end of a path that is not there": {func(raw *bpfCall) { raw.PathEnd = 3 }, "a path of 0 bytes is of end 3"},
		"a stack that is too deep":           {func(raw *bpfCall) { raw.Frames = 19 }, "a stack has 19 frames"},
		"a call until after all time":        {func(raw *bpfCall) { raw.StartNs = 1<<63 - 1 }, "from 9223372036854775807 on"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := rawCall()
			test.change(&raw)
			if got, err := decode(encode(t, raw), len(functions)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("decode() = %+v, %v, want an error with %q", got, err, test.want)
			}
		})
	}
}

func TestDecodeRefusesRecordsOfAnotherSize(t *testing.T) {
	record := encode(t, rawCall())
	for _, wrong := range [][]byte{nil, record[:headBytes-1], record[:len(record)-1], append(record, 0), make([]byte, 1<<16)} {
		if got, err := decode(wrong, len(functions)); err == nil {
			t.Errorf("decode of %d bytes gives %+v, want an error", len(wrong), got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, rawCall())) // more seeds are in testdata/fuzz
	f.Fuzz(func(t *testing.T, record []byte) {
		c, err := decode(record, len(functions))
		if err != nil {
			return
		}
		for i, n := range c.nodes {
			if i == 0 {
				if n.parent != -1 || n.start != 0 || n.duration != c.duration || n.kind != ofFunction {
					t.Errorf("node 0 is no root: %+v", n)
				}
				continue
			}
			if n.parent < 0 || n.parent >= i {
				t.Fatalf("node %d is in %d", i, n.parent)
			}
			parent := c.nodes[n.parent]
			if parent.kind != ofFunction || n.duration < 0 ||
				n.start < parent.start || n.start+n.duration > parent.start+parent.duration {
				t.Errorf("node %d, %+v, is not inside %+v", i, n, parent)
			}
		}
		if c.onCPU() < 0 || c.onCPU() > c.duration || c.blockedTime() < 0 {
			t.Errorf("of %v the call was %v on the CPU and %v blocked", c.duration, c.onCPU(), c.blockedTime())
		}
		one(t, c) // it must not panic
	})
}

func TestByProcess(t *testing.T) {
	became := curl
	became.ExecID++
	first, second := call{process: curl, threadID: 1}, call{process: curl, threadID: 3}
	for name, test := range map[string]struct {
		calls []call
		want  [][]call
	}{
		"no calls": {},
		"calls of a process stay in order, whoever calls between": {
			calls: []call{first, {process: nginx}, second},
			want:  [][]call{{first, second}, {{process: nginx}}},
		},
		"after an exec a process is another one": {
			calls: []call{first, {process: became}},
			want:  [][]call{{first}, {{process: became}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, byProcess(test.calls), compare); diff != "" {
				t.Errorf("byProcess() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	for name, test := range map[string]struct {
		change    func(c *call)
		onCPU     time.Duration
		blockedOn string
	}{
		"what is neither runnable nor blocked is on the CPU": {onCPU: 900_000, blockedOn: "receive_queue"},
		"blocked on what took longest": {
			change:    func(c *call) { c.blocked[bpfWaitWAIT_LOCK] = 3_000_001 },
			onCPU:     0,
			blockedOn: "lock",
		},
		"not blocked": {
			change: func(c *call) { c.blocked = [bpfWaitWAIT_KINDS]time.Duration{} },
			onCPU:  3_900_000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := decodedCall()
			if test.change != nil {
				test.change(&c)
			}
			if c.onCPU() != test.onCPU || c.blockedOn() != test.blockedOn {
				t.Errorf("on the CPU %v, blocked on %q, want %v and %q", c.onCPU(), c.blockedOn(), test.onCPU, test.blockedOn)
			}
		})
	}
}

func TestNetwork(t *testing.T) {
	v6 := netip.MustParseAddrPort("[::1]:1")
	for name, test := range map[string]struct {
		call            call
		transport, kind string
	}{
		"TCP over IPv4":                    {call: decodedCall(), transport: "tcp", kind: "ipv4"},
		"TCP over IPv6":                    {call: call{family: familyIPv6, protocol: 6, local: v6}, transport: "tcp", kind: "ipv6"},
		"IPv4 on an IPv6 socket is IPv4":   {call: call{family: familyIPv6, protocol: 17, local: decodedCall().local}, transport: "udp", kind: "ipv4"},
		"IPv4 that was only tried is IPv4": {call: call{family: familyIPv6, protocol: 17, peer: decodedCall().peer}, transport: "udp", kind: "ipv4"},
		"MPTCP is TCP":                     {call: call{family: familyIPv4, protocol: protocolMPTCP}, transport: "tcp", kind: "ipv4"},
		"a protocol without a name":        {call: call{family: familyIPv4, protocol: 300}, kind: "ipv4"},
		"a unix socket":                    {call: call{family: familyUnix}, transport: "unix"},
		"netlink":                          {call: call{family: 16, protocol: 6}},
		"no socket":                        {},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.call.networkTransport(); got != test.transport {
				t.Errorf("networkTransport() = %q, want %q", got, test.transport)
			}
			if got := test.call.networkType(); got != test.kind {
				t.Errorf("networkType() = %q, want %q", got, test.kind)
			}
		})
	}
}

// rawCall returns a record as the BPF programs write it, and decodedCall the call that it must become.
func rawCall() bpfCall {
	var raw bpfCall
	raw.StartNs, raw.DurationNs = 5_000_000_000, 4_000_000
	raw.RunnableNs, raw.IdleNs = 100_000, 2_000_000
	raw.BlockedNs[bpfWaitWAIT_RECEIVE_QUEUE] = 3_000_000
	raw.Result = 512
	raw.Process.StartNs, raw.Process.Pid, raw.Process.ExecId = 100, 3165, 2
	raw.Process.Uid, raw.Process.RealUid = 1000, 1000
	raw.Seen.FirstNs, raw.Seen.CgroupId = 5_000_000_001, 77
	copy(raw.Seen.Comm[:], chars("curl"))
	copy(raw.Seen.Executable[:], chars("curl"))
	copy(raw.ThreadName[:], chars("resolver"))
	raw.LocalAddress = netip.MustParseAddr("::ffff:10.64.0.5").As16()
	raw.PeerAddress = netip.MustParseAddr("::ffff:10.64.0.227").As16()
	raw.LocalPort, raw.PeerPort = 51514, 443
	raw.NetnsInode, raw.ThreadId, raw.Syscall, raw.Fd = 4026531840, 3166, int32(number("recvfrom")), 7
	raw.Family, raw.Protocol = familyIPv4, 6
	raw.Reason = bpfReasonREASON_SLOW
	raw.Nodes = 5
	set := func(i int, function uint16, parent uint8, start, duration uint64, result int32, flags bpfNodeFlag) {
		n := &raw.Node[i]
		n.Function, n.Parent, n.StartNs, n.DurationNs, n.Result, n.Flags = function, parent, start, duration, result, flags
	}
	set(0, 0, noNode, 0, 4_000_000, 512, 0)
	set(1, 1, 0, 1_000, 3_999_000, 512, 0)
	set(2, functionOffCPU, 1, 2_000, 3_100_000, 100_000, bpfNodeFlag(bpfWaitWAIT_RECEIVE_QUEUE<<waitShift))
	set(3, 4, 1, 3_500_000, 0, 0, bpfNodeFlagNODE_POINT)
	set(4, 2, 1, 3_600_000, 1_000, -11, 0)
	return raw
}

func decodedCall() call {
	c := call{
		process:    curl,
		seen:       process.Seen{FirstNanos: 5_000_000_001, CgroupID: 77, Comm: "curl", Executable: "curl"},
		startNanos: 5_000_000_000,
		duration:   4_000_000,
		runnable:   100_000,
		idle:       2_000_000,
		result:     512,
		threadID:   3166,
		threadName: "resolver",
		syscall:    number("recvfrom"),
		fd:         7,
		local:      netip.MustParseAddrPort("10.64.0.5:51514"),
		peer:       netip.MustParseAddrPort("10.64.0.227:443"),
		netnsInode: 4026531840,
		family:     familyIPv4,
		protocol:   6,
		reason:     bpfReasonREASON_SLOW,
		nodes: []node{
			{function: 0, parent: -1, duration: 4_000_000, result: 512},
			{function: 1, parent: 0, start: 1_000, duration: 3_999_000, result: 512},
			{kind: offCPU, parent: 1, start: 2_000, duration: 3_100_000, runnable: 100_000, wait: bpfWaitWAIT_RECEIVE_QUEUE},
			{kind: ofTracepoint, function: 4, parent: 1, start: 3_500_000},
			{function: 2, parent: 1, start: 3_600_000, duration: 1_000, result: -11},
		},
	}
	c.blocked[bpfWaitWAIT_RECEIVE_QUEUE] = 3_000_000
	return c
}

// number returns the number of a system call, which depends on the architecture.
func number(syscall string) int { return int(syscallNumbers([]string{syscall})[0]) }

// encode returns a record up to its last node, or to what follows it.
func encode(t testing.TB, raw bpfCall) []byte {
	t.Helper()
	record, err := binary.Append(nil, binary.NativeEndian, raw)
	if err != nil {
		t.Fatal(err)
	}
	return record[:headBytes+int(raw.Nodes)*nodeBytes+pathBytes(&raw)+stackBytes(&raw)]
}

// repeatNode repeats the last node until there is no room for another one.
func repeatNode(raw *bpfCall) {
	for int(raw.Nodes) < maxNodes {
		raw.Node[raw.Nodes] = raw.Node[raw.Nodes-1]
		raw.Nodes++
	}
}

// withPath puts a path behind the nodes.
func withPath(raw *bpfCall, end bpfPathEnd, path string) {
	raw.PathEnd, raw.PathBytes = end, uint8(len(path))
	room := unsafe.Slice((*byte)(unsafe.Pointer(&raw.Node[raw.Nodes])), pathBytes(raw))
	copy(room, path)
}

// withStack puts a stack behind the nodes and the path.
func withStack(raw *bpfCall, addresses ...uint64) {
	raw.Frames = uint8(len(addresses))
	behind := int(raw.Nodes) + pathBytes(raw)/nodeBytes
	copy(unsafe.Slice((*uint64)(unsafe.Pointer(&raw.Node[behind])), maxFrames), addresses)
}

func chars(text string) []int8 {
	signed := make([]int8, len(text))
	for i := range signed {
		signed[i] = int8(text[i])
	}
	return signed
}
