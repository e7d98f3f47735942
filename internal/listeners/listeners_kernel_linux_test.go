// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// holderVariable makes this test binary a process that listens until it is killed.
const holderVariable = "NETTAP_TEST_HOLDER"

func TestMain(m *testing.M) {
	if os.Getenv(holderVariable) != "" {
		s := open(unix.IPPROTO_TCP)
		s.listen(9)
		fmt.Println(s.port(), s.inode())
		unix.Pause() //nolint:errcheck // it is killed
	}
	os.Exit(m.Run())
}

// onEach runs a test for each way to see listeners that this kernel has.
func onEach(t *testing.T, test func(t *testing.T, l func() *Listeners)) {
	kerneltest.Require(t)
	var better []string
	for _, hook := range ladder {
		avoid := slices.Clone(better)
		better = append(better, hook.Name)
		if err := kernel.Probe(hook.Name); err != nil {
			t.Log(err)
			continue
		}
		kind, _, _ := strings.Cut(hook.Name, "/")
		t.Run(kind, func(t *testing.T) {
			test(t, func() *Listeners {
				l := observe(t, avoid...)
				if used := l.Hooks()[0].Name; used != hook.Name {
					t.Fatalf("%s is used, and not %s", used, hook.Name)
				}
				return l
			})
		})
	}
}

// observe starts Listeners that end with the test.
func observe(t *testing.T, avoid ...string) *Listeners {
	t.Helper()
	kerneltest.Require(t)
	l := New(true, avoid)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	if err := l.Enable(); err != nil {
		t.Fatal(err)
	}
	return l
}

// expect compares the changes of a process's listeners with what is wanted, without times and the
// identity of the process.
func (l *Listeners) expect(t *testing.T, pid int, want Changes) {
	t.Helper()
	all, err := l.Read()
	if err != nil {
		t.Fatal(err)
	}
	got := Changes{Opened: of(pid, all.Opened), Closed: of(pid, all.Closed)}
	for _, closed := range got.Closed {
		if closed.Closed < closed.Opened || closed.Closed == 0 {
			t.Errorf("%+v ends before it begins", closed)
		}
	}
	for _, changed := range [][]Listener{got.Opened, got.Closed} {
		for i := range changed {
			changed[i] = Listener{
				Local: changed[i].Local, NetnsInode: changed[i].NetnsInode, Inode: changed[i].Inode,
				QueueLength: changed[i].QueueLength, QueueLimit: changed[i].QueueLimit, Opened: min(changed[i].Opened, 1),
			}
		}
	}
	if diff := cmp.Diff(want, got, addresses); diff != "" {
		t.Errorf("changes differ (-want +got):\n%s", diff)
	}
}

var addresses = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func of(pid int, all []Listener) (found []Listener) {
	for _, l := range all {
		if l.Process.PID == uint32(pid) {
			found = append(found, l)
		}
	}
	return found
}

// socket is a TCP socket of the test.
type socket struct {
	fd         int
	netnsInode uint32
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func open(protocol int) socket {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	must(err)
	var namespace unix.Stat_t
	must(unix.Stat("/proc/thread-self/ns/net", &namespace))
	return socket{fd, uint32(namespace.Ino)}
}

func (s socket) bind(port int) {
	must(unix.Bind(s.fd, &unix.SockaddrInet6{Port: port, Addr: netip.IPv6Loopback().As16()}))
}

func (s socket) listen(backlog int) { must(unix.Listen(s.fd, backlog)) }

func (s socket) set(option int) { must(unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, option, 1)) }

func (s socket) close() { must(unix.Close(s.fd)) }

func (s socket) local() netip.AddrPort {
	name, err := unix.Getsockname(s.fd)
	must(err)
	at := name.(*unix.SockaddrInet6)
	return netip.AddrPortFrom(netip.AddrFrom16(at.Addr), uint16(at.Port))
}

func (s socket) port() int { return int(s.local().Port()) }

func (s socket) inode() uint64 {
	var status unix.Stat_t
	must(unix.Fstat(s.fd, &status))
	return status.Ino
}

// listener returns the Listener that should be reported for the socket.
func (s socket) listener(backlog uint32) Listener {
	return Listener{Local: s.local(), NetnsInode: s.netnsInode, Inode: s.inode(), QueueLimit: backlog, Opened: 1}
}

