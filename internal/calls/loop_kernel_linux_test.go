// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// enoughForALoop is how many exchanges make a loop, and some more.
//
// Kernel side: LOOP_CALLS in bpf/lib/calls/loop.h, and each exchange is two calls.
const enoughForALoop = 100

// clocksDiffer is by how much the clock that programs read may differ from the one of user space.
const clocksDiffer = 10 * time.Microsecond

// period is what user space saw of a call.
type period struct{ began, ended time.Time }

// during returns when f began and ended, by the clock of the programs.
func during(f func()) period {
	began := sinceBoot()
	f()
	return period{began, sinceBoot()}
}

func sinceBoot() time.Time { return time.Unix(0, int64(nanosOf(unix.CLOCK_BOOTTIME))).UTC() }

// keepBootTime lets spans have times since boot, as converting them is not exact to the nanosecond.
func (o *fixture) keepBootTime() (restore func()) {
	wall := o.calls.emitter.wall
	o.calls.emitter.wall = func(bootNanos uint64) time.Time { return time.Unix(0, int64(bootNanos)).UTC() }
	return func() { o.calls.emitter.wall = wall }
}

// checkPeriod checks that a call began and ended between two times each.
func (tr tree) checkPeriod(t testing.TB, began, ended period) {
	t.Helper()
	for _, end := range []struct {
		what   string
		got    time.Time
		within period
	}{
		{"began", tr.root.StartTimestamp().AsTime(), began},
		{"ended", tr.root.EndTimestamp().AsTime(), ended},
	} {
		if end.got.Before(end.within.began.Add(-clocksDiffer)) || end.got.After(end.within.ended.Add(clocksDiffer)) {
			t.Errorf("%s %s at %v, want between %v and %v", tr.root.Name(), end.what, end.got, end.within.began, end.within.ended)
		}
	}
}

// exchangeMany makes many short calls one after the other. It returns in what time two of them were made, at most.
func exchangeMany(from, to int) (longest time.Duration) {
	var buffer [1]byte
	last := nanosOf(unix.CLOCK_BOOTTIME)
	for range enoughForALoop {
		transfer(unix.SYS_SENDTO, from, &buffer)
		transfer(unix.SYS_RECVFROM, to, &buffer)
		now := nanosOf(unix.CLOCK_BOOTTIME)
		longest, last = max(longest, time.Duration(now-last)), now
	}
	return longest
}

// transfer makes a call that the runtime does not notice.
//
//go:nosplit
func transfer(call uintptr, fd int, buffer *[1]byte) {
	unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(buffer)), 1, 0, 0, 0)
}

//go:nosplit
func nanosOf(clock uintptr) uint64 {
	var now unix.Timespec
	unix.RawSyscall(unix.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0)
	return uint64(now.Sec)*1e9 + uint64(now.Nsec)
}

