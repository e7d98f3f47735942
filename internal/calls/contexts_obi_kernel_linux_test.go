// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// inOBIMap pins maps like an OBI that starts late, starts again and stops.
func inOBIMap(t *testing.T, o *fixture, path string, said <-chan string) {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{})
	// sourceWith returns the relation of a call whose thread is in the map, if there is a map.
	sourceWith := func(m *ebpf.Map) (r relation) {
		thread := onThread(func() {
			if m != nil {
				tellOBI(t, m, unix.Getpid(), unix.Gettid(), 3)
			}
			send(t, fds[0], 1)
		})
		receive(fds[1])
		for _, r = range o.relations(t, thread) {
		}
		return r
	}
	await := func(m *ebpf.Map, want relation) {
		t.Helper()
		eventually(t, func() string { return gocmp.Diff(want, sourceWith(m)) })
	}
	// While the pin of a map is being replaced, it has one user fewer for a moment.
	ended := "source obi is off: OBI has ended and has left its map behind: " + path
	says := func(want string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		got := ended
		for got == ended { // once more, unless it is what is wanted
			select {
			case got = <-said:
			case <-deadline:
				t.Errorf("it says nothing, want %q", want)
				return
			}
			if got == want {
				return
			}
		}
		t.Errorf("it says %q, want %q", got, want)
	}
	nothing, found := relation{Syscall: "sendto"}, relation{Syscall: "sendto", Source: "obi", Parent: spanIDOf(3)}

	await(nil, nothing)
	first := kerneltest.PinOBIMap(t, path, kerneltest.OBIMap)
	await(first, found)
	says("source obi is on: OBI has pinned its map at " + path)
	t.Run("while it says so", func(t *testing.T) { o.try(t, func(t testing.TB, o *fixture) { saysForAWhile(t, o, path) }) })
	t.Run("and not of the program before", func(t *testing.T) { o.try(t, func(t testing.TB, o *fixture) { ofAProgramBefore(t, o, path) }) })
	for name, test := range map[string]func(t testing.TB, o *fixture, path string) (again bool){
		"and not of a process that had the id": ofAProcessBefore,
		"and not of a thread that had the id":  ofAThreadBefore,
	} {
		t.Run(name, func(t *testing.T) {
			again := false
			o.try(t, func(t testing.TB, o *fixture) { again = test(t, o, path) })
			if !again && !t.Failed() {
				t.Skip("the id has not come again")
			}
		})
	}

	o.want(t, Options{})
	kerneltest.PinOBIMap(t, path, kerneltest.WithValueSize(kerneltest.OBIMap, 32))
	await(first, nothing)
	says("source obi is off: " + path + " is LRUHash with keys of 8 and values of 32 bytes, not LRUHash with 8 and 24")
	again := kerneltest.PinOBIMap(t, path, kerneltest.OBIMap)
	await(again, found)
	says("source obi is on: OBI has pinned its map at " + path)
	again = leavesItsMap(t, o, again, path, says)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	await(again, nothing)
	says("source obi is off: OBI's map has gone from " + path)
	if len(said) > 0 {
		t.Errorf("it also says %q", <-said)
	}
}

// tellOBI writes the current span of a thread into a map.
func tellOBI(t testing.TB, m *ebpf.Map, pid, thread, n int) {
	t.Helper()
	if err := m.Put(uint64(pid)<<32|uint64(thread), must(hex.DecodeString(traceIDOf(n)+spanIDOf(n)))); err != nil {
		t.Error(err)
	}
}

func pinned(t testing.TB, path string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// saysForAWhile has a thread that the map gives no span, then a span, and then none again.
func saysForAWhile(t testing.TB, o *fixture, path string) {
	m, fds := pinned(t, path), pair(t, unix.SOCK_STREAM)
	o.want(t, Options{})
	thread := onThread(func() {
		send(t, fds[0], 1)
		tellOBI(t, m, unix.Getpid(), unix.Gettid(), 3)
		send(t, fds[0], 1)
		if err := m.Delete(uint64(unix.Getpid())<<32 | uint64(unix.Gettid())); err != nil {
			t.Error(err)
		}
		send(t, fds[0], 1)
	})
	want := []relation{{Syscall: "sendto"}, {Syscall: "sendto", Source: "obi", Parent: spanIDOf(3)}, {Syscall: "sendto"}}
	if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
		t.Errorf("relations differ (-want +got):\n%s", diff)
	}
}

