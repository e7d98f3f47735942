// SPDX-License-Identifier: Apache-2.0

package connections

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// clientVariable is an environment variable with an address, of which it makes this test binary a client.
const clientVariable = "NETTAP_TEST_CLIENT"

// listenVariable is an environment variable that makes this test binary listen on a socket that it inherits.
const listenVariable = "NETTAP_TEST_LISTEN"

func TestMain(m *testing.M) {
	if os.Getenv(listenVariable) != "" {
		beListener()
	}
	if address := os.Getenv(clientVariable); address != "" {
		beClient(address)
	}
	os.Exit(m.Run())
}

// beClient connects, and for each line that it reads it closes the connection and connects again.
func beClient(address string) {
	lines := bufio.NewScanner(os.Stdin)
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("connected")
		lines.Scan()
		c.Close()
	}
}

// beListener listens until it is killed.
func beListener() {
	if err := unix.Listen(inherited, 5); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // it ends with the test
	os.Exit(0)
}

const inherited = 3 // the descriptor of the first of exec.Cmd.ExtraFiles

// told is what metrics say of one process.
type told struct {
	Connects    map[string]int64 // by error
	Retransmits int64
	RoundTrips  map[string]uint64 // ends by role
	Ended       int               // how many series have ended
}

// toldOf returns what metrics say of the process with a pid.
func toldOf(metrics pmetric.Metrics, pid int) told {
	all := told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{}}
	for _, resource := range metrics.ResourceMetrics().All() {
		if of, ok := resource.Resource().Attributes().Get("process.pid"); !ok || of.Int() != int64(pid) {
			continue
		}
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				all.read(metric)
			}
		}
	}
	return all
}

func (all *told) read(metric pmetric.Metric) {
	if metric.Name() == metadata.MetricsInfo.NettapProcessTCPRtt.Name {
		for _, point := range metric.Histogram().DataPoints().All() {
			if point.Flags().NoRecordedValue() {
				all.Ended++
				continue
			}
			all.RoundTrips[textOf(point.Attributes(), "nettap.connection.role")] += point.Count()
		}
		return
	}
	for _, point := range metric.Sum().DataPoints().All() {
		switch {
		case point.Flags().NoRecordedValue():
			all.Ended++
		case metric.Name() == "nettap.process.tcp.connects":
			all.Connects[textOf(point.Attributes(), "error.type")] += point.IntValue()
		default:
			all.Retransmits += point.IntValue()
		}
	}
}

// textOf returns an attribute, or "".
func textOf(attributes pcommon.Map, key string) string {
	value, ok := attributes.Get(key)
	if !ok {
		return ""
	}
	return value.Str()
}

// fixture is a running instrument.
type fixture struct {
	*Connections
	recorder *stats.Recorder
}

func newFixture(change func(*Connections)) *fixture {
	now, recorder := clock.New(), new(stats.Recorder)
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	c := New(builder, owner.New(owner.Options{MaxProcesses: 4096}), process.NewDirectory("", now), now, recorder, Options{})
	if change != nil {
		change(c)
	}
	return &fixture{c, recorder}
}

func observe(t *testing.T, change func(*Connections)) *fixture {
	t.Helper()
	f := newFixture(change)
	kerneltest.Start(t, f)
	return f
}

// together are several instruments that observe the same. None counts the self-tests of another one.
type together []*fixture

func (all together) each(do func(*fixture) error) (errs error) {
	for _, f := range all {
		errs = errors.Join(errs, do(f))
	}
	return errs
}

func (all together) Start(ctx context.Context) error {
	return all.each(func(f *fixture) error { return f.Start(ctx) })
}

func (all together) Enable() error { return all.each(func(f *fixture) error { return f.Enable() }) }

func (all together) Shutdown(ctx context.Context) error {
	return all.each(func(f *fixture) error { return f.Shutdown(ctx) })
}

func (f *fixture) collect(t *testing.T) pmetric.Metrics {
	t.Helper()
	metrics, err := f.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return metrics
}

