// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// helperVariable is an environment variable that makes this test binary a helper, such as a process
// that ends or executes another program while one of its threads is in a call.
const helperVariable = "NETTAP_TEST_HELPER"

// withoutPreemption keeps Go's runtime from interrupting system calls by its signals, which would make
// two calls of one.
const withoutPreemption = "asyncpreemptoff=1"

// init keeps the main goroutine of a helper on the process's main thread.
func init() {
	if os.Getenv(helperVariable) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if !strings.Contains(os.Getenv("GODEBUG"), withoutPreemption) {
		os.Setenv("GODEBUG", withoutPreemption)
		panic(unix.Exec("/proc/self/exe", os.Args, os.Environ()))
	}
	if how := os.Getenv(helperVariable); how != "" {
		help(how)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// messages are what helpers send once on their descriptor 3.
var messages = map[string]string{"writes": "xyz", "asks": request(traceparent(8))}

func help(how string) {
	if message, ok := messages[how]; ok {
		fmt.Println("ready")
		bufio.NewReader(os.Stdin).ReadString('\n') //nolint:errcheck // the test writes a line when it has set what is observed
		unix.Sendto(3, []byte(message), 0, nil)
		return
	}
	if once, ok := loads[how]; ok {
		load(once)
	}
	switch how {
	case "asks often":
		asksOften()
		return
	case "makes a namespace":
		makesNamespace()
		return
	}
	fds := must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))
	switch how {
	case "executed":
		unix.Sendto(fds[0], make([]byte, 3), 0, nil)
		return
	case "sends":
		sends(fds[0])
		return
	}
	thread := make(chan int)
	go onThread(func() {
		thread <- unix.Gettid()
		receive(fds[0])
	})
	fmt.Println(<-thread, fds[0])
	bufio.NewReader(os.Stdin).ReadString('\n') //nolint:errcheck // the test writes a line when the thread waits
	if how == "executes" {
		panic(unix.Exec("/proc/self/exe", []string{"executed"}, []string{helperVariable + "=executed"}))
	}
}

// ended lets a process end while one of its threads is in a call. It returns that call, and what the main
// thread did afterwards.
func ended(t testing.TB, o *fixture, how string) (thread []deed, errno any, main []deed) {
	t.Helper()
	h := startHelper(t, how)
	o.want(t, Options{Filter: Filter{PIDs: []uint32{h.pid()}}})
	var id, fd int
	if _, err := fmt.Sscan(must(h.out.ReadString('\n')), &id, &fd); err != nil {
		t.Fatal(err)
	}
	awaitCall(t, h.Process.Pid, id, unix.SYS_RECVFROM)
	h.end(t)
	for _, tr := range o.collect(t) { // a thread that executes a program gets the id of the main thread
		// When a process ends, it closes its sockets within the call that ends it.
		switch d := deedOf(tr); {
		case d.Syscall == "recvfrom" && d.BlockedOn != nil:
			thread, errno = append(thread, d), tr.value("nettap.call.errno")
		case d.Syscall == "sendto":
			main = append(main, d)
		}
	}
	return thread, errno, main
}

// ends and becomes have a thread that waits in a call when its process ends, or executes a program.
func ends(t testing.TB, o *fixture) {
	thread, _, _ := ended(t, o, "ends")
	// The thread may not have left the call yet when the process has ended.
	if len(thread) > 1 || len(thread) == 1 && thread[0].Syscall != "recvfrom" {
		t.Errorf("the calls are %+v", thread)
	}
	if lost := o.counts(t).Lost; len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
}

func becomes(t testing.TB, o *fixture) {
	thread, errno, main := ended(t, o, "executes")
	if len(thread) != 1 || thread[0].Syscall != "recvfrom" || thread[0].Error != nil || errno != "ERESTARTSYS" {
		t.Errorf("the thread that waited did %+v, which ended with %v", thread, errno)
	}
	fd := any(nil)
	if len(main) > 0 {
		fd = main[0].FD
	}
	want := []deed{{Syscall: "sendto", FD: fd, Bytes: int64(3), Transport: "unix", Kept: "slow"}}
	if diff := gocmp.Diff(want, main); diff != "" {
		t.Errorf("calls of the new program differ (-want +got):\n%s", diff)
	}
	if lost := o.counts(t).Lost; len(lost) > 0 {
		t.Errorf("lost: %v", lost)
	}
}

