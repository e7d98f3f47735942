// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Descriptors of a helper. All but those of the listener and the connection are
// closed when it executes something.
const (
	heritageFD   = 3 // inherited from the process that has started it
	listenerFD   = 10
	connectionFD = 11
)

// descriptors are the descriptors that a helper can pass to others.
var descriptors = map[string]int{"listener": listenerFD, "connection": connectionFD}

// deeds are the commands of a helper.
var deeds = map[string]func(words []string) any{
	"listen": func(words []string) any { return listen(words[0], netip.MustParseAddr(words[1])) },
	"dial":   func(words []string) any { dial(words[0], netip.MustParseAddrPort(words[1])); return nil },
	"accept": func([]string) any {
		keep(again(func() (int, error) { fd, _, err := unix.Accept(listenerFD); return fd, err }), connectionFD)
		return nil
	},
	"send": func(words []string) any { send(number(words[0])); return nil },
	"repeat": func(words []string) any {
		for range number(words[0]) {
			send(number(words[1]))
		}
		return nil
	},
	"receive": func(words []string) any { receiveAll(number(words[0])); return nil },
	"close":   func([]string) any { return unix.Close(connectionFD) },
	"spawn":   func([]string) any { return spawn() },
	"child":   func(words []string) any { return child.ask(words) },
	"shut":    func([]string) any { return unix.Shutdown(connectionFD, unix.SHUT_WR) },
	"look":    func([]string) any { _, err := receiveNow(); return requireError(unix.EAGAIN, err) },
	"wait":    func([]string) any { _, err := receiveFor(50 * time.Millisecond); return requireError(unix.EAGAIN, err) },
	"push":    func([]string) any { _, err := sendNow(); return requireError(unix.EPIPE, err) },
	"miss":    func([]string) any { return sendNothing() },
	"give": func(words []string) any {
		return unix.Sendmsg(heritageFD, []byte{0}, unix.UnixRights(descriptors[words[0]]), nil, 0)
	},
	"pin": func(words []string) any { runtime.LockOSThread(); return pin(number(words[0])) },
	"spin": func(words []string) any {
		spin(number(words[0]), time.Duration(number(words[1]))*time.Millisecond)
		return nil
	},
	"stall":  func([]string) any { stalled = stall(); return nil },
	"fail":   func([]string) any { return requireError(unix.EFAULT, stalled.fail()) },
	"take":   func(words []string) any { keep(take(), descriptors[words[0]]); return nil },
	"become": func(words []string) any { return syscall.Setreuid(number(words[0]), number(words[1])) },
	"exec":   func(words []string) any { return syscall.Exec(words[0], words, os.Environ()) },
}

// help carries out the commands on standard input, one on each line.
func help() {
	lines := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	for lines.Scan() {
		fmt.Println(obey(strings.Fields(lines.Text())))
	}
}

func obey(words []string) (answer string) {
	defer func() {
		if err := recover(); err != nil {
			answer = fmt.Sprint("error: ", words, ": ", err)
		}
	}()
	switch result := deeds[words[0]](words[1:]).(type) {
	case nil:
		return "done"
	case error:
		panic(result)
	default:
		return fmt.Sprint(result)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func number(word string) int { return must(strconv.Atoi(word)) }

// again makes a system call until no signal interrupts it.
func again(call func() (int, error)) int {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return must(n, err)
		}
	}
}

// keep gives a descriptor a fixed number, which it also has after an exec.
func keep(fd, as int) {
	if err := errors.Join(unix.Dup2(fd, as), unix.Close(fd)); err != nil {
		panic(err)
	}
}

// socket makes a socket of a kind, "tcp", "mptcp", "udp" or "raw", for an address.
func socket(kind string, address netip.Addr) int {
	family, sort, protocol := unix.AF_INET, unix.SOCK_STREAM, 0
	if address.Is6() {
		family = unix.AF_INET6
	}
	switch kind {
	case "udp":
		sort = unix.SOCK_DGRAM
	case "raw":
		sort, protocol = unix.SOCK_RAW, 253 // for experiments: RFC 3692
	case "mptcp":
		protocol = unix.IPPROTO_MPTCP
	}
	return must(unix.Socket(family, sort, protocol))
}

func sockaddr(address netip.AddrPort) unix.Sockaddr {
	if address.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
}

