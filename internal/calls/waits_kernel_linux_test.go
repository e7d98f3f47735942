// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// TestKernelReportsWaits starts each rung for calls, with the best rungs for what programs send and read.
func TestKernelReportsWaits(t *testing.T) {
	kerneltest.Require(t)
	types := kernelTypes(t)
	waits, err := chooseWaitHooks(kernel.Probe)
	if err != nil {
		t.Skip(err)
	}
	var better []string
	best := true
	for _, hook := range ladder {
		if !best && testing.Short() {
			break // every other rung is the best one of another kernel
		}
		avoid := slices.Clone(better)
		better = append(better, hook.Name)
		waits, err := chooseWaitHooks(kernel.Avoiding(avoid, kernel.Probe))
		if err != nil || probe(hook.Name, types) != nil {
			continue // a hook that is avoided may be needed for waits, too
		}
		probed := slices.ContainsFunc(waits, func(hook kernel.Hook) bool { return hook.Name == exchangeByProbes })
		options := Options{AvoidHooks: avoid, Functions: slices.Concat(few, []string{"*sock_sendmsg"})}
		t.Run(path.Base(hook.Name), func(t *testing.T) { reportsWaits(t, options, best, probed) })
		best = false
	}
	if slices.ContainsFunc(waits, isAtFunction) {
		options := Options{
			AvoidHooks: []string{"fexit/__sock_sendmsg", "fexit/sock_sendmsg"},
			Functions:  []string{"__sys_sendto", "__sys_recvfrom", "__sys_connect*", "*sock_sendmsg", "sock_recvmsg"}, // few, so that it starts fast
		}
		t.Run("sends by tcp_sendmsg", func(t *testing.T) { reportsWaits(t, options, false, false) })
	}
}

// reportsWaits runs all of waitTests, or those that are for each rung; if waits are seen by probes, without those that need more.
func reportsWaits(t *testing.T, options Options, all, probed bool) {
	options.Waits, options.Durations = true, true
	o := observe(t, options, func(*Calls) {})
	if hooks := o.recorder.Read().Hooks; !slices.ContainsFunc(hooks, func(used kernel.Hook) bool { return used.Job == "exchange" }) {
		t.Fatalf("waits are not seen: the hooks in use are %v", hooks)
	}
	for _, test := range waitTests {
		if (all || test.onEach) && !(probed && test.unlessProbed) {
			t.Run(test.name, func(t *testing.T) { o.try(t, test.test) })
		}
	}
}

// TestKernelSeesWaitsAtTheDefaults requires that the programs for waits load together with those for
// trace contexts, which make them much longer. If they did not, calls would run without waits.
func TestKernelSeesWaitsAtTheDefaults(t *testing.T) {
	kerneltest.Require(t)
	if _, err := chooseWaitHooks(kernel.Probe); err != nil {
		t.Skip(err)
	}
	o := observeContextsWith(t, Options{Functions: few, Waits: true}, func(*tracecontext.Options) {})
	hooks := o.recorder.Read().Hooks
	if !slices.ContainsFunc(hooks, func(used kernel.Hook) bool { return used.Job == "exchange" }) {
		t.Errorf("waits are not seen: the hooks in use are %+v", hooks)
	}
	o.try(t, answerAfterAWhile)
	wantSlots(t, o.calls.contexts, true)
	if len(o.calls.contexts.Slots()) > 0 { // for another instrument they are taken, so its programs are attached
		options := Options{AvoidHooks: []string{"fentry", "kprobe"}, Functions: few, Waits: true} // a rung that starts fast
		observe(t, options, func(c *Calls) { c.contexts = o.calls.contexts }).try(t, answerAfterAWhile)
	}
	if err := o.calls.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSlots(t, o.calls.contexts, false)
}