// amongShortCalls makes a call that waits and one that fails between calls whose end is not measured.
func amongShortCalls(t testing.TB, o *fixture) {
	const long = 300 * time.Millisecond
	client, server := connectTCP(t)
	defer o.keepBootTime()()
	o.want(t, Options{MinDuration: long / 3, Errors: Errnos{All: true}, IdleWaits: true})
	var waits, fails period
	var sends atomic.Pointer[period]
	thread := onThread(func() {
		exchangeMany(client, server)
		go func() {
			time.Sleep(long)
			began := sinceBoot()
			sends.Store(&period{began: began})
			send(t, client, 1)
		}()
		waits = during(func() { receive(server) })
		exchangeMany(client, server)
		fails = during(func() { unix.Recvfrom(server, make([]byte, 1), unix.MSG_DONTWAIT|unix.MSG_OOB) }) // EINVAL: there is none
		exchangeMany(client, server)
	})
	want := []deed{
		{Syscall: "recvfrom", FD: int64(server), Bytes: int64(1), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue"},
		{Syscall: "recvfrom", FD: int64(server), Transport: "tcp", Kept: "failed", Error: "EINVAL"},
	}
	if diff := gocmp.Diff(want, o.deeds(t, thread)); diff != "" {
		t.Fatalf("calls differ (-want +got):\n%s", diff)
	}
	sent := sends.Load().began
	trees := o.by(t, thread)
	trees[0].checkPeriod(t, period{waits.began, sent}, period{sent, waits.ended})
	trees[1].checkPeriod(t, fails, fails)
	const calls uint64 = 3*2*enoughForALoop + 3 // with the one that waits, the send for which it does, and the one that fails
	eventually(t, func() string {
		if counts, n := o.counts(t), o.unmeasured(t); counts.Seen != counts.SampledOut+uint64(len(o.trees)) || counts.Seen < calls || n > 0 {
			return fmt.Sprintf("the counts are %+v, want %d calls, of which %d are reported, and %d may have been slow", counts, calls, len(o.trees), n)
		}
		return ""
	})
}

// largeMessages are so many that sending all of them with one sendmmsg takes milliseconds. The socket that they are for
// has no room.
type largeMessages struct {
	fd   int
	list [1024]struct {
		header unix.Msghdr
		sent   uint32
		_      uint32
	}
}

func newLargeMessages(t testing.TB) *largeMessages {
	t.Helper()
	sockets := make([]int, 2)
	for i := range sockets {
		sockets[i] = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
		t.Cleanup(func() { unix.Close(sockets[i]) })
	}
	if err := unix.Bind(sockets[1], &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(sockets[1], unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(sockets[0], must(unix.Getsockname(sockets[1]))); err != nil {
		t.Fatal(err)
	}
	m := &largeMessages{fd: sockets[0]}
	content := make([]byte, 60_000)
	vector := unix.Iovec{Base: &content[0], Len: uint64(len(content))}
	for i := range m.list {
		m.list[i].header.Iov, m.list[i].header.Iovlen = &vector, 1
	}
	return m
}

func (m *largeMessages) send(t testing.TB) {
	if n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(m.fd), uintptr(unsafe.Pointer(&m.list)), uintptr(len(m.list)), 0, 0, 0); int(n) != len(m.list) {
		t.Errorf("sent %d messages: %v", n, errno)
	}
}

// busyCalls are slow without waiting. In a loop this is seen if the kernel's clock has ticked.
func busyCalls(t testing.TB, o *fixture) {
	client, server := connectTCP(t)
	messages := newLargeMessages(t)
	defer o.keepBootTime()()
	options := Options{MinDuration: time.Millisecond}
	o.want(t, options)
	var alone, inLoop period
	ticked := false
	thread := onThread(func() {
		time.Sleep(options.MinDuration)
		alone = during(func() { messages.send(t) })
		exchangeMany(client, server)
		before := nanosOf(unix.CLOCK_MONOTONIC_COARSE)
		inLoop = during(func() { messages.send(t) })
		ticked = nanosOf(unix.CLOCK_MONOTONIC_COARSE) != before
		exchangeMany(client, server)
	})
	want := []period{alone}
	if ticked {
		want = append(want, inLoop)
	}
	var slow []tree
	for _, tr := range o.by(t, thread) {
		if tr.root.Name() == "sendmmsg" && tr.value("nettap.call.kept") == "slow" {
			slow = append(slow, tr)
		}
	}
	if alone.ended.Sub(alone.began) < 2*options.MinDuration || len(slow) < len(want) {
		t.Fatalf("%d calls were slow, want those of %v", len(slow), want)
	}
	for i, within := range want {
		slow[i].checkPeriod(t, within, within)
	}
}

// unmeasured returns how many calls may have taken too long since want.
func (o *fixture) unmeasured(t testing.TB) uint64 {
	t.Helper()
	o.collect(t)
	return o.recorder.Read().Unmeasured - o.base.Unmeasured
}

// unmeasuredCalls makes a call after many others, and then none for so long that it may have been slow for all that is known.
func unmeasuredCalls(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	options := Options{MinDuration: 20 * time.Millisecond}
	for range 50 {
		o.want(t, options)
		undisturbed := false
		thread := onThread(func() { undisturbed = pauseAfterMany(t, fds, options.MinDuration) })
		if !undisturbed {
			continue
		}
		if deeds, n := o.deeds(t, thread), o.unmeasured(t); len(deeds) > 0 || n != 1 {
			t.Errorf("%d calls may have been slow, want 1, and these were: %v", n, deeds)
		}
		onThread(func() {
			exchangeMany(fds[0], fds[1])
			time.Sleep(2 * options.MinDuration)
			exchangeMany(fds[0], fds[1])
		})
		if n := o.unmeasured(t); n != 1 {
			t.Errorf("%d calls may have been slow, want 1, since a thread that sleeps is in no call", n)
		}
		return
	}
	t.Error("it was disturbed each time")
}

// pauseAfterMany keeps the processor for longer than the least duration between two of many calls. The result is false if
// the thread lost the processor in this time, if the calls were too far from each other, or if the kernel's clock ticked during the
// last one before the pause. The runtime's own wish to interrupt a thread, a signal, is not heard meanwhile.
func pauseAfterMany(t testing.TB, fds [2]int, least time.Duration) (undisturbed bool) {
	deaf := unix.Sigset_t{Val: [len(unix.Sigset_t{}.Val)]uint64{1 << (unix.SIGURG - 1)}}
	first := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 60}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &deaf, nil); err != nil {
		t.Error(err)
	}
	if err := unix.SchedSetAttr(0, first, 0); err != nil {
		t.Error(err)
	}
	var buffer [1]byte
	var before, after unix.Rusage
	longest := exchangeMany(fds[0], fds[1])
	usageOf(&before)
	coarse := nanosOf(unix.CLOCK_MONOTONIC_COARSE)
	began := nanosOf(unix.CLOCK_BOOTTIME)
	transfer(unix.SYS_SENDTO, fds[0], &buffer)
	ticked := nanosOf(unix.CLOCK_MONOTONIC_COARSE) != coarse
	for nanosOf(unix.CLOCK_BOOTTIME)-began < uint64(2*least) {
	}
	transfer(unix.SYS_RECVFROM, fds[1], &buffer)
	usageOf(&after)
	return longest < least/8 && !ticked && before.Nvcsw == after.Nvcsw && before.Nivcsw == after.Nivcsw
}

//go:nosplit
func usageOf(usage *unix.Rusage) {
	unix.RawSyscall(unix.SYS_GETRUSAGE, unix.RUSAGE_THREAD, uintptr(unsafe.Pointer(usage)), 0)
}
