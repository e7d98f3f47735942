// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

type callTest struct {
	name string
	test func(t testing.TB, o *fixture)
}

// testsOfArchitecture are further tests of TestKernelReportsCalls.
var testsOfArchitecture []callTest

// TestKernelReportsCalls starts each rung only once, for all tests, because that takes long on an
// emulated machine.
func TestKernelReportsCalls(t *testing.T) {
	onEachRung(t, func(t *testing.T, o *fixture) {
		tests := []callTest{
			{"with their system call, descriptor and bytes", callsOfAPair},
			{"with the functions inside", functionsInside},
			{"with their root alone, if they were not followed", rootsAlone},
			{"on sockets and not on files", filesAndSockets},
			{"with the ends of the connection", connectionEnds},
			{"that fail", failures},
			{"that fail as was not expected", expectedFailures},
			{"of many threads that wait", manyThatWait},
			{"of many threads at once", manyAtOnce},
			{"but not what interrupts do", interrupts},
			{"that a signal interrupts", interrupted},
			{"of a process that ends", ends},
			{"of a process that executes another program", becomes},
			{"of a thread that has the id of another one", inherits},
			{"with the time off the CPU", offTheCPU},
			{"among many short ones", amongShortCalls},
			{"that are busy", busyCalls},
			{"that may have been slow", unmeasuredCalls},
			{"that fail through an io_uring", ringFailures},
			{"through an io_uring", throughRing},
			{"by the workers of an io_uring", byRingWorkers},
			{"of an io_uring behind another call", behindAnother},
			{"on each step of the limit", onEachStep},
			{"under way as a step is taken", acrossSteps},
			{"that wait as a step is taken", waitsAcrossSteps},
		}
		if o.functions() {
			tests = append(tests, callTest{"of a kernel thread", ofKernelThread})
		}
		if !o.few {
			tests = append(tests, callTest{"as far as they go", truncated})
		}
		if o.best || !testing.Short() {
			tests = append(tests, []callTest{ // these do not depend on the rung
				{"that fail with chosen errors", chosenErrors},
				{"by chance that fail as was expected", expectedByChance},
				{"that fail in a thread as was expected", expectedOfThreads},
				{"but not for waiting for work", waitingForWork},
				{"of a thread that receives what another one asks for", readingForOthers},
				{"of a thread that has connected and receives what another one asks for", readingForOthersAfterConnect},
				{"by chance", byChance},
				{"that the filter lets through", filtered},
				{"of processes in chosen cgroups", inCgroups},
			}...)
		}
		for _, test := range slices.Concat(tests, testsOfArchitecture) {
			t.Run(test.name, func(t *testing.T) { o.try(t, test.test) })
		}
	})
}

// pair returns two connected sockets.
func pair(t testing.TB, kind int) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// receive ignores an error, because some tests provoke one; in the others the reported calls would show it.
func receive(fd int) int {
	n, _, _ := unix.Recvfrom(fd, make([]byte, 1<<16), 0)
	return n
}

func send(t testing.TB, fd int, bytes int) {
	if err := unix.Sendto(fd, make([]byte, bytes), 0, nil); err != nil {
		t.Error(err)
	}
}