// wantSlots requires that programs for waits are in the slots of those for trace contexts, or that none are.
func wantSlots(t *testing.T, contexts *tracecontext.Contexts, taken bool) {
	t.Helper()
	for section, slot := range contexts.Slots() {
		if free := slot.IsFree(); free == taken {
			t.Errorf("the slot of %s has no program: %t, want one: %t", section, free, taken)
		}
	}
}

// waitTests run on the best rung for calls, and on each rung if the result depends on it.
var waitTests = []struct {
	name         string
	onEach       bool
	unlessProbed bool // it needs what probes do not have: the results of calls that send, the port that a send has given, cookies
	test         func(t testing.TB, o *fixture)
}{
	{name: "for an answer", onEach: true, test: answerAfterAWhile},
	{name: "for an answer that never comes", test: answerNever},
	{name: "but not for an answer to a last message", onEach: true, test: lastMessage},
	{name: "for an answer that a busy thread looks for", onEach: true, test: answerNeverThere},
	{name: "for an answer that a busy event loop would be told of", test: answerNeverTold},
	{name: "but not in the call that reads", onEach: true, test: answerInTheCall},
	{name: "but not between questions", test: idleConnection},
	{name: "of a program that serves", onEach: true, test: requestsThatLie},
	{name: "counted by how long they took", test: countedWaits},
	{name: "on datagrams", test: datagrams},
	{name: "but not of a datagram socket that was another one", unlessProbed: true, test: datagramsAgain},
	{name: "on Unix sockets", test: unixStreams},
	{name: "but not of a Unix socket that was another one's", test: unixStreamsInTurn},
	{name: "but not of Unix sockets that were those of another connection", unlessProbed: true, test: unixStreamsAgain},
	{name: "for room to send", unlessProbed: true, test: roomToSend},
	{name: "for room to send on a Unix socket", unlessProbed: true, test: roomToSendToUnix},
	{name: "for a connection", onEach: true, test: connections},
	{name: "for a connection that is refused", onEach: true, test: refusedConnection},
	{name: "for a connection that nobody answers", test: unansweredConnection},
	{name: "for a connection that is given up", test: givenUpConnection},
	{name: "but not for the address that loses the race", test: lostRace},
	{name: "of an io_uring", onEach: true, test: waitsOfRing},
	{name: "of a socket in blocking mode", test: settledSocket},
	{name: "by chance", test: waitsByChance},
	{name: "that the filter lets through", test: filteredWaits},
	{name: "and not what was under way as a step was taken", test: questionsAcrossSteps},
	{name: "in each way to wait", test: waysOfWaiting},
	{name: "of a datagram socket that is not connected", onEach: true, test: unconnectedDatagrams},
	{name: "for an answer instead of which the connection ends", unlessProbed: true, test: resetAnswer},
	{name: "but not for room in a call that waits for it", test: roomThatTakesTooLong},
	{name: "for a connection to an address that nobody has", test: connectionToNowhere},
	{name: "of an io_uring that waits itself", onEach: true, test: ringThatWaits},
	{name: "for connections that the filter lets through", test: filteredConnects},
	{name: "for an answer on a connection that is half closed", onEach: true, test: halfClosed},
	{name: "for an answer that never comes on one", onEach: true, test: halfGivenUp},
	{name: "but not for an answer for which a call has waited", onEach: true, test: timedReceive},
	{name: "for a connection that is reset", onEach: true, test: connectionThatIsReset},
	{name: "for a connection to one that connects itself", test: bothConnect},
	{name: "for a connection of MPTCP", test: connectionsOfMPTCP},
	{name: "for a name server that does not answer", onEach: true, test: unansweredNames},
	{name: "of whose errors calls tell, too", unlessProbed: true, test: toldFailures},
}

// waited is what the span of a wait says, with times in seconds.
type waited struct {
	Kind, Kept  string
	Duration    float64
	Peer, Local any
	Transport   string
	Port        any // the peer's
	Error       any
}