// requireTold waits until the metrics say want of a process, and nothing else.
func (f *fixture) requireTold(t *testing.T, pid int, want told) {
	t.Helper()
	differ := func() string { return cmp.Diff(want, toldOf(f.collect(t), pid)) }
	diff := differ()
	for deadline := time.Now().Add(kerneltest.Patience); diff != "" && time.Now().Before(deadline); diff = differ() {
		time.Sleep(20 * time.Millisecond)
	}
	if diff != "" {
		t.Errorf("what is told of process %d differs (-want +got):\n%s", pid, diff)
	}
}

// requireBalance waits until every event that was seen is aggregated or lost.
func (f *fixture) requireBalance(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(kerneltest.Patience); ; time.Sleep(20 * time.Millisecond) {
		f.collect(t)
		totals := f.recorder.Read()
		if totals.Seen == totals.Aggregated+totals.Lost["map_full"] {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("seen differs from aggregated + lost: %+v", totals)
		}
	}
}

// network is two network namespaces, with a server in the far one.
type network struct {
	t         *testing.T
	near, far kerneltest.Namespace
	listener  *net.TCPListener
}

func newNetwork(t *testing.T) *network {
	n := &network{t: t}
	n.near, n.far = kerneltest.Namespaces(t)
	n.listener = n.listen()
	return n
}

// listen returns another listener of the far namespace.
func (n *network) listen() (listener *net.TCPListener) {
	n.t.Helper()
	kerneltest.InNamespace(n.t, n.far.Name, func() { listener = kerneltest.Listen(n.t, net.JoinHostPort(n.far.IPv4.String(), "0")) })
	return listener
}

func (n *network) port() int { return n.listener.Addr().(*net.TCPAddr).Port }

// connect makes a connection, and sends something both ways.
func (n *network) connect() (client, server *net.TCPConn) {
	n.t.Helper()
	kerneltest.InNamespace(n.t, n.near.Name, func() { client = kerneltest.Dial(n.t, n.listener.Addr()) })
	server = kerneltest.Accept(n.t, n.listener)
	n.pass(client, server)
	n.pass(server, client)
	return client, server
}

func (n *network) pass(from, to net.Conn) {
	n.t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		n.t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
		n.t.Fatal(err)
	}
}

// end closes both ends of a connection.
func (n *network) end(client, server net.Conn) {
	client.Close()
	io.Copy(io.Discard, server) //nolint:errcheck // it waits until the client's end has arrived
	server.Close()
}

// dial calls change with a new socket, and connects the socket to a port of the server's namespace.
func (n *network) dial(port int, change func(fd int) error) (fd int, failed error) {
	n.t.Helper()
	kerneltest.InNamespace(n.t, n.near.Name, func() {
		var err error
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			n.t.Fatal(err)
		}
		if err := change(fd); err != nil {
			n.t.Fatal(err)
		}
		failed = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: n.far.IPv4.As4()})
	})
	return fd, failed
}

// retransmits returns how many segments a namespace has retransmitted, by the kernel's RetransSegs.
func (n *network) retransmits(in kerneltest.Namespace) (segments int64) {
	n.t.Helper()
	kerneltest.InNamespace(n.t, in.Name, func() {
		threads, err := procfs.NewFS("/proc/self/task")
		if err != nil {
			n.t.Fatal(err)
		}
		thread, err := threads.Proc(unix.Gettid())
		if err != nil {
			n.t.Fatal(err)
		}
		counters, err := thread.Snmp()
		if err != nil {
			n.t.Fatal(err)
		}
		segments = int64(*counters.Tcp.RetransSegs)
	})
	return segments
}

// answerAgain makes the far namespace retransmit a SYN-ACK. The listener and the client are closed then,
// so that nothing else is retransmitted.
func (n *network) answerAgain() {
	n.t.Helper()
	listener := n.listen()
	defer listener.Close()
	before := n.retransmits(n.far)
	restore := kerneltest.Lose(n.t, n.far, n.near)
	defer restore()
	fd, err := n.dial(listener.Addr().(*net.TCPAddr).Port, func(fd int) error { return unix.SetNonblock(fd, true) })
	defer unix.Close(fd)
	if !errors.Is(err, unix.EINPROGRESS) {
		n.t.Errorf("connect without an answer: %v", err)
	}
	for deadline := time.Now().Add(kerneltest.Patience); n.retransmits(n.far) == before; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatal("no SYN-ACK is sent again")
		}
	}
}