// leavesItsMap lets OBI end during a request, whose thread continues, and start again with the map that
// it has left.
func leavesItsMap(t *testing.T, o *fixture, m *ebpf.Map, path string, says func(string)) *ebpf.Map {
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{})
	thread := onThread(func() {
		sayAt := func(n int) { tellOBI(t, m, unix.Getpid(), unix.Gettid(), n) }
		sayAt(7)
		send(t, fds[0], 1)
		m.Close()
		says("source obi is off: OBI has ended and has left its map behind: " + path)
		send(t, fds[0], 1)
		m = pinned(t, path)
		says("source obi is on: OBI has pinned its map at " + path)
		send(t, fds[0], 1)
		sayAt(8)
		send(t, fds[0], 1)
	})
	at := func(n int) relation { return relation{Syscall: "sendto", Source: "obi", Parent: spanIDOf(n)} }
	want := []relation{at(7), {Syscall: "sendto"}, {Syscall: "sendto"}, at(8)}
	if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
		t.Errorf("relations differ (-want +got):\n%s", diff)
	}
	return m
}

// ofAProgramBefore lets a process execute another program while the map still has an entry of it.
func ofAProgramBefore(t testing.TB, o *fixture, path string) {
	m, fds := pinned(t, path), pair(t, unix.SOCK_STREAM)
	shell := startWith(t, exec.Command("/bin/sh", "-c", "read line; "+helperVariable+"=writes exec "+must(os.Executable())), fds[0])
	tellOBI(t, m, shell.Process.Pid, shell.Process.Pid, 6)
	must(io.WriteString(shell.in, "\n"))
	must(shell.out.ReadString('\n')) // the new program runs
	if diff := gocmp.Diff([]relation{{Syscall: "sendto"}}, o.sent(t, shell)); diff != "" {
		t.Errorf("relations differ (-want +got):\n%s", diff)
	}
}

// ofAProcessBefore lets a process end while the map still has an entry of it, and another process get its
// id. It returns false if no other process of the test got the id.
func ofAProcessBefore(t testing.TB, o *fixture, path string) (again bool) {
	m, fds := pinned(t, path), pair(t, unix.SOCK_STREAM)
	first := startOneShot(t, fds[0], "writes")
	pid := first.Process.Pid
	tellOBI(t, m, pid, pid, 4)
	want := []relation{{Syscall: "sendto", Source: "obi", Parent: spanIDOf(4)}}
	if diff := gocmp.Diff(want, o.sent(t, first)); diff != "" {
		t.Errorf("relations of the first process differ (-want +got):\n%s", diff)
	}
	for range tries {
		kerneltest.NextID(t, pid)
		second := startOneShot(t, fds[0], "writes")
		relations := o.sent(t, second)
		receive(fds[1])
		if second.Process.Pid != pid {
			continue // another process on this machine got the id
		}
		if diff := gocmp.Diff([]relation{{Syscall: "sendto"}}, relations); diff != "" {
			t.Errorf("relations of the second process differ (-want +got):\n%s", diff)
		}
		counts, err := o.calls.contexts.Counts()
		if err != nil || counts.Refused["leftover"] == 0 {
			t.Errorf("the counts are %+v: %v", counts, err)
		}
		return true
	}
	return false
}

// ofAThreadBefore is the same with a thread of this process.
func ofAThreadBefore(t testing.TB, o *fixture, path string) (again bool) {
	m, fds := pinned(t, path), pair(t, unix.SOCK_STREAM)
	id := 0
	ended := func() bool {
		_, err := os.Stat(fmt.Sprint("/proc/self/task/", id))
		return err != nil
	}
	for range tries { // it may take several: the main thread does not end, and Go's runtime sometimes keeps another one
		o.want(t, Options{})
		id = onThread(func() {
			tellOBI(t, m, unix.Getpid(), unix.Gettid(), 5)
			send(t, fds[0], 1)
		})
		want := []relation{{Syscall: "sendto", Source: "obi", Parent: spanIDOf(5)}}
		if diff := gocmp.Diff(want, o.relations(t, id)); diff != "" {
			t.Errorf("relations of the first thread differ (-want +got):\n%s", diff)
		}
		for deadline := time.Now().Add(time.Second); !ended() && time.Now().Before(deadline); {
			time.Sleep(10 * time.Millisecond)
		}
		if ended() {
			break
		}
	}
	o.want(t, Options{})
	tried, release := make(chan bool), make(chan bool)
	defer close(release)
	for range tries {
		kerneltest.NextID(t, id)
		go onThread(func() { // its thread is a new one if the runtime has no idle thread
			found := unix.Gettid() == id
			if found {
				send(t, fds[0], 1)
			}
			tried <- found
			<-release
		})
		if <-tried {
			if diff := gocmp.Diff([]relation{{Syscall: "sendto"}}, o.relations(t, id)); diff != "" {
				t.Errorf("relations of the second thread differ (-want +got):\n%s\ncounted: %+v", diff, o.counts(t))
			}
			return true
		}
	}
	return false
}

const tries = 100