// waits returns the waits on sockets of which one end has the port.
func (o *fixture) waits(t testing.TB, port int) []waited {
	t.Helper()
	var all []waited
	for _, tr := range o.collect(t) {
		if w, ok := waitOf(tr); ok && (w.Port == int64(port) || tr.value("network.local.port") == int64(port)) {
			all = append(all, w)
		}
	}
	return all
}

// waitOf returns the wait of a tree, and whether the tree is the span of one.
func waitOf(tr tree) (waited, bool) {
	kind, ok := tr.value("nettap.wait.kind").(string)
	kept, _ := tr.value("nettap.call.kept").(string)
	transport, _ := tr.value("network.transport").(string)
	w := waited{
		Kind: kind, Kept: kept, Transport: transport, Port: tr.value("network.peer.port"), Error: tr.value("error.type"),
		Peer: tr.value("nettap.wait.peer.duration"), Local: tr.value("nettap.wait.local.duration"),
	}
	w.Duration = tr.root.EndTimestamp().AsTime().Sub(tr.root.StartTimestamp().AsTime()).Seconds()
	return w, ok
}

// about lets the times of two waits differ by as much as a busy machine takes between two steps of a test.
var about = cmpopts.EquateApprox(0, 0.05)

// moments are the times at which a test has sent a request, has sent what is to be read, and has read it.
type moments struct{ asked, ready, read time.Time }

// answer returns the wait for the answer to a request.
func (m moments) answer(transport string, port any) waited {
	return waited{
		Kind: "receive", Kept: "slow", Transport: transport, Port: port,
		Duration: m.read.Sub(m.asked).Seconds(), Peer: m.ready.Sub(m.asked).Seconds(), Local: m.read.Sub(m.ready).Seconds(),
	}
}

// request returns the wait of a request for the program that serves it.
func (m moments) request(transport string, port any) waited {
	lay := m.read.Sub(m.ready).Seconds()
	return waited{Kind: "receive", Kept: "slow", Transport: transport, Port: port, Duration: lay, Local: lay}
}

// failed returns a wait that failed, from the first of the moments to the last.
func (m moments) failed(kind, with string, port any) waited {
	return waited{Kind: kind, Kept: "failed", Transport: "tcp", Port: port, Error: with, Duration: m.read.Sub(m.asked).Seconds()}
}

const (
	thinks = 300 * time.Millisecond // how long a server takes to answer
	lies   = 200 * time.Millisecond // how long something is not read
)

// slowWaits has a MinDuration of half of the shortest wait of the tests, which is longer than a busy
// machine takes to read what has come.
var slowWaits = Options{MinDuration: 100 * time.Millisecond, Waits: true, Errors: Errnos{All: true}}

// wantWaits compares the waits that were reported of a port.
func (o *fixture) wantWaits(t testing.TB, port int, want ...waited) {
	t.Helper()
	if diff := gocmp.Diff(want, o.waits(t, port), about); diff != "" {
		t.Errorf("waits differ (-want +got), and the statistics have %+v:\n%s", o.counts(t), diff)
	}
}

// connectAtOnce begins to connect a non-blocking socket to a port on lo, and does not wait for it.
func connectAtOnce(t testing.TB, address [4]byte, port int) int {
	t.Helper()
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: address}); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err) // nobody could accept it
	}
	return fd
}

var loopback = [4]byte{127, 0, 0, 1}

// connectWithoutBlocking connects a non-blocking client to a server in blocking mode.
func connectWithoutBlocking(t testing.TB) (client, server, port int) {
	t.Helper()
	listener := listenTCP(t)
	port = int(localOf(listener).Port())
	client = connectAtOnce(t, loopback, port)
	server, _, err := unix.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	return client, server, port
}

func answerAfterAWhile(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	var want []waited
	for range 2 {
		var m moments
		m.asked = time.Now()
		send(t, client, 5)
		receive(client) // there is nothing
		receive(server)
		time.Sleep(thinks)
		m.ready = time.Now()
		send(t, server, 7)
		awaitReadable(t, client)
		time.Sleep(lies)
		m.read = time.Now()
		receive(client)
		time.Sleep(lies) // it has asked for nothing
		want = append(want, m.answer("tcp", int64(port)))
	}
	o.wantWaits(t, port, want...)
}

