// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// serverVariable makes this test binary a server that accepts on the listener at fd 3 in the way
// that the variable names. The server tells each connection which process and thread accepted it,
// and closes it. So a client knows what a record of it has to contain.
const serverVariable = "NETTAP_TEST_SERVER"

// usersVariable has the real and the effective user that a server changes to.
const usersVariable = "NETTAP_TEST_USERS"

const listenerFD = 3

// hermitVariable has the name of the network namespace that a hermit makes for itself.
const hermitVariable = "NETTAP_TEST_HERMIT"

// beHermit connects to itself in a network namespace of its own, says at which port, and waits to
// be killed.
func beHermit() {
	runtime.LockOSThread()
	if _, err := netns.NewNamed(os.Getenv(hermitVariable)); err != nil {
		panic(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		panic(err)
	}
	server, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	for _, message := range []struct {
		from, to net.Conn
		bytes    int
	}{{client, server, 1000}, {server, client, 300}} {
		if _, err := message.from.Write(make([]byte, message.bytes)); err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(message.to, make([]byte, message.bytes)); err != nil {
			panic(err)
		}
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	unix.Pause() //nolint:errcheck // it is killed
	runtime.KeepAlive(client)
}

var servers = map[string]func(){
	"net":            serveNet,
	"blocking":       func() { serveBlocking() },
	"threads":        serveThreads,
	"io_uring":       func() { serveUring(uringOneShot) },
	"multishot":      func() { serveUring(uringMultishot) },
	"fixed file":     func() { serveUring(uringFixedSlot) },
	"any fixed file": func() { serveUring(uringFixedAny | uringMultishot) },
	"hermit":         beHermit,
}

func TestMain(m *testing.M) {
	if kind := os.Getenv(serverVariable); kind != "" {
		become(os.Getenv(usersVariable))
		servers[kind]()
		os.Exit(1) // servers are killed
	}
	os.Exit(m.Run())
}

func become(users string) {
	var realID, effectiveID int
	_, err := fmt.Sscan(users, &realID, &effectiveID)
	if err == nil {
		err = syscall.Setreuid(realID, effectiveID)
	}
	if err != nil {
		panic(err)
	}
}

// greeting is what a server tells about the thread that accepted.
type greeting struct {
	PID, TID, UID, RealUID int
	Comm                   string
}

func newGreeting() greeting {
	comm, _ := os.ReadFile("/proc/self/comm")
	return greeting{
		PID: os.Getpid(), TID: unix.Gettid(), UID: os.Geteuid(), RealUID: os.Getuid(),
		Comm: strings.TrimSpace(string(comm)),
	}
}

func greet(w io.WriteCloser) {
	text, _ := json.Marshal(newGreeting())
	w.Write(text)
	w.Close()
}

func serveNet() {
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		panic(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		greet(connection)
	}
}

// serveBlocking waits inside the system call.
func serveBlocking() {
	runtime.LockOSThread()
	for {
		fd, _, err := unix.Accept4(listenerFD, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			panic(err)
		}
		greet(os.NewFile(uintptr(fd), "connection"))
	}
}

func serveThreads() {
	for range 3 {
		go serveBlocking()
	}
	serveBlocking()
}

// listen returns a listening socket that blocks, and its address.
func listen(t *testing.T, address string) (*os.File, netip.AddrPort) {
	t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	return listenWith(t, config, address)
}

func listenWith(t *testing.T, config net.ListenConfig, address string) (*os.File, netip.AddrPort) {
	t.Helper()
	listener, err := config.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := unix.SetNonblock(int(file.Fd()), false); err != nil {
		t.Fatal(err)
	}
	return file, listener.Addr().(*net.TCPAddr).AddrPort()
}

// startServer starts a server as user uid on listener. It ends with the test.
func startServer(t *testing.T, kind string, listener *os.File, uid int) (pid int) {
	t.Helper()
	return startServerAs(t, kind, listener, uid, uid)
}

func startServerAs(t *testing.T, kind string, listener *os.File, realUID, effectiveUID int) (pid int) {
	t.Helper()
	server := newServer(t, kind, listener, realUID, effectiveUID)
	start(t, server)
	return server.Process.Pid
}

// awaitAccept waits until a thread of a server sleeps in a call that waits for connections.
func awaitAccept(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			state, _ := os.ReadFile(thread) // it may be gone
			number, _, _ := strings.Cut(string(state), " ")
			switch n, _ := strconv.Atoi(number); n {
			case unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_IO_URING_ENTER:
				return
			}
		}
	}
	t.Fatalf("no thread of server %d waits for connections", pid)
}

func newServer(t *testing.T, kind string, listener *os.File, realUID, effectiveUID int) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command(executable)
	server.Env = append(os.Environ(), serverVariable+"="+kind, fmt.Sprintf("%s=%d %d", usersVariable, realUID, effectiveUID))
	server.ExtraFiles = []*os.File{listener}
	server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return server
}

func start(t *testing.T, server *exec.Cmd) {
	t.Helper()
	var output bytes.Buffer
	server.Stderr = &output
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
		if t.Failed() && output.Len() > 0 {
			t.Logf("the server said:\n%s", output.String())
		}
	})
}

// connection is a connection that a server accepted, as its client knows it.
type connection struct {
	client, server netip.AddrPort
	by             greeting
}

// connect connects to a server and returns when it has accepted and closed.
func connect(t *testing.T, address netip.AddrPort) connection {
	t.Helper()
	return connectWith(t, net.Dialer{}, address)
}

func connectWith(t *testing.T, dialer net.Dialer, address netip.AddrPort) connection {
	t.Helper()
	c, err := tryConnect(dialer, address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryConnect(dialer net.Dialer, address netip.AddrPort) (connection, error) {
	dialer.Timeout = patience
	conn, err := dialer.Dial("tcp", address.String())
	if err != nil {
		return connection{}, err
	}
	defer conn.Close()
	c := connection{client: unmapped(conn.LocalAddr()), server: unmapped(conn.RemoteAddr())}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return connection{}, err
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		return connection{}, err
	}
	if err := json.Unmarshal(text, &c.by); err != nil {
		return connection{}, fmt.Errorf("the server said %q: %w", text, err)
	}
	return c, nil
}

func unmapped(address net.Addr) netip.AddrPort {
	a := address.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

const patience = kerneltest.Patience
