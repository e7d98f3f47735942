// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const refusals = 40

// slowCall is longer than a call that does not wait takes on a busy machine.
const slowCall = 500 * time.Millisecond

// loads are what helpers do repeatedly, from the first line of their input until it ends.
var loads = map[string]func(fds [2]int, closed unix.Sockaddr){
	"sends all the time": func(fds [2]int, _ unix.Sockaddr) {
		unix.Sendto(fds[0], make([]byte, 1), 0, nil)
		unix.Recvfrom(fds[1], make([]byte, 1), 0)
	},
	"is refused all the time": func(_ [2]int, closed unix.Sockaddr) { beRefused(closed) },
	"is refused a few times": func(_ [2]int, closed unix.Sockaddr) {
		for range refusals {
			beRefused(closed)
		}
		fmt.Println("done")
		select {}
	},
	"is refused all the time without blocking": func(_ [2]int, closed unix.Sockaddr) {
		fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
		defer unix.Close(fd)
		unix.Connect(fd, closed)
	},
	"waits once": func(fds [2]int, _ unix.Sockaddr) {
		go func() {
			time.Sleep(2 * slowCall)
			unix.Sendto(fds[0], make([]byte, 1), 0, nil)
		}()
		unix.Recvfrom(fds[1], make([]byte, 1), 0)
		fmt.Println("done")
		select {}
	},
}

func beRefused(closed unix.Sockaddr) {
	fd := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0))
	defer unix.Close(fd)
	unix.Connect(fd, closed)
}

// load runs in the helper, and calls once repeatedly.
func load(once func([2]int, unix.Sockaddr)) {
	bound := must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) // so that no other socket gets the port, on which nothing listens
	if err := unix.Bind(bound, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		panic(err)
	}
	closed := must(unix.Getsockname(bound))
	fds := must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM, 0))
	input := bufio.NewReader(os.Stdin)
	input.ReadString('\n') //nolint:errcheck // the test writes a line when it begins
	var ended atomic.Bool
	go func() {
		input.ReadString('\n') //nolint:errcheck // the input ends when the test does
		ended.Store(true)
		os.Exit(0)
	}()
	for !ended.Load() {
		once(fds, closed)
	}
	select {}
}

func (h helper) begin(t testing.TB) {
	t.Helper()
	if _, err := h.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
}

// keptOf returns how many calls of a process were reported for a reason.
func (o *fixture) keptOf(t testing.TB, h helper, reason string) (n int) {
	t.Helper()
	for _, tr := range o.collect(t) {
		if value(tr.resource, "process.pid") == int64(h.Process.Pid) && tr.value(RootAttribute) == reason {
			n++
		}
	}
	return n
}

// awaitRateLimited waits until n calls were left out that would have been reported for a reason.
func (o *fixture) awaitRateLimited(t testing.TB, reason string, n uint64) {
	t.Helper()
	eventually(t, func() string {
		if limited := o.counts(t).RateLimited[reason]; limited < n {
			return fmt.Sprintf("%d %s calls were left out", limited, reason)
		}
		return ""
	})
}

// start starts helpers that the fixture observes. How a second is shared depends on what processes wanted
// in the second before, so it waits until the processes of a test before have no influence.
func (o *fixture) start(t testing.TB, options Options, loads ...string) (helpers []helper, end func()) {
	t.Helper()
	for _, load := range loads {
		h := startHelper(t, load)
		helpers = append(helpers, h)
		options.Filter.PIDs = append(options.Filter.PIDs, h.pid())
	}
	o.want(t, options)
	time.Sleep(2 * time.Second)
	return helpers, func() {
		for _, h := range helpers {
			h.end(t)
		}
	}
}