func answerNever(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	m := moments{asked: time.Now()}
	send(t, client, 5)
	time.Sleep(thinks)
	m.read = time.Now()
	unix.Close(client)
	o.wantWaits(t, port, m.failed("receive", "given_up", int64(port)))
}

// askWithoutSleep sends a request and closes the connection after a while in which the thread does not sleep. It looks
// for an answer once, or not at all.
func askWithoutSleep(t testing.TB, fd int, looks bool) (m moments) {
	t.Helper()
	onThread(func() {
		// The runtime would put the thread to sleep to let other goroutines run. It can do so only where Go
		// functions begin, and where its signal interrupts one.
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGURG - 1)}}, nil); err != nil {
			t.Error(err)
		}
		var request [5]byte
		var now, began unix.Timespec
		m.asked = time.Now()
		unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&request)), uintptr(len(request)))
		if looks {
			unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&request)), uintptr(len(request)))
		}
		unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&began)), 0)
		for now = began; (now.Sec-began.Sec)*1e9+now.Nsec-began.Nsec < int64(thinks); {
			unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&now)), 0)
		}
		unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
		m.read = time.Now()
	})
	return m
}

// lastMessage says goodbye, and closes later, because the machine is busy.
func lastMessage(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	askWithoutSleep(t, client, false)
	o.wantWaits(t, port)
}

// answerNeverThere tries to read.
func answerNeverThere(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	m := askWithoutSleep(t, client, true)
	o.wantWaits(t, port, m.failed("receive", "given_up", int64(port)))
}

// answerNeverTold has the socket in an epoll instance.
func answerNeverTold(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	epoll := must(unix.EpollCreate1(0))
	defer unix.Close(epoll)
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, client, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		t.Fatal(err)
	}
	m := askWithoutSleep(t, client, false)
	o.wantWaits(t, port, m.failed("receive", "given_up", int64(port)))
}

// answerInTheCall waits in a call that blocks, which is reported as a call and not as a wait.
func answerInTheCall(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := int(localOf(server).Port())
	send(t, client, 5)
	receive(server)
	go func() {
		time.Sleep(thinks)
		send(t, server, 7)
	}()
	thread := onThread(func() { receive(client) })
	o.wantWaits(t, port)
	want := []deed{{Syscall: "recvfrom", FD: int64(client), Bytes: int64(7), Transport: "tcp", Kept: "slow", BlockedOn: "receive_queue"}}
	if diff := gocmp.Diff(want, o.deeds(t, thread)); diff != "" {
		t.Errorf("calls differ (-want +got):\n%s", diff)
	}
}

func idleConnection(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(server)
	for range 2 {
		time.Sleep(lies)
		send(t, client, 5)
		receive(server)
		send(t, server, 7)
		awaitReadable(t, client)
		receive(client)
	}
	time.Sleep(lies)
	unix.Close(client)
	o.wantWaits(t, port)
}

