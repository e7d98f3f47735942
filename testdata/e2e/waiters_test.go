// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// These are the times after which a server answers, a client gives up a connect, and a server reads.
const (
	answersAfter = 300 * time.Millisecond
	givesUpAfter = 500 * time.Millisecond
	readsAfter   = 400 * time.Millisecond
)

// serveSlowly starts an HTTP server that sends each answer after a while.
func serveSlowly(t *testing.T) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(answersAfter)
		io.WriteString(w, "late") //nolint:errcheck // the client has gone if it fails
	})}
	go server.Serve(listener) //nolint:errcheck // it is closed
	t.Cleanup(func() { server.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}

// tcpSocket makes a socket, which is closed at the end of the test.
func tcpSocket(t *testing.T, flags int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// listenWith lets a socket listen on a port that the kernel chooses.
func listenWith(t *testing.T, fd, backlog int) *unix.SockaddrInet4 {
	t.Helper()
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return address.(*unix.SockaddrInet4)
}

// silentPort returns a port where connects get no answer, since the queue of connections is full.
func silentPort(t *testing.T) int {
	t.Helper()
	address := listenWith(t, tcpSocket(t, 0), 0)
	for range 2 {
		unix.Connect(tcpSocket(t, unix.SOCK_NONBLOCK), address) //nolint:errcheck // it is under way
	}
	return address.Port
}

// These clients connect to a port of 127.0.0.1, send a request with a traceparent, and print errors.
// If nobody answers the connect, they give up after half a second. In the client in Python that
// blocks, the kernel gives up after one more attempt.
const (
	nodeProgram = `
const http = require("http")
const [port, traceparent] = process.argv.slice(1)
const request = http.get({host: "127.0.0.1", port, agent: false, headers: {traceparent}}, answer => { answer.resume(); answer.on("end", () => process.exit(0)) })
request.on("error", error => console.log(error.code))
request.on("socket", socket => { const t = setTimeout(() => request.destroy(new Error("late")), 500); socket.on("connect", () => clearTimeout(t)) })`
	pythonProgram = `
import socket, sys
port, traceparent, how = sys.argv[1:]
client = socket.socket()
if how == "blocks":
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1)
else:
    client.settimeout(0.5)
try:
    client.connect(("127.0.0.1", int(port)))
    client.sendall(b"GET / HTTP/1.0\r\ntraceparent: %s\r\n\r\n" % traceparent.encode())
    client.recv(1000)
except OSError as e:
    print(e)
client.close()`

	traceparent = "00-" + traceID + "-" + spanID + "-01"
)

// runClient starts a client, waits until it has ended, and returns its pid.
func runClient(t *testing.T, name string, arguments ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...)
	output, err := command.CombinedOutput()
	t.Logf("%s: %v %s", name, err, output)
	if command.Process == nil {
		return 0
	}
	return command.Process.Pid
}

func curlClient(t *testing.T, port int) int {
	return runClient(t, "curl", "--silent", "--output", "/dev/null", "--connect-timeout", fmt.Sprint(givesUpAfter.Seconds()),
		"--header", "traceparent: "+traceparent, fmt.Sprintf("http://127.0.0.1:%d/", port))
}

// serveBesideSilence starts a server at a port of 127.0.0.1. At the same port of ::1, connects get no answer.
func serveBesideSilence(t *testing.T) (port int) {
	t.Helper()
	port = serveSlowly(t)
	socket := func(flags int) int {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	fd, address := socket(0), &unix.SockaddrInet6{Addr: [16]byte{15: 1}, Port: port}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), unix.Bind(fd, address), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		unix.Connect(socket(unix.SOCK_NONBLOCK), address) //nolint:errcheck // it is under way
	}
	return port
}

// racingClient asks the server of serveBesideSilence by a name that has both addresses. curl tries the second one 200 ms after the first.
func racingClient(t *testing.T, port int) int {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "curl", "--silent", "--show-error", "--output", "/dev/null",
		"--resolve", fmt.Sprintf("race.test:%d:[::1],127.0.0.1", port), fmt.Sprintf("http://race.test:%d/", port))
	if output, err := command.CombinedOutput(); err != nil || time.Since(began) < answersAfter+150*time.Millisecond {
		t.Errorf("curl has had its answer after %v, without a race: %v %s", time.Since(began), err, output)
	}
	return command.Process.Pid
}

const (
	namesPort        = 53
	nameGivenUpAfter = time.Second // the shortest time that resolv.conf has
)

// silentNames returns the address of a name server that answers nobody.
func silentNames(t *testing.T) netip.Addr {
	t.Helper()
	address := netip.AddrFrom4([4]byte{127, 53, byte(os.Getpid() >> 8), byte(os.Getpid())})
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, namesPort)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return address
}

// namesClient looks up a name by the C library, for which only that name server exists.
func namesClient(t *testing.T, server netip.Addr) int {
	configuration := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(configuration, fmt.Appendf(nil, "nameserver %s\noptions timeout:1 attempts:1\n", server), 0o644); err != nil {
		t.Error(err)
	}
	return runClient(t, "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, configuration,
		python, "-c", "import socket\ntry: socket.getaddrinfo('name.test', 80)\nexcept OSError as e: print(e)")
}

func nodeClient(t *testing.T, port int) int {
	return runClient(t, "node", "-e", nodeProgram, fmt.Sprint(port), traceparent)
}

func pythonClient(how string) func(t *testing.T, port int) int {
	return func(t *testing.T, port int) int {
		return runClient(t, python, "-c", pythonProgram, fmt.Sprint(port), traceparent, how)
	}
}

