// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestKernelOwnersForgetApart has two instruments that know this process, which uses a socket. If one of them forgets
// the process, the other one still knows it. If both have forgotten it, its place is free, and it gets another number
// when it uses a socket again.
func TestKernelOwnersForgetApart(t *testing.T) {
	one := New(Options{MaxProcesses: 1024})
	other := one.Another()
	kerneltest.Start(t, one)
	kerneltest.Start(t, other)
	use := user(t)

	use()
	first, self := find(t, one)
	if !self.Alive || self.Seen.Comm == "" || self.Seen.Executable == "" || self.ID.UserID != uint32(os.Geteuid()) {
		t.Errorf("this process is known as %+v", self)
	}
	if number, same := find(t, other); number != first || same != self {
		t.Errorf("the other view has number %d, %+v, want %d, %+v", number, same, first, self)
	}

	if err := one.Forget(first, self.ID); err != nil {
		t.Fatal(err)
	}
	if number, _ := find(t, one); number != 0 {
		t.Errorf("forgotten number %d is there", number)
	}
	if number, _ := find(t, other); number != first {
		t.Errorf("the other view has number %d, want %d", number, first)
	}
	if err := other.Forget(first, self.ID); err != nil {
		t.Fatal(err)
	}
	if number, _ := find(t, other); number != 0 {
		t.Errorf("number %d is there that both have forgotten", number)
	}
	if err := other.Forget(first, self.ID); err != nil {
		t.Errorf("forget what is forgotten: %v", err)
	}

	user(t)() // the old socket is the old number's
	again, self := find(t, one)
	if again == 0 || again == first {
		t.Errorf("after it used a socket again this process has number %d, and had %d", again, first)
	}
	if number, same := find(t, other); number != again || same != self {
		t.Errorf("the other view has number %d, %+v, want %d, %+v", number, same, again, self)
	}
}

// userVariable makes a test a process that uses a socket, and ends when its input does.
const userVariable = "NETTAP_TEST_USER"

func TestUsesASocket(t *testing.T) {
	if os.Getenv(userVariable) == "" {
		t.Skip("it is a part of another test")
	}
	user(t)()
	fmt.Println("used")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// TestKernelOwnersKnowWhoHasEnded has another process use a socket. It is known under a
// number of its own, lives as long as it runs, and is still known when it has ended.
func TestKernelOwnersKnowWhoHasEnded(t *testing.T) {
	o := New(Options{MaxProcesses: 1024})
	kerneltest.Start(t, o)
	user(t)()
	own, _ := find(t, o)

	other, end := startUser(t)
	number, running := findPID(t, o, other)
	if number == 0 || number == own || !running.Alive {
		t.Errorf("another process has number %d and is %+v; this one has number %d", number, running, own)
	}
	before, err := o.Processes()
	if err != nil {
		t.Fatal(err)
	}
	end()
	again, ended := findPID(t, o, other)
	if was := before[number]; was != running {
		t.Errorf("what was read before its end has become %+v, and was %+v", was, running)
	}
	running.Alive = false
	if again != number || ended != running {
		t.Errorf("after its end it has number %d and is %+v, want %d, %+v", again, ended, number, running)
	}
	if _, self := find(t, o); !self.Alive {
		t.Error("this process is taken for ended")
	}
}

// TestKernelOwnersReadNothingTwice changes the entry of this process in the kernel's map in a way that no survey and no
// new process causes. As long as nothing else has happened, the map is not read, so that nobody sees it.
func TestKernelOwnersReadNothingTwice(t *testing.T) {
	o := New(Options{MaxProcesses: 1024})
	kerneltest.Start(t, o)
	user(t)()
	for range 100 {
		number, self := find(t, o)
		if err := o.object.Maps[bpfMapProcesses].Put(keyOf(self.ID), bpfProcessEntry{Number: number}); err != nil {
			t.Fatal(err)
		}
		all, err := o.Processes()
		if err != nil {
			t.Fatal(err)
		}
		if all[number] == self {
			return
		}
	}
	t.Error("the map is read though nothing has happened")
}

// startUser starts a process that has used a socket when it returns, and runs until end.
func startUser(t *testing.T) (pid int, end func()) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(executable, "-test.run=^TestUsesASocket$")
	command.Env = append(os.Environ(), userVariable+"=1")
	output := kerneltest.OutputOf(t, command)
	program := kerneltest.StartProgram(t, command)
	if line := output.Line(); line != "used" {
		t.Fatalf("the process that uses a socket says %q", line)
	}
	return command.Process.Pid, program.End
}