// listen makes the listener, or for protocols without listeners the connection, with room for
// everything that a test sends, and returns its address.
func listen(kind string, address netip.Addr) netip.AddrPort {
	fd, as := socket(kind, address), listenerFD
	err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20),
		unix.Bind(fd, sockaddr(netip.AddrPortFrom(address, 0))))
	if kind == "udp" || kind == "raw" {
		as = connectionFD
	} else {
		err = errors.Join(err, unix.Listen(fd, 16))
	}
	if err != nil {
		panic(err)
	}
	keep(fd, as)
	switch at := must(unix.Getsockname(as)).(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(address, uint16(at.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(address, uint16(at.Port))
	}
	panic("not an IP socket")
}

func dial(kind string, to netip.AddrPort) {
	fd := socket(kind, to.Addr())
	if err := unix.Connect(fd, sockaddr(to)); err != nil {
		panic(err)
	}
	keep(fd, connectionFD)
}

func send(bytes int) {
	for buffer := make([]byte, min(bytes, 1<<16)); bytes > 0; {
		bytes -= again(func() (int, error) { return unix.Write(connectionFD, buffer[:min(bytes, len(buffer))]) })
	}
}

func receiveAll(bytes int) {
	for buffer := make([]byte, 1<<16); bytes > 0; {
		n := again(func() (int, error) { return unix.Read(connectionFD, buffer) })
		if n == 0 {
			panic("the peer has closed the connection")
		}
		bytes -= n
	}
}

// receiveNow receives a byte if there is one, and does not wait.
func receiveNow() (int, error) {
	n, _, err := unix.Recvfrom(connectionFD, make([]byte, 1), unix.MSG_DONTWAIT)
	return n, err
}

// receiveFor receives a byte if one comes in time.
func receiveFor(wait time.Duration) (int, error) {
	limit := func(d time.Duration) error {
		timeval := unix.NsecToTimeval(d.Nanoseconds())
		return unix.SetsockoptTimeval(connectionFD, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeval)
	}
	if err := limit(wait); err != nil {
		return 0, err
	}
	n, err := unix.Read(connectionFD, make([]byte, 1))
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(connectionFD, make([]byte, 1))
	}
	return n, errors.Join(err, limit(0)) // it is a property of the socket
}

// sendNow sends a byte, and does not wait.
func sendNow() (int, error) {
	return unix.SendmsgN(connectionFD, make([]byte, 1), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// sendNothing requires that a call to send fails: the socket is not connected, or the memory cannot be read.
func sendNothing() any {
	memory := must(unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS))
	defer func() { must(0, unix.Munmap(memory)) }()
	_, _, errno := unix.Syscall6(unix.SYS_SENDTO, connectionFD, uintptr(unsafe.Pointer(&memory[0])), 1, unix.MSG_NOSIGNAL, 0, 0)
	if errno == 0 {
		return errors.New("it was sent")
	}
	return nil
}

// requireError requires that a call failed with a certain error.
func requireError(want, err error) any {
	if errors.Is(err, want) {
		return nil
	}
	return errors.New(fmt.Sprint("want ", want, ", but it is ", err))
}

// child is the helper that this helper has spawned.
var child *helper

// spawn starts another helper that has the same sockets, and returns its pid.
func spawn() int {
	child = newHelper("/proc/self/exe")
	child.command.Stderr = os.Stderr
	if err := child.command.Start(); err != nil {
		panic(err)
	}
	must(child.out.ReadString('\n'))
	return child.pid()
}

// ask passes a command to the child, and returns its answer.
func (h *helper) ask(words []string) string {
	must(fmt.Fprintln(h.in, strings.Join(words, " ")))
	return strings.TrimSpace(must(h.out.ReadString('\n')))
}

// take receives a descriptor on the inherited socket.
func take() int {
	rights := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(heritageFD, make([]byte, 1), rights, 0)
	messages := must(unix.ParseSocketControlMessage(rights[:must(n, err)]))
	return must(unix.ParseUnixRights(&messages[0]))[0]
}

// pin makes the helper run on one CPU from now on.
func pin(cpu int) error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}

// spin keeps a CPU busy.
func spin(cpu int, howLong time.Duration) {
	if err := pin(cpu); err != nil {
		panic(err)
	}
	for end := time.Now().Add(howLong); time.Now().Before(end); {
	}
}

// stalledSend is a call that sends a byte on the connection, from memory that is not present
// (userfaultfd). It has locked the socket, and waits for the memory.
type stalledSend struct {
	faults int // descriptor
	memory []byte
	sent   chan error
}

var stalled *stalledSend

// The commands of userfaultfd.
//
// Source: include/uapi/linux/userfaultfd.h.
const (
	uffdAPI      = 0xc018aa3f
	uffdRegister = 0xc020aa00
	uffdWake     = 0x8010aa02
	uffdMissing  = 1
)

// stall begins such a call, and returns when it waits.
func stall() *stalledSend {
	faults, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		panic(errno)
	}
	s := &stalledSend{faults: int(faults), sent: make(chan error, 1)}
	s.memory = must(unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS))
	s.ask(uffdAPI, 0xaa, 0, 0)
	s.ask(uffdRegister, s.address(), uint64(len(s.memory)), uffdMissing, 0)
	go func() {
		_, _, errno := unix.Syscall6(unix.SYS_SENDTO, connectionFD, uintptr(s.address()), 1, unix.MSG_NOSIGNAL, 0, 0)
		s.sent <- errno
	}()
	must(unix.Read(s.faults, make([]byte, 32)))
	return s
}

func (s *stalledSend) address() uint64 { return uint64(uintptr(unsafe.Pointer(&s.memory[0]))) }

func (s *stalledSend) ask(request uintptr, argument ...uint64) {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.faults), request, uintptr(unsafe.Pointer(&argument[0]))); errno != 0 {
		panic(errno)
	}
}

// fail lets the call continue without the memory, and returns its error.
func (s *stalledSend) fail() error {
	if err := unix.Mprotect(s.memory, unix.PROT_NONE); err != nil {
		return err
	}
	s.ask(uffdWake, s.address(), uint64(len(s.memory)))
	return <-s.sent
}