func callsOfAPair(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{})
	thread := onThread(func() {
		send(t, fds[0], 5)
		receive(fds[1])
		unix.Sendmsg(fds[0], make([]byte, 3), nil, nil, 0)
		unix.Recvmsg(fds[1], make([]byte, 10), nil, 0)
		unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_RCVBUF, 65536)
		unix.Shutdown(fds[0], unix.SHUT_WR)
	})
	want := []deed{
		{Syscall: "sendto", FD: int64(fds[0]), Bytes: int64(5), Transport: "unix", Kept: "slow"},
		{Syscall: "recvfrom", FD: int64(fds[1]), Bytes: int64(5), Transport: "unix", Kept: "slow"},
		{Syscall: "sendmsg", FD: int64(fds[0]), Bytes: int64(3), Transport: "unix", Kept: "slow"},
		{Syscall: "recvmsg", FD: int64(fds[1]), Bytes: int64(3), Transport: "unix", Kept: "slow"},
		{Syscall: "setsockopt", FD: int64(fds[0]), Transport: "unix", Kept: "slow"},
		{Syscall: "shutdown", FD: int64(fds[0]), Transport: "unix", Kept: "slow"},
	}
	if diff := gocmp.Diff(want, o.deeds(t, thread)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
	for _, tr := range o.by(t, thread) {
		if tr.root.Kind() != ptrace.SpanKindInternal || tr.root.Name() != tr.value("nettap.call.syscall") || !strings.Contains(tr.function(), tr.root.Name()) {
			t.Errorf("the root is %v %q of function %v", tr.root.Kind(), tr.root.Name(), tr.function())
		}
		if pid := value(tr.resource, "process.pid"); pid != int64(unix.Getpid()) {
			t.Errorf("the process is %v", pid)
		}
	}
	if got := o.counts(t); int(got.Seen) != len(o.trees) || len(got.Lost) > 0 || got.SampledOut > 0 {
		t.Errorf("the counts are %+v, and there are %d trees", got, len(o.trees))
	}
}

// functionsInside looks for functions that no compiler inlines on any of the kernels.
func functionsInside(t testing.TB, o *fixture) {
	client, server := connectTCP(t)
	o.want(t, Options{})
	thread := onThread(func() {
		send(t, client, 10)
		receive(server)
	})
	trees := o.by(t, thread)
	if len(trees) != 2 {
		t.Fatalf("there are %d trees, want 2", len(trees))
	}
	want := []string{"tcp_sendmsg", "sock_recvmsg or move_addr_to_user"}
	if !o.functions() {
		want = []string{"net_dev_queue", ""}
	}
	for i, names := range want {
		found := slices.ContainsFunc(strings.Split(names, " or "), trees[i].has)
		if names != "" && !found {
			t.Errorf("%s is not in %v", names, trees[i].nestings())
		}
	}
}

func filesAndSockets(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	var files [2]int
	if err := unix.Pipe(files[:]); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(files[0])
	defer unix.Close(files[1])
	o.want(t, Options{})
	thread := onThread(func() {
		buffer := make([]byte, 100)
		unix.Write(files[1], buffer[:7])
		unix.Read(files[0], buffer)
		unix.Write(fds[0], buffer[:4])
		unix.Read(fds[1], buffer)
		unix.Writev(fds[0], [][]byte{buffer[:1], buffer[:2]})
		unix.Readv(fds[1], [][]byte{buffer})
		unix.Write(files[1], buffer[:6])
		unix.Splice(files[0], nil, fds[0], nil, 6, 0)
		unix.Splice(fds[1], nil, files[1], nil, 6, 0)
	})
	on := func(syscall string, fd, bytes int) deed {
		return deed{Syscall: syscall, FD: int64(fd), Bytes: int64(bytes), Transport: "unix", Kept: "slow"}
	}
	want := []deed{
		on("write", fds[0], 4), on("read", fds[1], 4), on("writev", fds[0], 3), on("readv", fds[1], 3),
		on("splice", fds[0], 6), on("splice", fds[1], 6),
	}
	got := o.deeds(t, thread)
	// A splice can go through several functions of the file, one after the other.
	got = slices.CompactFunc(got, func(a, b deed) bool { return a.Syscall == "splice" && b.Syscall == "splice" && a.FD == b.FD })
	for i := range got {
		if got[i].Syscall == "splice" {
			got[i].Bytes = int64(6)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// connectTCP returns the ends of a connection on lo.
func connectTCP(t testing.TB) (client, server int) {
	t.Helper()
	listener := listenTCP(t)
	client = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	if err := unix.Connect(client, must(unix.Getsockname(listener))); err != nil {
		t.Fatal(err)
	}
	server, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(client)
		unix.Close(server)
	})
	return client, server
}

func listenTCP(t testing.TB) int {
	t.Helper()
	listener := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	if err := unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 128); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(listener) })
	return listener
}

