// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// Users of the test, and the first id of those that the crowding user has in a namespace of its own.
const (
	crowding, subordinate, another = 100100, 100200, 100300
	subordinates                   = 10
)

// TestKernelCountsWaitsWithinThePartOfEachUser has a user whose processes wait for more peers than a user has places for, also as
// another user in a user namespace. The waits of another user and of root are still counted.
func TestKernelCountsWaitsWithinThePartOfEachUser(t *testing.T) {
	kerneltest.Require(t)
	if _, err := chooseWaitHooks(kernel.Probe); err != nil {
		t.Skip(err)
	}
	const part = 2
	crowd, alias := startAsking(t, crowding, part+1, false), startAsking(t, crowding, 1, true)
	other, root := startAsking(t, another, 1, false), startAsking(t, 0, part+1, false)
	// Objects of its own: in those of other tests, sockets that are gone may still have the places of these, and the waits of
	// other processes were counted.
	o := observe(t, Options{
		Functions: few, MinDuration: time.Hour, Waits: true, Durations: true,
		Filter: Filter{PIDs: []uint32{crowd.process, alias.process, other.process, root.process}},
	}, func(*Calls) {})

	recorder := &stats.Recorder{}
	durations := newDurations(o, recorder)
	durations.quotaOf = 4 * part
	if err := durations.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := durations.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := durations.Enable(); err != nil {
		t.Fatal(err)
	}
	collect := func(want map[uint32]int, lost uint64) {
		t.Helper()
		if _, err := durations.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		all, err := kernel.ReadAll[bpfDurationKey, bpfDurations](o.calls.object.Maps[bpfMapWaitDurations])
		if err != nil {
			t.Fatal(err)
		}
		got := map[uint32]int{}
		for key := range all {
			got[key.Process.Pid]++
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("the numbers of ports by process differ (-want +got):\n%s", diff)
		}
		totals := recorder.Read()
		if totals.Lost["user_full"] != lost || totals.Maps[bpfMapWaitDurations].Refused != lost || totals.Seen != totals.Aggregated+totals.Lost["map_full"]+lost {
			t.Errorf("%d waits are to be lost, and the statistics are %+v and %+v", lost, totals.Counts, totals.Maps)
		}
	}

	for _, a := range []*asking{crowd, alias, other, root} {
		a.askAll(t)
	}
	collect(map[uint32]int{crowd.process: part, other.process: 1, root.process: part + 1}, 2)
	alias.askAll(t)
	crowd.end(t)
	collect(map[uint32]int{other.process: 1, root.process: part + 1}, 3)
	collect(map[uint32]int{other.process: 1, root.process: part + 1}, 3) // and knows now that there is room
	alias.askAll(t)
	collect(map[uint32]int{alias.process: 1, other.process: 1, root.process: part + 1}, 3)
}

// asking is a helper that asks the servers of the test.
type asking struct {
	helper
	process uint32
	servers []int
}

// startAsking starts a helper of a user with a connection to each of some servers. If inNamespace is set
// it is root in a user namespace that the user has made.
func startAsking(t testing.TB, user uint32, connections int, inNamespace bool) *asking {
	t.Helper()
	a := &asking{}
	var clients []int
	for range connections {
		client, server, _ := connectWithoutBlocking(t)
		defer unix.Close(client)
		t.Cleanup(func() { unix.Close(server) })
		clients, a.servers = append(clients, client), append(a.servers, server)
	}
	how, caps := "asks often", []uintptr(nil)
	if inNamespace {
		how, caps = "makes a namespace", []uintptr{unix.CAP_SETUID, unix.CAP_SETGID}
	}
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), helperVariable+"="+how, fmt.Sprint("CONNECTIONS=", connections))
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}, AmbientCaps: caps}
	a.helper = startWith(t, command, clients...)
	t.Cleanup(func() {
		if a.ProcessState == nil {
			a.helper.end(t)
		}
	})
	if _, err := fmt.Sscanln(must(a.out.ReadString('\n')), &a.process); err != nil {
		t.Fatal(err)
	}
	return a
}

// askAll has the helper ask each server, and read the answer.
func (a *asking) askAll(t testing.TB) {
	t.Helper()
	for i, server := range a.servers {
		fmt.Fprintln(a.in, 3+i)
		awaitReadable(t, server)
		receive(server)
		send(t, server, 7)
		if said := must(a.out.ReadString('\n')); said != "read\n" {
			t.Errorf("the helper says %q", said)
		}
	}
}

// asksOften asks on the descriptors whose numbers it reads.
func asksOften() {
	fmt.Println(unix.Getpid())
	var fd int
	for {
		if _, err := fmt.Scanln(&fd); err != nil {
			return
		}
		unix.SetNonblock(fd, true) //nolint:errcheck // otherwise there is no wait, which the test sees
		unix.Sendto(fd, make([]byte, 5), 0, nil)
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000) //nolint:errcheck // likewise
		receive(fd)
		fmt.Println("read")
	}
}

// makesNamespace starts a helper as root in a user namespace.
func makesNamespace() {
	command := exec.Command("/proc/self/exe")
	command.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, helperVariable) }), helperVariable+"=asks often")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	var connections int
	fmt.Sscan(os.Getenv("CONNECTIONS"), &connections) //nolint:errcheck // the test has set it
	for i := range connections {
		command.ExtraFiles = append(command.ExtraFiles, os.NewFile(uintptr(3+i), "socket"))
	}
	ids := []syscall.SysProcIDMap{{HostID: subordinate, Size: subordinates}}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Credential: &syscall.Credential{},
	}
	if err := command.Run(); err != nil {
		panic(err)
	}
}