// requestsThatLie has a server that reads its requests late, for which its clients wait.
func requestsThatLie(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := must(unix.Getsockname(client)).(*unix.SockaddrInet4).Port
	if err := unix.SetNonblock(server, true); err != nil {
		t.Fatal(err)
	}
	var want []waited
	for range 2 {
		var m moments
		m.ready = time.Now()
		send(t, client, 5)
		time.Sleep(lies)
		m.read = time.Now()
		receive(server)
		receive(server) // there is nothing
		time.Sleep(lies)
		send(t, server, 7)
		receive(client)
		want = append(want, m.request("tcp", int64(port)))
	}
	got := slices.DeleteFunc(o.waits(t, port), func(w waited) bool { return w.Port != int64(port) }) // without the client's waits, which another test has
	if diff := gocmp.Diff(want, got, about); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

func datagrams(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	server := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(server)
	bindDatagrams(t, server)
	client := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(client)
	if err := unix.Connect(client, must(unix.Getsockname(server))); err != nil {
		t.Fatal(err)
	}
	m := moments{asked: time.Now()}
	send(t, client, 5)
	time.Sleep(thinks)
	m.ready = time.Now()
	if _, _, err := unix.Recvfrom(server, make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendto(server, make([]byte, 7), 0, must(unix.Getsockname(client))); err != nil {
		t.Fatal(err)
	}
	awaitReadable(t, client)
	time.Sleep(lies)
	m.read = time.Now()
	receive(client)
	port := int(localOf(server).Port())
	o.wantWaits(t, port, moments{ready: m.asked, read: m.ready}.request("udp", nil), m.answer("udp", int64(port)))
}

// datagramsAgain makes pairs of sockets with the same port. The kernel mostly gives the second one the memory that the first one
// had. The first one leaves its answer unread, and the second one reads it at once.
func datagramsAgain(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	server, client := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)), must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0))
	defer unix.Close(server)
	bindDatagrams(t, server)
	bindDatagrams(t, client)
	name := must(unix.Getsockname(client))
	unix.Close(client)
	ask := func() (client int) {
		client = must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0))
		if err := errors.Join(unix.Bind(client, name), unix.Connect(client, must(unix.Getsockname(server)))); err != nil {
			t.Error(err)
		}
		send(t, client, 5)
		receive(server)
		if err := unix.Sendto(server, make([]byte, 7), 0, name); err != nil {
			t.Error(err)
		}
		awaitReadable(t, client)
		return client
	}
	o.wantWaitsBy(t, onThread(func() {
		for range 3 {
			unix.Close(ask())
			time.Sleep(lies) // the kernel frees the memory after a grace period
			client := ask()
			receive(client)
			unix.Close(client)
		}
	}))
}

// bindDatagrams binds a socket to a certain port, as servers do.
func bindDatagrams(t testing.TB, fd int) {
	t.Helper()
	port := int(localOf(listenTCP(t)).Port()) // a port that is free for TCP is likely to be free for UDP, too
	for ; port < 1<<16; port++ {
		if unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: loopback}) == nil {
			return
		}
	}
	t.Fatal("there is no free port")
}

func unixStreams(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectUnix(t, listenUnix(t))
	defer unix.Close(client)
	defer unix.Close(server)
	m := moments{asked: time.Now()}
	thread := onThread(func() {
		send(t, client, 5)
		time.Sleep(thinks)
		m.ready = time.Now()
		receive(server)
		send(t, server, 7)
		time.Sleep(lies)
		m.read = time.Now()
		receive(client)
	})
	o.wantWaitsBy(t, thread, moments{ready: m.asked, read: m.ready}.request("unix", nil), m.answer("unix", nil))
}

// listenUnix returns a Unix socket that listens.
func listenUnix(t testing.TB) (listener int) {
	t.Helper()
	listener = must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	t.Cleanup(func() { unix.Close(listener) })
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrUnix{}), unix.Listen(listener, 1)); err != nil { // a name that the kernel chooses
		t.Fatal(err)
	}
	return listener
}

// connectUnix connects a client to a server, both in non-blocking mode.
func connectUnix(t testing.TB, listener int) (client, server int) {
	t.Helper()
	client = must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
	if err := unix.Connect(client, must(unix.Getsockname(listener))); err != nil {
		t.Error(err)
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK)
	if err != nil {
		t.Error(err)
	}
	return client, server
}

