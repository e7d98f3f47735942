// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// beyondTheFile are functions that the tests observe in addition to those of net/socket.c: one that a
// process calls when it sends, and one that only a soft interrupt calls.
var beyondTheFile = []string{"tcp_sendmsg", "tcp_v4_rcv"}

// few are functions that stand for the whole file on rungs that are not the kernel's best one, and in
// short tests where each function needs a copy of the programs. Loading all copies takes a minute on
// an emulated machine.
var few = []string{
	"__sys_sendto", "__sys_sendmsg", "__sys_sendmmsg", "__sys_recvfrom", "__sys_recvmsg", "__sys_setsockopt", "__sys_shutdown",
	"__sys_connect*", "__sys_accept4", "do_accept", "__sys_get*name",
	"sock_recvmsg", "move_addr_to_user", "sock_read_iter", "sock_write_iter", "sock_send*", "sock_splice*", "sock_close", "sock_release", "__sock_release",
	"sock_set_ti*", // one of these has a struct as an argument, which fentry does not support on every kernel
}

// onEachRung runs a test on each rung of the ladder that this kernel has.
func onEachRung(t *testing.T, test func(t *testing.T, o *fixture)) {
	kerneltest.Require(t)
	types := kernelTypes(t)
	var better []string // hooks that are better than that of the subtest
	found := false      // whether the kernel's best hook was found
	for _, hook := range ladder {
		avoid := slices.Clone(better)
		better = append(better, hook.Name)
		t.Run(path.Base(hook.Name), func(t *testing.T) {
			if err := probe(hook.Name, types); err != nil {
				t.Skip(err)
			}
			functions := few
			best := !found
			if hook.Name == "tp_btf/sys_enter" || best && !(testing.Short() && hook.Name == "fentry") {
				functions = []string{socketFile}
			}
			found = true
			o := observe(t, Options{AvoidHooks: avoid, Functions: slices.Concat(functions, beyondTheFile)}, func(*Calls) {})
			if hooks := o.recorder.Read().Hooks; !slices.ContainsFunc(hooks, func(used kernel.Hook) bool { return used.Name == hook.Name }) {
				t.Fatalf("the hooks in use are %v, want %s", hooks, hook.Name)
			}
			o.rung, o.best, o.few = hook.Name, best, slices.Equal(functions, few)
			test(t, o)
		})
	}
}

func kernelTypes(t *testing.T) *btf.Spec {
	t.Helper()
	types, err := kernel.Types()
	if err != nil {
		t.Fatal(err)
	}
	return types
}

// fixture is a running instrument and what it has reported.
type fixture struct {
	calls    *Calls
	recorder *stats.Recorder
	rung     string
	best     bool // the rung is this kernel's best one
	few      bool // only few functions of the file are observed
	trees    []tree
	base     stats.Totals // the totals when the current options were set
}

// observe starts the instrument, which also observes this process.
func observe(t *testing.T, options Options, change func(*Calls)) *fixture {
	t.Helper()
	if options.Functions == nil {
		options.Functions = []string{socketFile}
	}
	o := &fixture{recorder: &stats.Recorder{}}
	c := clock.New()
	o.calls = New(metadata.DefaultResourceAttributesConfig(), "test", nil, process.NewDirectory("", c), c, o.recorder, options)
	o.calls.ownPID = 0
	change(o.calls)
	kerneltest.Start(t, o.calls)
	return o
}

// functions reports whether the rung sees functions, and not only system calls.
func (o *fixture) functions() bool { return o.rung != "tp_btf/sys_enter" }

// want sets what is reported from now on. Unless the filter has pids, only this process is observed.
func (o *fixture) want(t testing.TB, options Options) {
	t.Helper()
	o.collect(t)
	if options.Filter.PIDs == nil {
		options.Filter.PIDs = []uint32{uint32(unix.Getpid())}
	}
	o.empty(t)
	was := o.calls.options
	options.AvoidHooks, options.Functions = was.AvoidHooks, was.Functions
	o.calls.options = options
	if err := o.calls.configure(); err != nil {
		t.Fatal(err)
	}
	o.collect(t)
	o.trees, o.base = nil, o.recorder.Read()
}