// sentAgain waits until a connection has retransmitted at least n segments.
func sentAgain(t *testing.T, c *net.TCPConn, n uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(kerneltest.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var info *unix.TCPInfo
		var infoErr error
		if err := raw.Control(func(fd uintptr) { info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil || infoErr != nil {
			t.Fatal(err, infoErr)
		}
		if info.Total_retrans >= n {
			return
		}
	}
	t.Fatalf("it does not send anything again %d times", n)
}

// connectToItself makes a socket connect to itself, so that its SYN crosses another one, and sends something.
func connectToItself(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, own); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Read(fd, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// chosen returns the hook by which connections are seen.
func (f *fixture) chosen(t *testing.T) string {
	t.Helper()
	for _, hook := range f.hooks() {
		if hook.Job == "connection" {
			return hook.Name
		}
	}
	t.Fatal("no hook sees connections")
	return ""
}

// TestKernelFollowsConnections observes the same by the functions, if they can be traced, and by the tracepoint.
func TestKernelFollowsConnections(t *testing.T) {
	f, by := newFixture(nil), newFixture(func(c *Connections) { c.options.AvoidHooks = []string{"fentry"} })
	all := together{f, by}
	kerneltest.Start(t, all)
	const tracepoint = "tp_btf/inet_sock_set_state"
	best := tracepoint
	if kernel.Probe(traced) == nil {
		best = traced
	}
	if diff := cmp.Diff([]string{best, tracepoint}, []string{f.chosen(t), by.chosen(t)}); diff != "" {
		t.Errorf("the hooks differ (-want +got):\n%s", diff)
	}
	n := newNetwork(t)
	want := told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{}}
	connected := func(connects int64) {
		want.Connects[""] += connects
		want.RoundTrips["client"] += uint64(connects)
		want.RoundTrips["server"] += uint64(connects)
	}

	for range 5 {
		n.end(n.connect())
	}
	connected(5)

	closed := n.port() + 1 // nothing listens there, because nothing else runs in the namespace
	for range 3 {
		fd, err := n.dial(closed, func(int) error { return nil })
		if !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect to a closed port: %v", err)
		}
		unix.Close(fd)
		want.Connects["ECONNREFUSED"]++
	}

	bound := func(fd int) error {
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Port: 1013, Addr: n.near.IPv4.As4()}))
	}
	first, err := n.dial(n.port(), bound)
	if err != nil {
		t.Fatal(err)
	}
	server := kerneltest.Accept(t, n.listener)
	second, err := n.dial(n.port(), bound)
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("connect from a port that is in use: %v", err)
	}
	server.Close()
	unix.Close(first)
	unix.Close(second)
	connected(1)
	want.Connects["_OTHER"]++

	client, server := n.connect()
	restore := kerneltest.Lose(t, n.near, n.far)
	if _, err := client.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	sentAgain(t, client, 2)
	fd, err := n.dial(n.port(), func(fd int) error { return unix.SetNonblock(fd, true) })
	if !errors.Is(err, unix.EINPROGRESS) {
		t.Errorf("connect without an answer: %v", err)
	}
	unix.Close(fd)
	want.Connects["given_up"]++
	fd, err = n.dial(n.port(), func(fd int) error {
		return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SYNCNT, 1), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1))
	})
	if !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("connect without an answer: %v", err)
	}
	unix.Close(fd)
	want.Connects["ETIMEDOUT"]++
	restore()
	n.end(client, server)
	connected(1)

	n.answerAgain()
	want.Connects["given_up"]++

	connectToItself(t)
	want.Connects[""]++
	want.RoundTrips["client"]++

	fd, err = n.dial(n.port(), func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) })
	if err != nil {
		t.Errorf("restore a connection: %v", err)
	}
	unix.Close(fd) // it did not connect, and had no round trip

	want.Retransmits = n.retransmits(n.near) + n.retransmits(n.far)
	if want.Retransmits < 3 {
		t.Errorf("the kernel says that %d segments were sent again", want.Retransmits)
	}
	for _, f := range all {
		f.requireTold(t, os.Getpid(), want)
		f.requireBalance(t)
	}
}