// wantWaitsBy compares the waits that were reported of a thread.
func (o *fixture) wantWaitsBy(t testing.TB, thread int, want ...waited) {
	t.Helper()
	var got []waited
	for _, tr := range o.by(t, thread) {
		if w, ok := waitOf(tr); ok {
			got = append(got, w)
		}
	}
	if diff := gocmp.Diff(want, got, about); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

// unixStreamsInTurn makes connections one after the other. The kernel mostly gives the server's end of each the memory that
// the client's end of the one before had. The clients leave before they have read the last answer.
func unixStreamsInTurn(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	listener := listenUnix(t)
	o.wantWaitsBy(t, onThread(func() {
		for range 8 {
			client, server := connectUnix(t, listener)
			send(t, client, 5)
			receive(server)
			send(t, server, 7)
			unix.Close(client)
			receive(server)
			unix.Close(server)
		}
	}))
}

// unixStreamsAgain makes pairs of connections. The kernel mostly gives the second one the memory that the first one had, end
// by end, since the server's end of that is closed first. The ends of the first one leave something unread, and those of the
// second one read at once.
func unixStreamsAgain(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	listener := listenUnix(t)
	o.wantWaitsBy(t, onThread(func() {
		for range 3 {
			client, server := connectUnix(t, listener)
			send(t, client, 5)
			receive(server)
			send(t, server, 7)
			send(t, client, 5)
			time.Sleep(lies)
			unix.Close(server)
			unix.Close(client)
			client, server = connectUnix(t, listener)
			send(t, client, 5)
			receive(server)
			send(t, server, 7)
			receive(client)
			unix.Close(server)
			unix.Close(client)
		}
	}))
}

func roomToSend(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	for unix.Sendto(client, make([]byte, 1<<16), 0, nil) == nil {
	}
	full := time.Now()
	time.Sleep(lies)
	for err := error(unix.EAGAIN); err != nil; { // it fails until there is room
		receive(server)
		err = unix.Sendto(client, make([]byte, 1), 0, nil)
	}
	want := []waited{{Kind: "send", Kept: "slow", Duration: time.Since(full).Seconds(), Transport: "tcp", Port: int64(port)}}
	got := slices.DeleteFunc(o.waits(t, port), func(w waited) bool { return w.Kind != "send" })
	if diff := gocmp.Diff(want, got, about); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

func roomToSendToUnix(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectUnix(t, listenUnix(t))
	defer unix.Close(client)
	defer unix.Close(server)
	var full, sent time.Time
	thread := onThread(func() {
		for unix.Sendto(client, make([]byte, 1<<16), 0, nil) == nil {
		}
		full = time.Now()
		time.Sleep(lies)
		for err := error(unix.EAGAIN); err != nil; { // it fails until there is room
			receive(server)
			err = unix.Sendto(client, make([]byte, 1), 0, nil)
		}
		sent = time.Now()
	})
	var got []waited
	for _, tr := range o.by(t, thread) {
		if w, ok := waitOf(tr); ok && w.Kind == "send" {
			got = append(got, w)
		}
	}
	want := []waited{{Kind: "send", Kept: "slow", Duration: sent.Sub(full).Seconds(), Transport: "unix"}}
	if diff := gocmp.Diff(want, got, about); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

// connections has a connect that succeeds. It is not slow, so it is reported as part of the sample.
func connections(t testing.TB, o *fixture) {
	o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Waits: true})
	client, server, port := connectWithoutBlocking(t)
	unix.Close(client)
	unix.Close(server)
	o.wantWaits(t, port, waited{Kind: "connect", Kept: "sampled", Transport: "tcp", Port: int64(port)})
}

func refusedConnection(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	unused := listenTCP(t)
	port := int(localOf(unused).Port())
	unix.Close(unused)
	client := connectAtOnce(t, loopback, port)
	defer unix.Close(client)
	if errno := must(unix.GetsockoptInt(client, unix.SOL_SOCKET, unix.SO_ERROR)); unix.Errno(errno) != unix.ECONNREFUSED {
		t.Errorf("the connection ended with %v", unix.Errno(errno))
	}
	o.wantWaits(t, port, moments{}.failed("connect", "ECONNREFUSED", int64(port)))
}

// silentPort fills the accept queue of a listener, so that nothing answers at its port.
func silentPort(t testing.TB, address [4]byte, port int) int {
	t.Helper()
	listener := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	t.Cleanup(func() { unix.Close(listener) })
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Addr: address, Port: port}), unix.Listen(listener, 0)); err != nil {
		t.Fatal(err)
	}
	port = int(localOf(listener).Port())
	for range 2 {
		fd := connectAtOnce(t, address, port)
		t.Cleanup(func() { unix.Close(fd) })
	}
	return port
}

