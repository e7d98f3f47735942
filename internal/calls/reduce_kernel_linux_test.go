// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/stats"
)

func (o *fixture) reduce(t testing.TB, step budget.Step) {
	t.Helper()
	if err := o.calls.Reduce(step); err != nil {
		t.Fatal(err)
	}
}

// onEachStep makes the same calls on each step, forwards and backwards.
func onEachStep(t testing.TB, o *fixture) {
	defer o.reduce(t, budget.Full)
	client, server := connectTCP(t)
	sent := deed{Syscall: "sendto", FD: int64(client), Bytes: int64(1), Transport: "tcp", Kept: "sampled"}
	received := deed{Syscall: "recvfrom", FD: int64(server), Bytes: int64(1), Transport: "tcp", Kept: "sampled"}
	failed := deed{Syscall: "recvfrom", FD: int64(client), Transport: "tcp", Kept: "failed", Error: "EINVAL"}
	o.want(t, Options{MinDuration: time.Hour, SampleRatio: 1, Errors: Errnos{All: true}, FollowAll: true})
	for _, step := range []budget.Step{
		budget.NoSampledTrees, budget.NoInnerFunctions, budget.NoCalls, budget.LongIntervals,
		budget.NoCalls, budget.NoInnerFunctions, budget.NoSampledTrees, budget.Full,
	} {
		o.reduce(t, step)
		o.collect(t)
		o.trees, o.base = nil, o.recorder.Read()
		thread := onThread(func() {
			send(t, client, 1)
			receive(server)
			unix.Recvfrom(client, make([]byte, 1), unix.MSG_DONTWAIT|unix.MSG_OOB) // EINVAL: there is none
		})
		var want []deed
		var counts stats.Counts
		switch {
		case step == budget.Full:
			want, counts = []deed{sent, received, failed}, stats.Counts{Seen: 3}
		case step < budget.NoCalls:
			want, counts = []deed{failed}, stats.Counts{Seen: 3, SampledOut: 2}
		}
		made := o.deeds(t, thread)
		for i := range made {
			made[i].BlockedOn = nil // on a busy machine a message on lo may arrive a little later
		}
		if diff := gocmp.Diff(want, made); diff != "" {
			t.Errorf("%v: calls differ (-want +got):\n%s", step, diff)
		}
		got := o.counts(t)
		if diff := gocmp.Diff(counts, stats.Counts{Seen: got.Seen, SampledOut: got.SampledOut, Lost: nil}); diff != "" || len(got.Lost) > 0 {
			t.Errorf("%v: the counts differ (-want +got), and have lost %v:\n%s", step, got.Lost, diff)
		}
		for _, tr := range o.by(t, thread) {
			rootOnly, inside := tr.value("nettap.call.root_only") == true, len(tr.nestings())
			if alone := step == budget.NoInnerFunctions; rootOnly != alone || alone && inside > 0 || !alone && inside == 0 && o.functions() {
				t.Errorf("%v: %s has %v inside, root_only: %v", step, tr.root.Name(), tr.nestings(), rootOnly)
			}
		}
	}
}

// acrossSteps has a call that ends while calls are not observed, and one that begins before that and ends
// after it. Neither must be reported, and the calls that follow must be complete.
func acrossSteps(t testing.TB, o *fixture) {
	defer o.reduce(t, budget.Full)
	ends, stays := pair(t, unix.SOCK_DGRAM), pair(t, unix.SOCK_DGRAM)
	o.want(t, Options{})
	type receiver struct {
		fds    [2]int
		thread chan int
		ended  chan bool
		more   chan bool
		done   chan int
	}
	var all []receiver
	for _, fds := range [][2]int{ends, stays} {
		r := receiver{fds, make(chan int), make(chan bool), make(chan bool), make(chan int)}
		all = append(all, r)
		go func() {
			r.done <- onThread(func() {
				send(t, fds[1], 1)
				receive(fds[0])
				r.thread <- unix.Gettid()
				receive(fds[0])
				r.ended <- true
				<-r.more
				send(t, fds[1], 2)
				receive(fds[0])
			})
		}()
		awaitReceive(t, <-r.thread)
	}
	poke := func(r receiver) { // on another thread, whose calls the test ignores
		onThread(func() { send(t, r.fds[1], 3) })
		<-r.ended
	}
	o.reduce(t, budget.NoCalls)
	poke(all[0])
	again := time.Now()
	o.reduce(t, budget.NoSampledTrees)
	poke(all[1])
	for _, r := range all {
		r.more <- true
		thread := <-r.done
		var want []deed
		for _, bytes := range []int64{1, 2} {
			want = append(want, deed{Syscall: "sendto", FD: int64(r.fds[1]), Bytes: bytes, Transport: "unix", Kept: "slow"},
				deed{Syscall: "recvfrom", FD: int64(r.fds[0]), Bytes: bytes, Transport: "unix", Kept: "slow"})
		}
		// Functions that begin in a call that was not seen to begin can be calls of their own, as at the start.
		got := slices.DeleteFunc(o.deeds(t, thread), func(d deed) bool { return d.Syscall == "recvfrom" && d.Bytes != int64(1) && d.Bytes != int64(2) })
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("calls differ (-want +got):\n%s", diff)
		}
		trees := o.by(t, thread)
		for _, tr := range trees[2:] {
			if start := tr.root.StartTimestamp().AsTime(); start.Before(again) {
				t.Errorf("%s began %v before calls were looked at again", tr.root.Name(), again.Sub(start))
			}
		}
	}
	if got := o.counts(t); got.Lost["unfinished"] != 2 || int(got.Seen) != len(o.trees)+2 {
		t.Errorf("the counts are %+v, and there are %d trees; want two more, lost as unfinished", got, len(o.trees))
	}
}

// waitsAcrossSteps changes whether time off the CPU is recorded, while a thread waits.
func waitsAcrossSteps(t testing.TB, o *fixture) {
	defer o.reduce(t, budget.Full)
	fds := pair(t, unix.SOCK_STREAM)
	o.want(t, Options{OffCPU: true})
	for _, test := range []struct {
		before, after budget.Step
		noted         bool
	}{
		{budget.Full, budget.NoInnerFunctions, true},
		{budget.NoInnerFunctions, budget.Full, false},
	} {
		o.reduce(t, test.before)
		ready, done := make(chan int), make(chan int)
		go func() {
			done <- onThread(func() {
				ready <- unix.Gettid()
				receive(fds[0])
			})
		}()
		awaitReceive(t, <-ready)
		o.reduce(t, test.after)
		send(t, fds[1], 1)
		noted := false
		for _, tr := range o.by(t, <-done) {
			for _, span := range tr.spans {
				if span.Name() == "off_cpu" && value(span.Attributes(), "nettap.call.blocked.on") == "receive_queue" {
					noted = true
					if span.EndTimestamp() >= tr.root.EndTimestamp() {
						t.Errorf("from %v to %v: the wait does not end before its call", test.before, test.after)
					}
				}
			}
		}
		if noted != test.noted {
			t.Errorf("from %v to %v: the wait is noted: %v, want %v", test.before, test.after, noted, test.noted)
		}
	}
}