func localOf(fd int) netip.AddrPort {
	address := must(unix.Getsockname(fd)).(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(address.Port))
}

// rootsAlone makes calls that are slow, that fail and that do neither. The functions inside a call are
// only known if it was chosen when it began.
func rootsAlone(t testing.TB, o *fixture) {
	const long = 300 * time.Millisecond
	client, server := connectTCP(t)
	act := func() (thread int) {
		return onThread(func() {
			send(t, client, 1)
			receive(server)
			go func() {
				time.Sleep(2 * long)
				send(t, server, 2)
			}()
			receive(client)
			unix.Recvfrom(client, make([]byte, 1), unix.MSG_DONTWAIT|unix.MSG_OOB) // EINVAL: there is none
		})
	}
	sent := deed{Syscall: "sendto", FD: int64(client), Bytes: int64(1), Transport: "tcp", Kept: "sampled"}
	received := deed{Syscall: "recvfrom", FD: int64(server), Bytes: int64(1), Transport: "tcp", Kept: "sampled"}
	slow := deed{Syscall: "recvfrom", FD: int64(client), Bytes: int64(2), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue"}
	failed := deed{Syscall: "recvfrom", FD: int64(client), Transport: "tcp", Kept: "failed", Error: "EINVAL"}
	for name, test := range map[string]struct {
		options  Options
		want     []deed
		rootOnly any
	}{
		"the sample has none": {Options{MinDuration: long, Errors: Errnos{All: true}}, []deed{slow, failed}, true},
		"all are followed":    {Options{MinDuration: long, Errors: Errnos{All: true}, FollowAll: true}, []deed{slow, failed}, nil},
		"the sample is all":   {Options{MinDuration: long, Errors: Errnos{All: true}, SampleRatio: 1}, []deed{sent, received, slow, failed}, nil},
	} {
		o.want(t, test.options)
		thread := act()
		if diff := gocmp.Diff(test.want, o.deeds(t, thread)); diff != "" {
			t.Errorf("%s: calls differ (-want +got):\n%s", name, diff)
		}
		for _, tr := range o.by(t, thread) {
			inside := len(tr.nestings())
			if tr.value("nettap.call.root_only") != test.rootOnly || test.rootOnly == true && inside > 0 ||
				test.rootOnly == nil && inside == 0 && o.functions() { // on some kernels not every call has tracepoints inside
				t.Errorf("%s: %s has %v inside, root_only: %v", name, tr.root.Name(), tr.nestings(), tr.value("nettap.call.root_only"))
			}
			var want []string
			if deedOf(tr) == slow {
				want = o.whereItWaits(t)
			}
			if diff := gocmp.Diff(want, leadingTo(tr, functionsOfAReceive)); diff != "" {
				t.Errorf("%s: the stack of %s differs (-want +got):\n%s%v", name, tr.root.Name(), diff, tr.value("code.stacktrace"))
			}
		}
		eventually(t, func() string { // the last call to send may not have returned yet
			if counts := o.counts(t); counts.Seen != counts.SampledOut+uint64(len(o.trees)) || counts.Seen < 5 {
				return fmt.Sprintf("%s: the counts are %+v, and there are %d trees", name, counts, len(o.trees))
			}
			return ""
		})
	}
}

// functionsOfAReceive are those through which a receive by TCP waits, innermost first, that no compiler puts away.
var functionsOfAReceive = []string{"tcp_recvmsg", "__sys_recvfrom"}

// whereItWaits returns those of them that are in a stack. None is read if the ends of functions are probed and the kernel says so.
// Before Linux 5.11 it does not: on x86-64 the stack ends at the first such function then.
func (o *fixture) whereItWaits(t testing.TB) []string {
	if o.rung != "kprobe" {
		return functionsOfAReceive
	}
	var task *btf.Struct
	if err := must(kernel.Types()).TypeByName("task_struct", &task); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(task.Members, func(m btf.Member) bool { return m.Name == "rethooks" || m.Name == "kretprobe_instances" }) {
		return nil
	}
	if runtime.GOARCH == "amd64" {
		return functionsOfAReceive[:1]
	}
	return functionsOfAReceive
}

// leadingTo returns those functions that the stack of a call has, as often and in the order in which it has them.
func leadingTo(tr tree, functions []string) []string {
	stack, _ := tr.value("code.stacktrace").(string)
	var found []string
	for function := range strings.SplitSeq(stack, "\n") {
		if slices.Contains(functions, function) {
			found = append(found, function)
		}
	}
	return found
}

func connectionEnds(t testing.TB, o *fixture) {
	o.want(t, Options{})
	var ends [2]netip.AddrPort
	thread := onThread(func() {
		listener := listenTCP(t)
		client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		defer unix.Close(client)
		unix.Connect(client, must(unix.Getsockname(listener)))
		server, _, _ := unix.Accept(listener)
		defer unix.Close(server)
		send(t, client, 1)
		receive(server)
		ends = [2]netip.AddrPort{localOf(client), localOf(server)}
	})
	got := map[string][2]string{}
	for _, tr := range o.by(t, thread) {
		if tr.value("network.peer.port") == nil || tr.value("network.peer.port") == int64(0) {
			continue
		}
		end := func(side string) string {
			return fmt.Sprintf("%v:%v", tr.value("network."+side+".address"), tr.value("network."+side+".port"))
		}
		got[deedOf(tr).Syscall] = [2]string{end("local"), end("peer")}
	}
	for _, syscall := range []string{"close", "getsockname", "getsockopt"} {
		delete(got, syscall)
	}
	client, server := ends[0].String(), ends[1].String()
	want := map[string][2]string{
		"connect": {client, server}, "accept": {server, client}, "sendto": {client, server}, "recvfrom": {server, client},
	}
	if _, ok := got["accept4"]; ok {
		want["accept4"] = want["accept"]
		delete(want, "accept")
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("ends differ (-want +got):\n%s", diff)
	}
}

// closedPort returns an address on which nothing listens, and nothing can listen until the test ends.
func closedPort(t testing.TB) unix.Sockaddr {
	t.Helper()
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return must(unix.Getsockname(fd))
}

func failures(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{MinDuration: time.Hour, Errors: Errnos{All: true}})
	closed := closedPort(t)
	thread := onThread(func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		defer unix.Close(fd)
		unix.Connect(fd, closed)
		unix.Recvfrom(fds[0], make([]byte, 1), unix.MSG_DONTWAIT) // EAGAIN is no failure
		unix.Sendto(fds[0], make([]byte, 1), 0, nil)
	})
	trees := o.by(t, thread)
	if len(trees) != 1 {
		t.Fatalf("there are %d trees, want 1", len(trees))
	}
	got := deedOf(trees[0])
	if got.Syscall != "connect" || got.Error != "ECONNREFUSED" || got.Kept != "failed" || trees[0].root.Status().Code() != ptrace.StatusCodeError {
		t.Errorf("the tree is %+v with status %v", got, trees[0].root.Status().Code())
	}
	if port := int64(closed.(*unix.SockaddrInet4).Port); trees[0].value("network.peer.port") != port || trees[0].value("network.peer.address") != "127.0.0.1" {
		t.Errorf("it connected to %v:%v, not to port %d", trees[0].value("network.peer.address"), trees[0].value("network.peer.port"), port)
	}
}