func unansweredConnection(t testing.TB, o *fixture) {
	port := silentPort(t, loopback, 0)
	o.want(t, slowWaits)
	client := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
	defer unix.Close(client)
	if err := errors.Join(unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1), unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: port, Addr: loopback}); err != unix.EINPROGRESS {
		t.Errorf("connect: %v", err)
	}
	eventually(t, func() string {
		if len(o.waits(t, port)) == 0 {
			return "no wait is reported"
		}
		return ""
	})
	got := o.waits(t, port)
	if got[0].Duration < 0.9 || got[0].Duration > 5 {
		t.Errorf("it took %v s", got[0].Duration)
	}
	got[0].Duration = 0
	if diff := gocmp.Diff([]waited{moments{}.failed("connect", "ETIMEDOUT", int64(port))}, got); diff != "" {
		t.Errorf("waits differ (-want +got):\n%s", diff)
	}
}

func givenUpConnection(t testing.TB, o *fixture) {
	port := silentPort(t, loopback, 0)
	o.want(t, slowWaits)
	m := moments{asked: time.Now()}
	client := connectAtOnce(t, loopback, port)
	time.Sleep(thinks)
	m.read = time.Now()
	unix.Close(client)
	o.wantWaits(t, port, m.failed("connect", "given_up", int64(port)))
}

// lostRace connects to a port at two addresses, as programs do for a name with two addresses. The socket
// that has not connected is closed when the other one has.
func lostRace(t testing.TB, o *fixture) {
	listener := listenTCP(t)
	port := silentPort(t, [4]byte{127, 0, 0, 2}, int(localOf(listener).Port()))
	o.want(t, slowWaits)
	loser := connectAtOnce(t, [4]byte{127, 0, 0, 2}, port)
	time.Sleep(lies)
	winner := connectAtOnce(t, loopback, port)
	defer unix.Close(winner)
	unix.Close(loser)
	o.wantWaits(t, port)
	// A socket that is closed later has not lost a race.
	m := moments{asked: time.Now()}
	other := connectAtOnce(t, [4]byte{127, 0, 0, 2}, port)
	time.Sleep(thinks)
	m.read = time.Now()
	unix.Close(other)
	o.wantWaits(t, port, m.failed("connect", "given_up", int64(port)))
}

// settledSocket has a socket in blocking mode that is polled: its reads are examined until SETTLED of
// them in a row found no data that had been waiting.
func settledSocket(t testing.TB, o *fixture) {
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := int(localOf(server).Port())
	exchange := func(lies time.Duration) {
		send(t, client, 5)
		receive(server)
		send(t, server, 7)
		awaitReadable(t, client)
		time.Sleep(lies)
		receive(client)
	}
	for range 3 {
		exchange(lies)
	}
	if got := o.waits(t, port); len(got) != 3 {
		t.Errorf("there are %v", got)
	}
	for range 8 {
		exchange(0)
	}
	exchange(lies)
	if got := o.waits(t, port); len(got) != 3 {
		t.Errorf("the socket is looked at though it has settled: %v", got)
	}
	for range 250 {
		exchange(0)
	}
	exchange(lies)
	if got := o.waits(t, port); len(got) > 4 {
		t.Errorf("there are %v", got)
	}
}