// empty deletes the elements of all filters.
func (o *fixture) empty(t testing.TB) {
	t.Helper()
	for _, name := range []string{"pids", "commands", "users", "syscalls", "ports", "addresses"} {
		m := o.calls.object.Maps[name]
		var keys [][]byte
		var key, value []byte
		for entries := m.Iterate(); entries.Next(&key, &value); {
			keys = append(keys, slices.Clone(key))
		}
		for _, key := range keys {
			if err := m.Delete(key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// collect reads the ring, and returns everything that was reported since want, in the order in which it
// ended.
func (o *fixture) collect(t testing.TB) []tree {
	t.Helper()
	traces, err := o.calls.Collect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	o.trees = append(o.trees, treesOf(t, traces)...)
	return o.trees
}

// counts returns what was counted since want.
func (o *fixture) counts(t testing.TB) stats.Counts {
	t.Helper()
	o.collect(t)
	now := o.recorder.Read().Counts
	now.Seen -= o.base.Seen
	now.SampledOut -= o.base.SampledOut
	for reason := range now.RateLimited {
		now.RateLimited[reason] -= o.base.RateLimited[reason]
	}
	for cause := range now.Lost {
		now.Lost[cause] -= o.base.Lost[cause]
	}
	now.Lost = maps.Collect(func(yield func(string, uint64) bool) {
		for cause, lost := range now.Lost {
			if lost > 0 && !yield(cause, lost) {
				return
			}
		}
	})
	return now
}

// missed returns how often the kernel did not run one of the programs since want. Then a function or a
// whole call is missing. It happens if programs can be preempted and take long, as on an emulated
// machine.
func (o *fixture) missed(t testing.TB) int {
	t.Helper()
	o.collect(t)
	return int(o.recorder.Read().MissedRuns - o.base.MissedRuns)
}

// try runs a test, and runs it again if it fails and the try says nothing: either the kernel did not
// run one of the programs meanwhile, and what it would have reported is missing, or the machine stood
// still for so long that what should take no time was slow.
func (o *fixture) try(t *testing.T, test func(t testing.TB, o *fixture)) {
	t.Helper()
	const times = 5
	for n := 1; ; n++ {
		o.collect(t)
		before := o.recorder.Read().MissedRuns
		longestStandstill := watchForStandstills()
		var complaints []string
		ended := false
		t.Run(fmt.Sprint("try ", n), func(t *testing.T) {
			attempt := &attempt{TB: t}
			ended = attempt.run(func() { test(attempt, o) })
			complaints = attempt.all()
		})
		stood := longestStandstill()
		o.collect(t)
		missed := o.recorder.Read().MissedRuns - before
		if ended && len(complaints) > 0 && (missed > 0 || stood > slowWaits.MinDuration/2) && n < times {
			t.Logf("try %d lacks %d runs of programs, and the machine stood still for %v: %s", n, missed, stood, strings.Join(complaints, "\n"))
			continue
		}
		for _, complaint := range complaints {
			t.Error(complaint)
		}
		return
	}
}

// watchForStandstills returns a function that ends the watch and returns the longest time for which
// this process, with all of its threads, may have had no processor.
func watchForStandstills() (longest func() time.Duration) {
	const interval = 10 * time.Millisecond
	ended, most := make(chan struct{}), make(chan time.Duration)
	go func() {
		ticks := time.NewTicker(interval)
		defer ticks.Stop()
		stood, last := time.Duration(0), time.Now()
		for ticking := true; ticking; {
			select {
			case <-ticks.C:
			case <-ended:
				ticking = false
			}
			stood = max(stood, time.Since(last))
			last = time.Now()
		}
		most <- stood
	}()
	return func() time.Duration {
		close(ended)
		return <-most
	}
}

// attempt is a test whose failures are not final.
type attempt struct {
	testing.TB
	mutex      sync.Mutex
	complaints []string
}

// longest is how long an attempt or a helper may take, which is much more than any takes on an emulated machine.
const longest = 4 * time.Minute

// run returns whether the test has ended. One that waits for what never comes is left behind, so that it does not hold up the
// others until the time for all of them is over.
func (a *attempt) run(test func()) (ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		test()
	}()
	select {
	case <-done:
		return true
	case <-time.After(longest):
		stacks := make([]byte, 1<<20)
		a.Errorf("it has not ended after %v:\n%s", longest, stacks[:runtime.Stack(stacks, true)])
		return false
	}
}

func (a *attempt) all() []string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return slices.Clone(a.complaints)
}

func (a *attempt) Error(values ...any) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.complaints = append(a.complaints, fmt.Sprint(values...))
}

func (a *attempt) Errorf(format string, values ...any) { a.Error(fmt.Sprintf(format, values...)) }

func (a *attempt) Fatal(values ...any) {
	a.Error(values...)
	runtime.Goexit()
}

func (a *attempt) Fatalf(format string, values ...any) { a.Fatal(fmt.Sprintf(format, values...)) }

// by returns the trees of a thread.
func (o *fixture) by(t testing.TB, thread int) []tree {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(o.collect(t)), func(tr tree) bool { return tr.value("nettap.thread.id") != int64(thread) })
}

// onThread calls f on a new thread, and returns the thread's id. If f ends its goroutine, as Fatal does, the test goes on.
func onThread(f func()) int {
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // it is not unlocked, so that the thread ends with the goroutine
		id := unix.Gettid()
		defer func() { thread <- id }()
		f()
	}()
	return <-thread
}

