// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// The addresses of expected_kernel_linux_test.go as the kernel has them.
var (
	rawNowhere  = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: 9 << 8, Addr: nowhere.Addr}
	rawNowhere6 = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: 9 << 8, Addr: nowhere6.Addr}
)

// rawPath returns the address of a Unix socket, and its length.
func rawPath(path string) (raw unix.RawSockaddrUnix, length uint64) {
	raw.Family = unix.AF_UNIX
	for i := range len(path) {
		raw.Path[i] = int8(path[i])
	}
	return raw, uint64(2 + len(path) + 1)
}

// ringFailures has operations of an io_uring fail, in its own thread and in its workers. Each must say
// where to, and the filters must see that.
func ringFailures(t testing.TB, o *fixture) {
	requireRing(t)
	for name, filter := range map[string]Filter{"all": {}, "a port": {Ports: []uint16{9}}} {
		var want []reported
		thread := onThread(func() {
			s := newSocketsThatFail(t)
			o.want(t, Options{MinDuration: time.Hour, Errors: Errnos{All: true}, Filter: filter})
			want = o.failByRing(t, s, filter)
		})
		var got []reported
		for _, r := range slices.Concat(o.reported(t, thread), o.reportedByWorkers(t)) {
			if r.Syscall == "io_uring_enter" || r.Syscall == "" {
				got = append(got, r)
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("operations that fail, filtered by %s, differ (-want +got):\n%s", name, diff)
		}
	}
}

// failByRing submits operations that fail, and returns what must be reported of them: first those of the
// ring's own thread.
func (o *fixture) failByRing(t testing.TB, s socketsThatFail, filter Filter) (want []reported) {
	var pinner runtime.Pinner
	defer pinner.Unpin()
	path, pathLength := rawPath(s.path)
	in4, in6, content := rawNowhere, rawNowhere6, [1]byte{}
	message := unix.Msghdr{Name: (*byte)(unsafe.Pointer(&in4)), Namelen: unix.SizeofSockaddrInet4, Iov: &unix.Iovec{Base: &content[0], Len: 1}, Iovlen: 1}
	for _, memory := range []any{&path, &in4, &in6, &content, message.Iov, &message} {
		pinner.Pin(memory)
	}
	const in4Length, in6Length = unix.SizeofSockaddrInet4, unix.SizeofSockaddrInet6
	ring := kerneltest.NewRing()
	defer ring.Close()
	for _, f := range []struct {
		request            kerneltest.Submission
		name, error, where string
		few                bool // it is seen where only few functions are
	}{
		{kerneltest.Submission{Opcode: kerneltest.RingConnect, FD: int32(s.tcp), Address: addressOf(&in4), Offset: in4Length}, "connect", "ENETUNREACH", "192.0.2.1:9", true},
		{kerneltest.Submission{Opcode: kerneltest.RingConnect, FD: int32(s.udp6), Address: addressOf(&in6), Offset: in6Length}, "connect", "ENETUNREACH", "[2001:db8::1]:9", true},
		{kerneltest.Submission{Opcode: kerneltest.RingConnect, FD: int32(s.stream), Address: addressOf(&path), Offset: pathLength}, "connect", "ENOENT", s.path, true},
		{kerneltest.Submission{Opcode: kerneltest.RingSendmsg, FD: int32(s.udp), Address: addressOf(&message)}, "sendmsg", "ENETUNREACH", "192.0.2.1:9", false},
		{kerneltest.Submission{Opcode: kerneltest.RingBind, FD: int32(s.tcp), Address: addressOf(&in4), Offset: in4Length}, "bind", "EADDRNOTAVAIL", "192.0.2.1:9", false},
		{kerneltest.Submission{Opcode: kerneltest.RingConnect, Flags: kerneltest.RingAsync, FD: int32(s.tcp), Address: addressOf(&in4), Offset: in4Length}, "connect", "ENETUNREACH", "192.0.2.1:9", true},
	} {
		if o.functions() && o.few && !f.few {
			continue
		}
		number, _ := ErrnoNumber(f.error)
		result := -ring.Do(f.request).Result
		if f.request.Opcode == kerneltest.RingBind && unix.Errno(result) == unix.EINVAL {
			continue // this operation came with Linux 6.11
		}
		if result != int32(number) {
			t.Errorf("%s ends with %v, not with %s", f.name, unix.Errno(result), f.error)
		}
		r := reported{Syscall: "io_uring_enter", Kept: "failed", Error: f.error, Failed: true}
		if f.request.Flags&kerneltest.RingAsync != 0 {
			r.Syscall = ""
		}
		if o.rung != "kprobe" {
			r.Where = f.where
		}
		if o.functions() && (filter.Ports == nil || strings.HasSuffix(r.Where, ":9")) {
			want = append(want, r)
		}
	}
	return want
}

// reportedByWorkers returns what the trees of workers of rings say.
func (o *fixture) reportedByWorkers(t testing.TB) (all []reported) {
	var workers []int64
	for _, tr := range o.collect(t) {
		name, _ := tr.value("thread.name").(string)
		id, _ := tr.value("nettap.thread.id").(int64)
		if strings.HasPrefix(name, "iou-wrk-") && !slices.Contains(workers, id) {
			workers = append(workers, id)
			all = append(all, o.reported(t, int(id))...)
		}
	}
	return all
}