// waitsOfRing lets io_uring send a request, and read an answer and a request late. io_uring tries to read
// at once, and again when there is something.
func waitsOfRing(t testing.TB, o *fixture) {
	requireRing(t)
	o.want(t, slowWaits)
	client, server := connectTCP(t)
	port := int(localOf(server).Port())
	var m moments
	var buffer [16]byte
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(&buffer)
	onThread(func() {
		ring := kerneltest.NewRing()
		defer ring.Close()
		m.asked = time.Now()
		ring.Do(kerneltest.Submission{Opcode: kerneltest.RingSend, FD: int32(client), Address: addressOf(&buffer), Length: 5})
		time.Sleep(thinks)
		m.ready = time.Now()
		ring.Do(kerneltest.Submission{Opcode: kerneltest.RingRecv, FD: int32(server), Address: addressOf(&buffer), Length: 5})
		ring.Do(kerneltest.Submission{Opcode: kerneltest.RingSend, FD: int32(server), Address: addressOf(&buffer), Length: 7})
		awaitReadable(t, client)
		time.Sleep(lies)
		m.read = time.Now()
		ring.Do(kerneltest.Submission{Opcode: kerneltest.RingRecv, FD: int32(client), Address: addressOf(&buffer), Length: 7})
	})
	o.wantWaits(t, port, moments{ready: m.asked, read: m.ready}.request("tcp", int64(localOf(client).Port())), m.answer("tcp", int64(port)))
}

func waitsByChance(t testing.TB, o *fixture) {
	for ratio, want := range map[float64]int{0: 0, 1: 3} { // the connect, the request and its answer
		o.want(t, Options{MinDuration: time.Hour, SampleRatio: ratio, Waits: true})
		client, server, port := connectWithoutBlocking(t)
		send(t, client, 5)
		receive(server)
		send(t, server, 7)
		awaitReadable(t, client)
		receive(client)
		unix.Close(client)
		unix.Close(server)
		if got := o.waits(t, port); len(got) != want {
			t.Errorf("at a ratio of %v there are %v", ratio, got)
		}
		if got := o.counts(t); len(got.Lost) > 0 || int(got.Seen-got.SampledOut) != len(o.trees) {
			t.Errorf("the statistics have %+v, and there are %d trees", got, len(o.trees))
		}
	}
}

func filteredWaits(t testing.TB, o *fixture) {
	exchange := func() (port int) {
		client, server, port := connectWithoutBlocking(t)
		defer unix.Close(client)
		defer unix.Close(server)
		send(t, client, 5)
		receive(server)
		send(t, server, 7)
		time.Sleep(lies)
		receive(client)
		return port
	}
	for name, test := range map[string]struct {
		filter Filter
		want   int
	}{
		"all":             {Filter{}, 1},
		"another process": {Filter{PIDs: []uint32{1}}, 0},
		"another command": {Filter{Commands: []string{"nobody"}}, 0},
		"another port":    {Filter{Ports: []uint16{1}}, 0},
		"the address":     {Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, 1},
	} {
		options := slowWaits
		options.Filter = test.filter
		o.want(t, options)
		port := exchange()
		if got := o.waits(t, port); len(got) != test.want {
			t.Errorf("%s: there are %v", name, got)
		}
	}
}

// questionsAcrossSteps sends a request before calls are not observed for a while, and reads the answer
// after that.
func questionsAcrossSteps(t testing.TB, o *fixture) {
	defer o.reduce(t, budget.Full)
	o.want(t, slowWaits)
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	silent := silentPort(t, loopback, 0)
	connecting := connectAtOnce(t, loopback, silent)
	send(t, client, 5)
	o.reduce(t, budget.NoCalls)
	time.Sleep(lies)
	o.reduce(t, budget.Full)
	send(t, server, 7)
	awaitReadable(t, client)
	receive(client)
	receive(server)
	unix.Close(connecting)
	o.wantWaits(t, port)
	o.wantWaits(t, silent)
}