// inherits has threads that get the id of one that has just ended, and that are in a call when the kernel frees what it
// had of the other one. A thread's id can be given again before that.
func inherits(t testing.TB, o *fixture) {
	fds := pair(t, unix.SOCK_STREAM)
	release := make(chan bool)
	defer close(release)
	for range 5 {
		o.want(t, Options{})
		id := onThread(func() { send(t, fds[0], 1); receive(fds[1]) })
		for range 1000 { // until it has ended: the main thread does not, and Go's runtime sometimes keeps another one
			if unix.Tgkill(unix.Getpid(), id, 0) != nil {
				break
			}
			runtime.Gosched()
		}
		if !receiveOn(t, fds, id, release) {
			t.Logf("no thread has got the id %d again", id)
			continue
		}
		on := func(syscall string, fd, bytes int, blockedOn any) deed {
			return deed{Syscall: syscall, FD: int64(fd), Bytes: int64(bytes), Transport: "unix", Kept: "slow", BlockedOn: blockedOn}
		}
		want := []deed{on("sendto", fds[0], 1, nil), on("recvfrom", fds[1], 1, nil), on("recvfrom", fds[1], 2, "receive_queue")}
		if diff := gocmp.Diff(want, o.deeds(t, id)); diff != "" {
			t.Errorf("the calls of two threads of one id differ (-want +got):\n%s", diff)
		}
	}
}

// receiveOn makes new threads, which live until release is closed, until one has a certain id. That one receives what is
// sent a while later.
func receiveOn(t testing.TB, fds [2]int, id int, release <-chan bool) bool {
	tried, received := make(chan bool), make(chan bool)
	for range 20 {
		kerneltest.NextID(t, id)
		go onThread(func() { // its thread is a new one if the runtime has no idle thread
			found := unix.Gettid() == id
			tried <- found
			if found {
				receive(fds[1])
				received <- true
			}
			<-release
		})
		if <-tried {
			time.AfterFunc(100*time.Millisecond, func() { send(t, fds[0], 2) })
			return <-received
		}
	}
	return false
}

// helper is a process of a test, which ends when its input ends. It is killed if it takes too long, so that the test waits
// neither for its end nor for what it says.
type helper struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	late *time.Timer
}

// startHelper starts this test binary as a helper, with the given descriptors as its 3 and following.
func startHelper(t testing.TB, how string, fds ...int) helper {
	t.Helper()
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), helperVariable+"="+how)
	return startWith(t, command, fds...)
}

func startWith(t testing.TB, command *exec.Cmd, fds ...int) helper {
	t.Helper()
	for _, fd := range fds {
		file := os.NewFile(uintptr(must(unix.Dup(fd))), "socket")
		defer file.Close()
		command.ExtraFiles = append(command.ExtraFiles, file)
	}
	in, out := must(command.StdinPipe()), must(command.StdoutPipe())
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(longest, func() { command.Process.Kill() }) //nolint:errcheck // it may have ended
	return helper{command, in, bufio.NewReader(out), late}
}

func (h helper) pid() uint32 { return uint32(h.Process.Pid) }

// end closes the input and waits until the process has ended.
func (h helper) end(t testing.TB) {
	t.Helper()
	h.in.Close()
	if err := h.Wait(); err != nil {
		t.Error(err)
	}
	h.late.Stop()
}

// startOneShot starts a helper that sends one of messages on fd when its input ends.
func startOneShot(t testing.TB, fd int, how string) helper {
	t.Helper()
	h := startHelper(t, how, fd)
	must(h.out.ReadString('\n'))
	return h
}

// sent lets a helper send and end, and returns the relations of that call.
func (o *fixture) sent(t testing.TB, h helper) []relation {
	t.Helper()
	o.want(t, Options{Filter: Filter{PIDs: []uint32{h.pid()}, Syscalls: []string{"sendto"}}})
	h.end(t)
	return o.relations(t, h.Process.Pid)
}