// TestKernelFollowsConnectionsUntilTheirProcessEnds has a connection that is older than the instrument,
// so that its connect is not counted and its role is not known. When the process ends, its series must
// end.
func TestKernelFollowsConnectionsUntilTheirProcessEnds(t *testing.T) {
	kerneltest.Require(t)
	listener := kerneltest.Listen(t, "127.0.0.1:0")
	client := exec.Command(os.Args[0])
	client.Env = append(os.Environ(), clientVariable+"="+listener.Addr().String())
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output := kerneltest.OutputOf(t, client)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		client.Process.Kill() //nolint:errcheck // it may have ended
		client.Wait()         //nolint:errcheck // it was killed
	}
	defer kill()
	serve := func() {
		t.Helper()
		c := kerneltest.Accept(t, listener)
		if line := output.Line(); line != "connected" {
			t.Fatalf("the client says %q", line)
		}
		c.Close()
	}
	serve()
	f := observe(t, nil)
	for range 2 {
		fmt.Fprintln(stdin)
		serve()
	}
	pid, want := client.Process.Pid, told{Connects: map[string]int64{"": 2}, RoundTrips: map[string]uint64{"": 1, "client": 1}}
	f.requireTold(t, pid, want) // the last connection is not closed yet
	kill()
	want.RoundTrips["client"]++
	for range 3 { // enough collections for the tallies to be removed; without a delivery the last values stay
		f.requireTold(t, pid, want)
	}
	f.Delivered()
	f.requireTold(t, pid, told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{}, Ended: 3})
	f.Delivered()
	f.requireTold(t, pid, told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{}})
	f.requireTold(t, pid, told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{}})
	processes, err := f.owners.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if int(p.ID.PID) == pid {
			t.Errorf("it is still known: %+v", p)
		}
	}
	if f.roster.Holds(uint32(pid)) {
		t.Error("it is still held")
	}
	f.requireBalance(t)
}

func TestKernelFollowsConnectionsThatFindNoPlace(t *testing.T) {
	f := observe(t, func(c *Connections) { c.maxTallies, c.places = 1, 1 })
	n := newNetwork(t)
	n.end(n.connect())
	deadline := time.Now().Add(kerneltest.Patience)
	for f.recorder.Read().Seen < 3 && time.Now().Before(deadline) {
		f.collect(t)
	}
	f.requireBalance(t)
	if totals := f.recorder.Read(); totals.Seen < 3 || totals.Lost["map_full"] < 2 {
		t.Errorf("of a connect and two ends, and one place: %+v", totals)
	}
}

// TestKernelFollowsConnectionsOfAListenerThatHasEnded has connections that nobody uses, so that they belong to the
// process that listens. When it has ended, the listener is still there, because another process has it.
func TestKernelFollowsConnectionsOfAListenerThatHasEnded(t *testing.T) {
	f := observe(t, nil)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	listener := os.NewFile(uintptr(fd), "listener")
	defer listener.Close()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), listenVariable+"=1")
	child.ExtraFiles = []*os.File{listener}
	output := kerneltest.OutputOf(t, child)
	program := kerneltest.StartProgram(t, child)
	if line := output.Line(); line != "listening" {
		t.Fatalf("the process that listens says %q", line)
	}
	connect := func(times int) {
		t.Helper()
		for range times {
			client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Connect(client, address); err != nil {
				t.Fatal(err)
			}
			server := kerneltest.AcceptOn(t, fd)
			// a FIN that the process sends would be a use of the connection before Linux 6.16, so the peer resets it
			if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
				t.Fatal(err)
			}
			unix.Close(client)
			unix.Close(server)
		}
	}
	connect(3)
	want := told{Connects: map[string]int64{}, RoundTrips: map[string]uint64{"server": 3}}
	f.requireTold(t, child.Process.Pid, want)
	program.End()
	connect(3)
	f.requireTold(t, os.Getpid(), told{Connects: map[string]int64{"": 6}, RoundTrips: map[string]uint64{"client": 6}})
	f.requireTold(t, child.Process.Pid, want)
	f.requireBalance(t)
}