func TestKernelSeesListenersComeAndGo(t *testing.T) { onEach(t, comeAndGo) }

func comeAndGo(t *testing.T, observed func() *Listeners) {
	var former socket
	a, _ := kerneltest.Namespaces(t)
	kerneltest.InNamespace(t, a.Name, func() {
		former = open(unix.IPPROTO_TCP)
		former.bind(0)
		former.listen(3)
	})
	l := observed()
	there := former.listener(3)
	there.Opened = 0
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{there}})
	former.close()
	l.expect(t, os.Getpid(), Changes{Closed: []Listener{there}})

	bound, anywhere := open(unix.IPPROTO_TCP), open(unix.IPPROTO_TCP)
	bound.bind(0)
	bound.listen(7)
	anywhere.listen(8) // the kernel chooses a port
	wantBound, wantAnywhere := bound.listener(7), anywhere.listener(8)
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{wantBound, wantAnywhere}})
	l.expect(t, os.Getpid(), Changes{})
	bound.close()
	anywhere.close()
	l.expect(t, os.Getpid(), Changes{Closed: []Listener{wantBound, wantAnywhere}})

	short := open(unix.IPPROTO_TCP)
	short.bind(0)
	short.listen(1)
	want := []Listener{short.listener(1)}
	short.close()
	l.expect(t, os.Getpid(), Changes{Opened: want, Closed: want})
}

func TestKernelSeesNoListenerThatFailed(t *testing.T) { onEach(t, failToListen) }

func failToListen(t *testing.T, observed func() *Listeners) {
	l := observed()
	first, second := open(unix.IPPROTO_TCP), open(unix.IPPROTO_TCP)
	defer first.close()
	for _, s := range []socket{first, second} {
		s.set(unix.SO_REUSEADDR)
	}
	first.bind(0)
	second.bind(first.port())
	first.listen(1)
	if err := unix.Listen(second.fd, 1); !errors.Is(err, unix.EADDRINUSE) {
		t.Fatalf("two listen on a port: %v", err)
	}
	second.close()
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{first.listener(1)}})
}

func TestKernelSeesListenersOfAPortApart(t *testing.T) {
	l := observe(t)
	var workers [2]socket
	var want []Listener
	for i := range workers {
		workers[i] = open(unix.IPPROTO_TCP)
		workers[i].set(unix.SO_REUSEPORT)
		workers[i].bind(workers[0].port())
		workers[i].listen(5)
		want = append(want, workers[i].listener(5))
	}
	l.expect(t, os.Getpid(), Changes{Opened: want})
	workers[1].close()
	workers[0].close()
	l.expect(t, os.Getpid(), Changes{Closed: []Listener{want[1], want[0]}})
}

func TestKernelSeesAListenerOfMPTCPOnce(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skip("this kernel has no MPTCP")
	}
	must(unix.Close(fd))
	former := open(unix.IPPROTO_MPTCP)
	former.bind(0)
	former.listen(4)
	l := observe(t)
	there := former.listener(4)
	there.Opened = 0
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{there}})
	former.close()
	l.expect(t, os.Getpid(), Changes{Closed: []Listener{there}})

	s := open(unix.IPPROTO_MPTCP)
	s.bind(0)
	s.listen(6)
	want := []Listener{s.listener(6)}
	l.expect(t, os.Getpid(), Changes{Opened: want})
	s.close()
	l.expect(t, os.Getpid(), Changes{Closed: want})
}

// A process that is killed ends its listener, even if it is the last one in its network namespace.
func TestKernelSeesAListenerKilledWithItsNamespace(t *testing.T) {
	l := observe(t)
	executable, err := os.Executable()
	must(err)
	holder := exec.Command(executable)
	holder.Env = append(os.Environ(), holderVariable+"=1")
	holder.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	output := kerneltest.OutputOf(t, holder)
	must(holder.Start())
	defer holder.Process.Kill()
	var port int
	var inode uint64
	_, err = fmt.Sscan(output.Line(), &port, &inode)
	must(err)
	var namespace unix.Stat_t
	must(unix.Stat(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid), &namespace))
	want := []Listener{{
		Local: netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), NetnsInode: uint32(namespace.Ino), Inode: inode,
		QueueLimit: 9, Opened: 1,
	}}
	l.expect(t, holder.Process.Pid, Changes{Opened: want})
	must(holder.Process.Kill())
	holder.Wait() //nolint:errcheck // it was killed
	l.expect(t, holder.Process.Pid, Changes{Closed: want})
}