func chosenErrors(t testing.TB, o *fixture) {
	number, _ := ErrnoNumber("ENOTCONN")
	o.want(t, Options{MinDuration: time.Hour, Errors: Errnos{Numbers: []uint32{number}}})
	closed := closedPort(t)
	thread := onThread(func() {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
		defer unix.Close(fd)
		unix.Connect(fd, closed)
		unix.Getpeername(fd)
	})
	got := o.deeds(t, thread)
	if len(got) != 1 || got[0].Syscall != "getpeername" || got[0].Error != "ENOTCONN" {
		t.Errorf("the calls are %+v", got)
	}
}

// manyThatWait blocks 60 threads at once, twice.
func manyThatWait(t testing.TB, o *fixture) {
	const threads = 60
	o.want(t, Options{})
	var waited []int
	for range 2 {
		waited = append(waited, blockAtOnce(t, threads)...)
	}
	o.collect(t)
	counts, missed := o.counts(t), o.missed(t)
	seen := map[int]int{}
	for _, tr := range o.trees {
		d := deedOf(tr)
		if d.Syscall != "recvfrom" || tr.value("nettap.call.errno") == "ERESTARTSYS" {
			continue // a signal interrupted the call, which was made again
		}
		seen[int(tr.value("nettap.thread.id").(int64))]++
		// If the beginning of a call was missed, the functions inside it are seen as calls.
		if missed == 0 && (d.BlockedOn != "receive_queue" || d.Bytes != int64(1)) {
			t.Errorf("a call that waited is %+v", d)
		}
	}
	whole := 0
	for _, thread := range waited {
		whole += seen[thread]
	}
	lost := int(counts.Lost["unfinished"])
	if missed == 0 && whole+lost != 2*threads || whole > 2*threads+missed || whole+lost+missed < 2*threads {
		t.Errorf("of %d calls %d are trees and %d are lost; %d runs of programs are missing", 2*threads, whole, lost, missed)
	}
	if lost > 0 && missed == 0 && o.rung != "kprobe" {
		t.Errorf("%d calls are lost: %v", lost, counts.Lost)
	}
}