// besides returns how many calls of a helper are reported for a reason, while the calls of another helper
// exceed the limit.
func (o *fixture) besides(t testing.TB, options Options, hog, helper, reason string) int {
	t.Helper()
	h, end := o.start(t, options, hog, helper)
	defer end()
	began := time.Now()
	h[0].begin(t)
	leftOut := "failed"
	if options.SampleRatio > 0 {
		leftOut = "sampled"
	}
	o.awaitRateLimited(t, leftOut, 1000)
	h[1].begin(t)
	must(h[1].out.ReadString('\n'))
	n := o.keptOf(t, h[1], reason)
	o.checkRate(t, began)
	return n
}

// checkRate fails the test if more was reported than the limit allows.
func (o *fixture) checkRate(t testing.TB, began time.Time) {
	t.Helper()
	counts := o.counts(t)
	var limited uint64
	for _, n := range counts.RateLimited {
		limited += n
	}
	trees := len(o.trees)
	seconds := int(time.Since(began)/time.Second) + 2 // the first and the last second are not whole
	if trees > 100*seconds {
		t.Errorf("there are %d trees in %d seconds", trees, seconds)
	}
	if counts.Seen < counts.SampledOut+limited+uint64(trees) {
		t.Errorf("the counts are %+v, and there are %d trees", counts, trees)
	}
}

func TestKernelSharesTheRate(t *testing.T) {
	kerneltest.Require(t)
	_, withoutWaits := chooseWaitHooks(kernel.Avoiding(functionHooks(), kernel.Probe))
	o := observe(t, Options{AvoidHooks: functionHooks(), MaxPerSecond: 100, Waits: withoutWaits == nil}, func(*Calls) {})
	failed := Options{MinDuration: time.Hour, Errors: Errnos{All: true}}
	sampled := failed
	sampled.SampleRatio = 0.5
	slow := failed
	slow.MinDuration = slowCall

	for _, test := range []struct {
		name                string
		options             Options
		hog, helper, reason string
		want                int
	}{
		{"what failed is not left out for what is sampled", sampled, "sends all the time", "is refused a few times", "failed", refusals},
		{"what fails in one process is not left out for what fails in another", failed, "is refused all the time", "is refused a few times", "failed", refusals},
		{"what is slow in one process is not left out for what fails in another", slow, "is refused all the time", "waits once", "slow", 1},
		{"waits have their part in it", failed, "is refused all the time without blocking", "is refused a few times", "failed", refusals},
	} {
		t.Run(test.name, func(t *testing.T) {
			if strings.HasPrefix(test.name, "waits") && withoutWaits != nil {
				t.Skip(withoutWaits)
			}
			o.try(t, func(t testing.TB, o *fixture) {
				if n := o.besides(t, test.options, test.hog, test.helper, test.reason); n != test.want {
					t.Errorf("of %d %s calls %d are reported", test.want, test.reason, n)
				}
			})
		})
	}
	t.Run("processes that want more than there is have as much as each other", func(t *testing.T) {
		o.try(t, func(t testing.TB, o *fixture) { asMuchAsEachOther(t, o, failed) })
	})
}

// functionHooks returns all rungs but the one that starts fastest, so that the tests run on that one.
// The limit does not depend on the rung.
func functionHooks() (names []string) {
	for _, hook := range ladder {
		if hook.Name != "tp_btf/sys_enter" {
			names = append(names, hook.Name)
		}
	}
	return names
}

func asMuchAsEachOther(t testing.TB, o *fixture, failed Options) {
	h, end := o.start(t, failed, "is refused all the time", "is refused all the time")
	defer end()
	h[0].begin(t)
	h[1].begin(t)
	o.awaitRateLimited(t, "failed", 1000)
	before := []int{o.keptOf(t, h[0], "failed"), o.keptOf(t, h[1], "failed")}
	eventually(t, func() string { // they have run for three whole seconds and part of one
		if n := o.keptOf(t, h[0], "failed") - before[0]; n < 3*26 {
			return fmt.Sprintf("the first process has %d more", n)
		}
		return ""
	})
	first, second := o.keptOf(t, h[0], "failed")-before[0], o.keptOf(t, h[1], "failed")-before[1]
	if second < first-27 || second > first+27 {
		t.Errorf("of two processes one has %d, and one %d", first, second)
	}
}