// goClient is a client in this process. Its goroutine has the span as labels too.
func goClient(t *testing.T, port int) int {
	dialer := net.Dialer{Timeout: givesUpAfter}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}, Timeout: patience}
	pprof.Do(context.Background(), pprof.Labels("trace_id", traceID, "span_id", spanID), func(ctx context.Context) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d", port), nil)
		if err != nil {
			t.Error(err)
			return
		}
		request.Header.Set("traceparent", traceparent)
		if answer, err := client.Do(request); err == nil {
			io.Copy(io.Discard, answer.Body) //nolint:errcheck // its end is what counts
			answer.Body.Close()
		}
	})
	client.CloseIdleConnections()
	return os.Getpid()
}

// lateServer is a server with one client. It reads and answers a request when read is called.
type lateServer struct {
	pid, port int
	read      func()
}

var lateServers = map[string]struct {
	program string // the program that it needs, if any
	server  func(t *testing.T) lateServer
}{
	"a server of Go":           {server: lateGoServer},
	"a server of epoll":        {server: lateEpollServer},
	"a server of io_uring":     {server: lateRingServer},
	"program node as a server": {program: "node", server: lateNodeServer},
}

// lateNodeServer starts a server whose event loop is blocked until it gets a byte on its input.
func lateNodeServer(t *testing.T) lateServer {
	t.Helper()
	command := exec.Command("node", "-e", `
const fs = require("fs"), net = require("net")
const work = () => fs.readSync(0, Buffer.alloc(1))
const server = net.createServer(connection => { work(); connection.on("data", () => { connection.write("x"); work() }) })
server.listen(0, "127.0.0.1", () => console.log("port", server.address().port))`)
	input, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "127.0.0.1", "node", command)
	return lateServer{s.pid, int(s.address.Port()), func() { input.Write([]byte("r")) }} //nolint:errcheck // the client gets no answer
}

// serveHere runs a server in this process, which reads a request for each value of read.
func serveHere(t *testing.T, port int, serve func(read <-chan struct{})) lateServer {
	t.Helper()
	read := make(chan struct{})
	t.Cleanup(func() { close(read) })
	go serve(read)
	return lateServer{os.Getpid(), port, func() {
		select {
		case read <- struct{}{}:
		case <-time.After(patience):
			t.Error("the server waits for no request")
		}
	}}
}

func lateGoServer(t *testing.T) lateServer {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return serveHere(t, listener.Addr().(*net.TCPAddr).Port, func(read <-chan struct{}) {
		connection, err := listener.Accept()
		if err != nil {
			return // the test has failed before the client connected
		}
		defer connection.Close()
		for range read {
			connection.Read(make([]byte, 100)) //nolint:errcheck // the client gets no answer
			connection.Write([]byte("x"))      //nolint:errcheck // the same
		}
	})
}

// lateEpollServer starts a server that waits with epoll.
func lateEpollServer(t *testing.T) lateServer {
	t.Helper()
	listener := tcpSocket(t, 0)
	port := listenWith(t, listener, 1).Port
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(epoll) })
	return serveHere(t, port, func(read <-chan struct{}) {
		connection, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // the test has failed before the client connected
		}
		defer unix.Close(connection)
		unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, connection, &unix.EpollEvent{Events: unix.EPOLLIN}) //nolint:errcheck // the client gets no answer
		for range read {
			unix.EpollWait(epoll, make([]unix.EpollEvent, 1), -1) //nolint:errcheck // the same
			unix.Read(connection, make([]byte, 100))              //nolint:errcheck // the same
			unix.Write(connection, []byte("x"))                   //nolint:errcheck // the same
		}
	})
}

// lateRingServer starts a server that does everything by io_uring, on a socket in blocking mode.
func lateRingServer(t *testing.T) lateServer {
	t.Helper()
	if err := kerneltest.HasRing(); err != nil {
		kerneltest.Lack(t, err)
	}
	listener := tcpSocket(t, 0)
	return serveHere(t, listenWith(t, listener, 1).Port, func(read <-chan struct{}) {
		ring := kerneltest.NewRing()
		defer ring.Close()
		connection := ring.Do(kerneltest.Submission{Opcode: kerneltest.RingAccept, FD: int32(listener)}).Result
		defer unix.Close(int(connection))
		buffer := make([]byte, 100)
		for range read {
			ring.Move(kerneltest.RingRecv, connection, buffer)
			ring.Move(kerneltest.RingSend, connection, buffer[:1])
		}
	})
}

// lateRequests is how many requests a late server gets.
const lateRequests = 2

// ask sends the requests. The server reads each of them late.
func (s lateServer) ask(t *testing.T) {
	t.Helper()
	connection, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: s.port})
	if err != nil {
		t.Error(err)
		return
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Error(err)
		return
	}
	for range lateRequests {
		if _, err := io.WriteString(connection, "request"); err != nil {
			t.Error(err)
		}
		awaitArrival(t, connection)
		time.Sleep(readsAfter) // the test measures this time
		s.read()
		if _, err := io.ReadFull(connection, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
}

// awaitArrival waits until all that was sent on a connection has arrived, which may be later than the call that sends
// it returns: the peer's TCP has acknowledged it.
func awaitArrival(t *testing.T, connection *net.TCPConn) {
	t.Helper()
	raw, err := connection.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	for unacknowledged, deadline := 1, time.Now().Add(patience); unacknowledged > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d bytes do not arrive", unacknowledged)
			return
		}
		var ioctlErr error
		err := raw.Control(func(fd uintptr) { unacknowledged, ioctlErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err != nil || ioctlErr != nil {
			t.Error(err, ioctlErr)
			return
		}
	}
}