// blockAtOnce lets threads wait for a byte, all at the same time, and returns their
// ids. Each makes one more call, by which the programs notice that they did not see the end of the first.
func blockAtOnce(t testing.TB, threads int) []int {
	t.Helper()
	var waiting sync.WaitGroup
	ids, fds := make([]int, threads), make([][2]int, threads)
	for i := range threads {
		fds[i] = must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
		ready := make(chan int)
		waiting.Go(func() {
			onThread(func() {
				ready <- unix.Gettid()
				receive(fds[i][0])
				unix.Getsockname(fds[i][0])
			})
		})
		ids[i] = <-ready
	}
	for _, id := range ids {
		awaitReceive(t, id)
	}
	for _, pair := range fds {
		unix.Write(pair[1], []byte("x"))
	}
	waiting.Wait()
	for _, pair := range fds {
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
	return ids
}

func manyAtOnce(t testing.TB, o *fixture) {
	const threads, rounds = 64, 15
	ids, fds := make([]int, threads), make([][2]int, threads)
	for i := range threads {
		fds[i] = pair(t, unix.SOCK_DGRAM)
	}
	o.want(t, Options{})
	var working sync.WaitGroup
	for i := range threads {
		working.Go(func() {
			ids[i] = onThread(func() {
				for range rounds {
					send(t, fds[i][0], i+1)
					receive(fds[i][1])
				}
			})
		})
	}
	working.Wait()
	for i, id := range ids {
		sent := deed{Syscall: "sendto", FD: int64(fds[i][0]), Bytes: int64(i + 1), Transport: "unix", Kept: "slow"}
		received := deed{Syscall: "recvfrom", FD: int64(fds[i][1]), Bytes: int64(i + 1), Transport: "unix", Kept: "slow"}
		for _, d := range o.deeds(t, id) {
			if d.FD != sent.FD && d.FD != received.FD {
				t.Errorf("thread %d did not do %+v", i, d)
			}
			if d != sent && d != received && o.missed(t) == 0 {
				t.Errorf("thread %d did not do %+v, and no run of a program is missing", i, d)
			}
		}
	}
	eventually(t, func() string { // that the last call of a thread is lost may be known only after the thread has ended
		lacking := 0
		for _, id := range ids {
			lacking += 2*rounds - len(o.deeds(t, id))
		}
		missed, lost := o.missed(t), o.counts(t).Lost
		for _, n := range lost {
			missed += int(n)
		}
		if lacking < 0 || lacking > missed {
			return fmt.Sprintf("%d calls are not there; lost: %v, with the runs of programs that are missing %d", lacking, lost, missed)
		}
		return ""
	})
}

// waitingForWork lets a server and a client wait for each other. The waits are longer than a call
// takes on a busy machine.
func waitingForWork(t testing.TB, o *fixture) {
	const long = 300 * time.Millisecond
	client, server := connectTCP(t)
	o.want(t, Options{MinDuration: long})
	serving := make(chan int)
	go func() {
		serving <- onThread(func() {
			receive(server) // it waits for the request, which is work
			time.Sleep(2 * long)
			send(t, server, 2)
			receive(server) // it waits for the next request
		})
	}()
	time.Sleep(2 * long)
	asking := onThread(func() {
		send(t, client, 1)
		receive(client) // it waits for the answer
		go func() {
			time.Sleep(2 * long)
			send(t, server, 3)
		}()
		receive(client) // it waits without having sent a request
		send(t, client, 1)
	})
	got := append(o.deeds(t, <-serving), o.deeds(t, asking)...)
	want := []deed{{
		Syscall: "recvfrom", FD: int64(client), Bytes: int64(2), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue",
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}

	o.want(t, Options{MinDuration: long, IdleWaits: true})
	go func() {
		time.Sleep(2 * long)
		send(t, client, 4)
	}()
	waiting := onThread(func() { receive(server) })
	got = o.deeds(t, waiting)
	want = []deed{{
		Syscall: "recvfrom", FD: int64(server), Bytes: int64(4), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue",
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls differ with idle_waits (-want +got):\n%s", diff)
	}
}

// readingForOthers has a thread that only receives, while others send: its own calls do not show
// whether it waits for an answer.
func readingForOthers(t testing.TB, o *fixture) {
	receivesForOthers(t, o, false, "", "while it waits", "", "before it waits")
}

func readingForOthersAfterConnect(t testing.TB, o *fixture) {
	receivesForOthers(t, o, true, "", "before it waits")
}

// receivesForOthers has a thread that receives, after it has connected if connects is set. asked says for each time it
// receives when another thread asks for what it gets, "" if nobody does.
func receivesForOthers(t testing.TB, o *fixture, connects bool, asked ...string) {
	const long = 300 * time.Millisecond
	o.want(t, Options{MinDuration: long})
	listener := listenTCP(t)
	client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	defer unix.Close(client)
	// Probes have two descriptors for each function, and other tests use the numbers after these.
	const unused = 3000
	fd := must(unix.FcntlInt(uintptr(client), unix.F_DUPFD, unused))
	defer unix.Close(fd)
	connect := func(fd int) {
		if err := unix.Connect(fd, must(unix.Getsockname(listener))); err != nil {
			t.Error(err)
		}
	}
	if !connects {
		connect(client)
	}
	thread, next, received := make(chan int), make(chan bool), make(chan int)
	defer close(next)
	go onThread(func() {
		if connects {
			connect(fd)
		}
		thread <- unix.Gettid()
		for range next {
			received <- receive(fd)
		}
	})
	reading := <-thread
	server, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(server)
	var want []deed
	for i, when := range asked {
		if when == "before it waits" {
			send(t, client, 1)
		}
		next <- true
		awaitReceive(t, reading)
		if when == "while it waits" {
			time.Sleep(2 * long)
			send(t, client, 1)
		}
		time.Sleep(2 * long)
		send(t, server, 1+i)
		bytes := <-received
		if when == "" {
			continue
		}
		receive(server)
		want = append(want, deed{
			Syscall: "recvfrom", FD: int64(fd), Bytes: int64(bytes), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue",
		})
	}
	if diff := gocmp.Diff(want, o.deeds(t, reading)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

// interrupts sends on lo, where the packet is received in a soft interrupt that interrupts the sender.
func interrupts(t testing.TB, o *fixture) {
	const sends = 500
	client, server := connectTCP(t)
	o.want(t, Options{})
	thread := onThread(func() {
		for range sends {
			send(t, client, 1000)
			receive(server)
		}
	})
	trees := o.by(t, thread)
	if missed := o.missed(t); len(trees) != 2*sends && missed == 0 {
		t.Errorf("there are %d trees, want %d", len(trees), 2*sends)
	}
	for _, tr := range o.trees {
		for _, foreign := range []string{"tcp_v4_rcv", "netif_receive_skb"} {
			if tr.has(foreign) {
				t.Fatalf("%s is in %v", foreign, tr.nestings())
			}
		}
		if tr.value("nettap.call.syscall") == nil {
			t.Fatalf("%s is in no system call", tr.root.Name())
		}
	}
}

func interrupted(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{})
	ready, done := make(chan int), make(chan int)
	go onThread(func() {
		ready <- unix.Gettid()
		n := receive(fds[0])
		unix.Getsockname(fds[0])
		done <- n
	})
	thread := <-ready
	awaitReceive(t, thread)
	// The runtime has a handler for this signal, so that it does not end the process.
	if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if deeds := o.deeds(t, thread); len(deeds) == 0 || deeds[0].Syscall != "recvfrom" || deeds[0].Error != nil {
			return fmt.Sprintf("the calls are %+v", deeds)
		}
		return ""
	})
	first := o.by(t, thread)[0]
	if errno := first.value("nettap.call.errno"); errno != "ERESTARTSYS" || first.root.Status().Code() != ptrace.StatusCodeUnset {
		t.Errorf("the call ended with %v and status %v", errno, first.root.Status().Code())
	}
	send(t, fds[1], 1)
	<-done
}

func offTheCPU(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{OffCPU: true})
	ready, done := make(chan int), make(chan int)
	go func() {
		done <- onThread(func() {
			ready <- unix.Gettid()
			receive(fds[0])
		})
	}()
	awaitReceive(t, <-ready)
	send(t, fds[1], 1)
	// If probes miss the end of a function, the functions after it can be seen as another call.
	trees := slices.DeleteFunc(o.by(t, <-done), func(tr tree) bool { return !tr.has("off_cpu") })
	if len(trees) != 1 {
		t.Fatalf("there are %d trees with time off the CPU, want 1", len(trees))
	}
	var off float64
	for _, span := range trees[0].spans {
		if span.Name() == "off_cpu" && value(span.Attributes(), "nettap.call.blocked.on") == "receive_queue" {
			off += span.EndTimestamp().AsTime().Sub(span.StartTimestamp().AsTime()).Seconds()
		}
	}
	blocked, _ := trees[0].value("nettap.call.blocked.duration").(float64)
	total := trees[0].root.EndTimestamp().AsTime().Sub(trees[0].root.StartTimestamp().AsTime()).Seconds()
	if off == 0 || blocked == 0 || blocked > off+1e-6 || off > total {
		t.Errorf("of %v s it was blocked for %v, and the spans off the CPU have %v", total, blocked, off)
	}
}

func byChance(t testing.TB, o *fixture) {
	const sends = 1000
	fds := pair(t, unix.SOCK_DGRAM)
	o.want(t, Options{MinDuration: time.Hour, SampleRatio: 0.5})
	o.calls.emitter.ratio = 0.5
	thread := onThread(func() {
		for range sends {
			send(t, fds[0], 1)
			receive(fds[1])
		}
	})
	trees := o.by(t, thread)
	if n := len(trees); n < 800 || n > 1200 { // 9 standard deviations from the expected number
		t.Errorf("of %d calls %d are kept, want half", 2*sends, n)
	}
	for _, tr := range trees {
		if tr.value("nettap.call.kept") != "sampled" || tr.root.TraceState().AsRaw() != "ot=th:8" {
			t.Fatalf("a call is kept as %v, with trace state %q", tr.value("nettap.call.kept"), tr.root.TraceState().AsRaw())
		}
	}
	counts := o.counts(t)
	if lost := counts.Lost["unfinished"]; counts.Seen != counts.SampledOut+lost+uint64(len(o.trees)) || int(counts.Seen)+o.missed(t) < 2*sends || len(counts.Lost) > 0 && o.missed(t) == 0 {
		t.Errorf("the counts are %+v, and there are %d trees", counts, len(o.trees))
	}
}

func filtered(t testing.TB, o *fixture) {
	client, server := connectTCP(t)
	fds := pair(t, unix.SOCK_STREAM)
	udp := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(udp)
	port := localOf(server).Port()
	act := func() {
		send(t, client, 1)
		receive(server)
		send(t, fds[0], 1)
		receive(fds[1])
		unix.Sendto(udp, make([]byte, 1<<16), 0, nowhere) // EMSGSIZE
	}
	everything := []string{"sendto", "recvfrom", "sendto", "recvfrom", "sendto"}
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"pids":                  {Filter{PIDs: []uint32{1 << 22}}, nil},
		"commands":              {Filter{Commands: []string{comm(t)}}, everything},
		"other commands":        {Filter{Commands: []string{"other"}}, nil},
		"users":                 {Filter{Users: []uint32{uint32(unix.Getuid())}}, everything},
		"other users":           {Filter{Users: []uint32{12345}}, nil},
		"system calls":          {Filter{Syscalls: []string{"recvfrom", "accept"}}, []string{"recvfrom", "recvfrom"}},
		"ports":                 {Filter{Ports: []uint16{port}}, []string{"sendto", "recvfrom"}},
		"ports of what failed":  {Filter{Ports: []uint16{uint16(nowhere.Port)}}, []string{"sendto"}},
		"other ports":           {Filter{Ports: []uint16{1}}, nil},
		"addresses":             {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, []string{"sendto", "recvfrom"}},
		"those of what failed":  {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, []string{"sendto"}},
		"other addresses":       {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}, nil},
		"the root's cgroups":    {Filter{Cgroups: []string{"/"}}, everything},
		"cgroups that are none": {Filter{Cgroups: []string{"/nettap-is-not-there"}}, nil},
	} {
		o.want(t, Options{Filter: test.filter})
		thread := onThread(act)
		var got []string
		for _, d := range o.deeds(t, thread) {
			got = append(got, d.Syscall)
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("calls with a filter for %s differ (-want +got):\n%s", name, diff)
		}
		if counts := o.counts(t); int(counts.Seen) != len(o.trees) {
			t.Errorf("with a filter for %s %d calls are seen, and %d reported", name, counts.Seen, len(o.trees))
		}
	}
}

// truncated makes a call that goes through more functions than a tree has room for.
func truncated(t testing.TB, o *fixture) {
	receiver := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(receiver)
	if err := unix.Bind(receiver, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	sender := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(sender)
	if err := unix.Connect(sender, must(unix.Getsockname(receiver))); err != nil {
		t.Fatal(err)
	}
	o.want(t, Options{})
	thread := onThread(func() { sendMany(t, sender, 100) })
	trees := o.by(t, thread)
	if len(trees) != 1 {
		t.Fatalf("there are %d trees, want 1", len(trees))
	}
	nodes := len(trees[0].spans)
	for _, span := range trees[0].spans {
		nodes += span.Events().Len()
	}
	lost, _ := trees[0].value("nettap.call.lost_functions").(int64)
	if nodes != maxNodes || trees[0].value("nettap.call.truncated") != true || lost < 40 {
		t.Errorf("the tree has %d nodes, truncated: %v, lost: %d", nodes, trees[0].value("nettap.call.truncated"), lost)
	}
	if missed := trees[0].value("nettap.call.missed_exits"); missed != nil {
		t.Errorf("the ends of %v functions are missing", missed)
	}
}