// tree is the spans of a call.
type tree struct {
	root     ptrace.Span
	resource pcommon.Map
	spans    map[pcommon.SpanID]ptrace.Span
}

// treesOf returns the trees in the order of their roots. Trees of calls that belong to the same trace of
// an application have the same trace id.
func treesOf(t testing.TB, traces ptrace.Traces) []tree {
	t.Helper()
	spans := map[pcommon.SpanID]ptrace.Span{}
	roots := map[pcommon.SpanID]tree{}
	var trees []tree
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				spans[span.SpanID()] = span
				if _, ok := span.Attributes().Get(RootAttribute); ok {
					tr := tree{root: span, resource: resource.Resource().Attributes(), spans: map[pcommon.SpanID]ptrace.Span{}}
					roots[span.SpanID()] = tr
					trees = append(trees, tr)
				}
			}
		}
	}
	for id, span := range spans {
		root := id
		for above, ok := span, true; ok && roots[root].spans == nil; above, ok = spans[root] {
			root = above.ParentSpanID()
		}
		tr, ok := roots[root]
		if !ok || tr.root.TraceID() != span.TraceID() {
			t.Errorf("%s has no root in its trace", span.Name())
			continue
		}
		tr.spans[id] = span
	}
	for _, tr := range trees {
		tr.check(t)
	}
	return trees
}

// check fails the test if something is wrong that must hold for every tree.
func (tr tree) check(t testing.TB) {
	t.Helper()
	for _, span := range tr.spans {
		if span == tr.root {
			continue
		}
		parent := tr.spans[span.ParentSpanID()]
		if span.StartTimestamp() < parent.StartTimestamp() || span.EndTimestamp() > parent.EndTimestamp() {
			t.Errorf("%s is not within %s", span.Name(), parent.Name())
		}
	}
}

// value returns an attribute as int64, float64, string or bool, or nil.
func value(attributes pcommon.Map, name string) any {
	v, ok := attributes.Get(name)
	if !ok {
		return nil
	}
	return v.AsRaw()
}

func (tr tree) value(name string) any { return value(tr.root.Attributes(), name) }

// function returns the function with which the call began.
func (tr tree) function() string { return functionOf(tr.root) }

// functionOf returns the function of a span. The name of a root is that of the operation instead.
func functionOf(span ptrace.Span) string {
	if function, ok := span.Attributes().Get("code.function.name"); ok {
		return function.Str()
	}
	return span.Name()
}

// nestings returns "parent > child" for each span below another one, and for each
// event on a span.
func (tr tree) nestings() map[string]int {
	found := map[string]int{}
	for _, span := range tr.spans {
		if parent, ok := tr.spans[span.ParentSpanID()]; ok {
			found[functionOf(parent)+" > "+functionOf(span)]++
		}
		for _, event := range span.Events().All() {
			found[functionOf(span)+" > "+event.Name()]++
		}
	}
	return found
}

func (tr tree) has(name string) bool {
	for nesting := range tr.nestings() {
		if strings.HasSuffix(nesting, " > "+name) {
			return true
		}
	}
	return tr.function() == name
}

// deed is a summary of a tree.
type deed struct {
	Syscall   string
	FD        any // int64, or nil
	Bytes     any
	Transport any
	Error     any
	Kept      string
	BlockedOn any
}

// deedOf leaves out waits that are not for a socket: any call may wait for a lock, and on a real-time
// kernel a thread sleeps when it waits for a spinlock.
func deedOf(tr tree) deed {
	syscall, _ := tr.value("nettap.call.syscall").(string)
	kept, _ := tr.value("nettap.call.kept").(string)
	blockedOn := tr.value("nettap.call.blocked.on")
	if blockedOn == "other" {
		blockedOn = nil
	}
	return deed{
		Syscall: syscall, Kept: kept, FD: tr.value("nettap.call.fd"), Bytes: tr.value("nettap.call.bytes"),
		Transport: tr.value("network.transport"), Error: tr.value("error.type"), BlockedOn: blockedOn,
	}
}

// deeds returns what a thread did, in order, without calls that close sockets.
func (o *fixture) deeds(t testing.TB, thread int) []deed {
	t.Helper()
	var deeds []deed
	for _, tr := range o.by(t, thread) {
		if d := deedOf(tr); d.Syscall != "close" {
			deeds = append(deeds, d)
		}
	}
	return deeds
}

// eventually waits until complaint returns "", and fails the test with the last complaint if that takes
// too long.
func eventually(t testing.TB, complaint func() string) {
	t.Helper()
	var last string
	for range 200 {
		if last = complaint(); last == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error(last)
}