// TestKernelOwnersGoWithoutAHookThatDoesNotFire gives the hooks that show what a call has moved a cause that does not
// make them fire. Owners must be known without them, and the hook must say what is not seen.
func TestKernelOwnersGoWithoutAHookThatDoesNotFire(t *testing.T) {
	kerneltest.Require(t)
	rung := ladder[2]
	if err := kernel.Probe(rung.Name); err != nil {
		t.Skip(err)
	}
	shown := deeds[rung.Name]
	t.Cleanup(func() { deeds[rung.Name] = shown })
	silent := slices.Clone(shown)
	for i := range silent {
		silent[i].hook.Cause = selftest.Thread
	}
	deeds[rung.Name] = silent
	o := New(Options{MaxProcesses: 1024, AvoidHooks: []string{ladder[0].Name, ladder[1].Name}})
	kerneltest.Start(t, o)

	user(t)()
	if _, self := find(t, o); !self.Alive {
		t.Error("this process is not known")
	}
	notSeen, want := "", rung.NotSeen
	for _, hook := range o.Hooks() {
		if hook.Name == rung.Name {
			notSeen = hook.NotSeen
		}
	}
	for _, deed := range shown {
		want += "; that a call to " + deed.what + " moved nothing, if it may wait"
	}
	if notSeen != want {
		t.Errorf("what is not seen is %q, want %q", notSeen, want)
	}
}

// TestKernelSurveyServesOthersAtTheSameTime lets two instruments make surveys.
func TestKernelSurveyServesOthersAtTheSameTime(t *testing.T) {
	one := New(Options{MaxProcesses: 1024})
	other := one.Another()
	kerneltest.Start(t, one)
	kerneltest.Start(t, other)
	began := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name  string
		by    *Owners
		after time.Duration
		made  bool
	}{
		{"the first one", one, 0, true},
		{"for the other one, at the same time", other, servesOthers - 1, false},
		{"for the first one, at the same time", one, servesOthers - 1, true},
		{"for the other one, later", other, 3 * servesOthers, true},
		{"for the first one, when the clock was set back", one, 0, true},
	} {
		before := one.round
		if err := test.by.Survey(began.Add(test.after)); err != nil {
			t.Fatal(err)
		}
		if made := one.round != before; made != test.made {
			t.Errorf("a survey %s: made %v, want %v", test.name, made, test.made)
		}
	}
}

// TestKernelOwnersFindWhatCannotBeChanged has sockets that are older than the programs, which cannot change what is stored with the sockets of open files. What
// they find there is kept by the sockets' addresses, and forgotten when the sockets are closed.
func TestKernelOwnersFindWhatCannotBeChanged(t *testing.T) {
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	listener := kerneltest.Listen(t, "127.0.0.1:0")
	owners := New(Options{MaxProcesses: 1024, AvoidHooks: []string{"iter/bpf_sk_storage_map"}})
	owners.probeFiles = func() error { return kernel.ErrUnsupported }
	kerneltest.Start(t, owners)

	before := foundHere(t, owners)
	if err := errors.Join(datagrams.Close(), listener.Close()); err != nil {
		t.Fatal(err)
	}
	forgotten := map[bool]int{} // how many, by whether they listened
	after := foundHere(t, owners)
	for address, owner := range before {
		if _, there := after[address]; !there {
			forgotten[owner.Listener == address]++
		}
	}
	if diff := cmp.Diff(map[bool]int{false: 1, true: 1}, forgotten); diff != "" {
		t.Errorf("what is forgotten with the sockets differs (-want +got):\n%s", diff)
	}
	if err := owners.Survey(time.Now()); err != nil {
		t.Error(err)
	}
}

// foundHere returns what was found of the sockets of this process, by their addresses.
func foundHere(t *testing.T, owners *Owners) map[uint64]bpfOwner {
	t.Helper()
	found := map[uint64]bpfOwner{}
	err := kernel.Each(owners.object.Maps[bpfMapFoundOwners], func(address uint64, owner bpfOwner) {
		if owner.Maker.Pid == uint32(os.Getpid()) {
			found[address] = owner
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// user returns what uses a socket: it sends a datagram to itself and receives it.
func user(t *testing.T) func() {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	return func() {
		t.Helper()
		if err := socket.SetDeadline(time.Now().Add(kerneltest.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := socket.WriteTo([]byte("datagram"), socket.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := socket.ReadFrom(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
}

// find makes a survey, and returns this process and its number, which is 0 if it is not known.
func find(t *testing.T, o *Owners) (number uint64, found Process) {
	t.Helper()
	return findPID(t, o, os.Getpid())
}

func findPID(t *testing.T, o *Owners, pid int) (number uint64, found Process) {
	t.Helper()
	if err := o.Survey(time.Now()); err != nil {
		t.Fatal(err)
	}
	all, err := o.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for n, p := range all {
		if p.ID.PID == uint32(pid) {
			if number != 0 {
				t.Errorf("process %d has numbers %d and %d", pid, number, n)
			}
			number, found = n, p
		}
	}
	return number, found
}
