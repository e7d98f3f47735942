// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-7756021b/nettap/internal/child"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// pythonServer is a server in several forms. It tells each client which thread has accepted the
// connection, so that a record can be compared with that.
const pythonServer = `
import os, socket, sys, threading
how, address, user = sys.argv[1], sys.argv[2], int(sys.argv[3])
listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
listener.bind((address, 0))
listener.listen(128)
os.setuid(user)
print("port", listener.getsockname()[1], flush=True)
def serve():
    while True:
        connection, _ = listener.accept()
        connection.sendall(b"%d %d %d" % (os.getpid(), threading.get_native_id(), os.getuid()))
        connection.close()
if how == "threads":
    for _ in range(3): threading.Thread(target=serve).start()
if how == "prefork":
    os.fork() and os.fork()
serve()
`

// goServerVariable is an environment variable that makes this test binary a server, so that one of
// the servers is written in Go.
const goServerVariable = "NETTAP_E2E_GO_SERVER"

func init() {
	if os.Getenv(goServerVariable) == "" {
		return
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		fmt.Fprint(connection, os.Getpid(), 0, os.Getuid()) // a Go program does not know which thread accepted
		connection.Close()
	}
}

// server is a server that runs until the test ends.
type server struct {
	address netip.AddrPort // to connect to
	pid     int
	comm    string
	output  *kerneltest.Output // after the line with the port
}

var portLine = regexp.MustCompile(`port (\d+)`)

// serve starts a server that prints "port" and its port, and waits for that line.
func serve(t *testing.T, address, comm string, command *exec.Cmd) server {
	t.Helper()
	output := kerneltest.OutputOf(t, command)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // to end its children with it
	if err := child.Start(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it may have ended
		command.Wait()                                      //nolint:errcheck // it was killed
	})
	line := output.Line()
	found := portLine.FindStringSubmatch(line)
	if found == nil {
		t.Fatalf("%v said %q, want a port", command, line)
	}
	port, err := strconv.ParseUint(found[1], 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return server{netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port)), command.Process.Pid, comm, output}
}

func servePython(t *testing.T, how, address string, user int) server {
	t.Helper()
	return serve(t, address, "python3", exec.Command("/usr/bin/python3", "-c", pythonServer, how, address, strconv.Itoa(user)))
}

// awaitWaiting waits until all threads of a server are in their accept.
func (s server) awaitWaiting(t *testing.T, threads int) {
	t.Helper()
	waiting := 0
	for deadline := time.Now().Add(patience); waiting != threads; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d threads of %d wait in accept4", waiting, threads)
		}
		calls, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", s.pid))
		if err != nil {
			t.Fatal(err)
		}
		waiting = 0
		for _, path := range calls {
			if call, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(call), fmt.Sprintf("%d ", syscall.SYS_ACCEPT4)) {
				waiting++
			}
		}
	}
}

// accepted is what a record must say. A thread of 0 is not known.
type accepted struct {
	PID, Thread, User int64
	Local, Peer       netip.AddrPort
	Netns             int64
	Body              string

	// The times between which it was accepted, as far as a client knows. Of a record both are its time.
	earliest, latest time.Time
}

// netnsOf returns the inode of a process's network namespace.
func netnsOf(t *testing.T, pid int) int64 {
	t.Helper()
	var status syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &status); err != nil {
		t.Fatal(err)
	}
	return int64(status.Ino)
}

// compare orders by connection, and by time where a client's port is used twice.
func (a accepted) compare(b accepted) int {
	return cmp.Or(a.Local.Compare(b.Local), a.Peer.Compare(b.Peer), a.earliest.Compare(b.earliest))
}

// visit connects, sends a request and returns what the record of the connection must say. If the
// server does not say which thread has accepted, it is the main thread of the server's first process.
func (s server) visit(t *testing.T, request string, user int64) accepted {
	t.Helper()
	earliest := time.Now()
	connection, err := net.DialTimeout("tcp", s.address.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil {
		t.Fatal(err)
	}
	a := accepted{
		PID: int64(s.pid), Thread: int64(s.pid), User: user,
		Local: s.address, Peer: connection.LocalAddr().(*net.TCPAddr).AddrPort(),
		Netns: netnsOf(t, s.pid), earliest: earliest, latest: time.Now(),
	}
	if request == "" {
		if _, err := fmt.Sscan(string(answer), &a.PID, &a.Thread, &a.User); err != nil {
			t.Fatalf("the server said %q: %v", answer, err)
		}
	}
	a.Body = a.line(s.comm)
	return a
}

// line returns the body of the record, for a process with that name.
func (a accepted) line(comm string) string {
	return fmt.Sprintf("%s[%d] uid %d accepted %v on %v", comm, a.PID, a.User, a.Peer, a.Local)
}