func TestKernelSeesWhatWaitsForAnAccept(t *testing.T) {
	l := observe(t)
	s := open(unix.IPPROTO_TCP)
	defer s.close()
	s.bind(0)
	s.listen(10)
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{s.listener(10)}})
	s.listen(20) // listen may be called again
	l.expect(t, os.Getpid(), Changes{})
	for range 3 {
		defer kerneltest.Dial(t, net.TCPAddrFromAddrPort(s.local())).Close()
	}
	want := s.listener(20)
	want.QueueLength = 3
	for deadline := time.Now().Add(kerneltest.Patience); ; time.Sleep(time.Millisecond) {
		now, err := l.Now()
		must(err)
		mine := of(os.Getpid(), now)
		if len(mine) == 1 && mine[0].QueueLength == want.QueueLength && mine[0].QueueLimit == want.QueueLimit && mine[0].Inode == want.Inode {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the listeners are %+v, want %+v", mine, want)
		}
	}
}

func TestKernelReportsQueuesOfListeners(t *testing.T) {
	kerneltest.Require(t)
	s := open(unix.IPPROTO_TCP)
	s.bind(0)
	s.listen(10)
	inode := int64(s.inode())
	builder := metadata.NewMetricsBuilder(metadata.NewDefaultMetricsBuilderConfig(), receivertest.NewNopSettings(metadata.Type))
	c := clock.New()
	recorder := &stats.Recorder{}
	q := NewQueues(builder, process.NewDirectory("", c), c, recorder, nil)
	kerneltest.Start(t, q)
	defer kerneltest.Dial(t, net.TCPAddrFromAddrPort(s.local())).Close()
	want := func(length, limit int64, ended bool) []point {
		pid := int64(os.Getpid())
		return []point{{"nettap.listener.queue.length", "::1", pid, inode, length, ended}, {"nettap.listener.queue.limit", "::1", pid, inode, limit, ended}}
	}
	expect := func(want []point) {
		t.Helper()
		var got []point
		for deadline := time.Now().Add(kerneltest.Patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			metrics, err := q.Collect(t.Context())
			must(err)
			got = slices.DeleteFunc(pointsOf(metrics), func(p point) bool { return p.inode != inode })
			if slices.Equal(got, want) {
				q.Delivered()
				return
			}
		}
		t.Errorf("points are %v, want %v", got, want)
	}
	expect(want(1, 10, false))
	s.close()
	expect(want(0, 0, true))
	expect(nil)
	if totals := recorder.Read(); totals.Seen != totals.Aggregated || totals.Seen == 0 {
		t.Errorf("the statistics are %+v", totals)
	}
}

// If more listeners end than the ring can hold, those that were known are still reported, and the
// others are counted.
func TestKernelSeesNoListenerGoUncounted(t *testing.T) {
	const many = 3_000
	l := observe(t)
	kept := open(unix.IPPROTO_TCP)
	kept.bind(0)
	kept.listen(1)
	l.expect(t, os.Getpid(), Changes{Opened: []Listener{kept.listener(1)}})
	atOfKept := kept.local()
	for range many {
		s := open(unix.IPPROTO_TCP)
		s.bind(0)
		s.listen(1)
		s.close()
	}
	kept.close()
	changes, err := l.Read()
	must(err)
	opened, closed := of(os.Getpid(), changes.Opened), of(os.Getpid(), changes.Closed)
	stats, err := l.Stats()
	must(err)
	if lost := 2*many + 1 - len(opened) - len(closed); len(closed) != len(opened)+1 || stats.RingFull != uint64(lost) || lost == 0 {
		t.Errorf("%d opened and %d closed of %d, and %+v", len(opened), len(closed), many, stats)
	}
	if len(closed) == 0 || closed[0].Closed != 0 || closed[0].Local != atOfKept {
		t.Errorf("the first of the ends is %+v, want that of %v, which nobody saw", closed[:1], atOfKept)
	}
}
