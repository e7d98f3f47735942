// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/metadata"
)

// moved is how many packets a process has sent and received on lo.
type moved struct{ Transmitted, Received int64 }

// TestKernelLimit takes every step forward, because any load is above the limit, and back again, while
// two processes send. Each of their packets must be counted, whatever the step.
func TestKernelLimit(t *testing.T) {
	kerneltest.Require(t)
	config := createDefaultConfig().(*Config)
	config.Traffic.Enabled = !errors.Is(kernel.ProbeSocketStorage(), kernel.ErrUnsupported) // it needs Linux 5.12
	config.MaxCPU = 100
	config.Calls.Functions, config.Calls.MaxPerSecond = []string{"__sys_s*", "__sys_g*"}, 0
	config.Calls.Errors = []string{errorsAlways} // ENOPROTOOPT of an unknown option is an expected failure
	config.Calls.CollectionInterval, config.Calls.InitialDelay = 20*time.Millisecond, 0
	config.Traffic.CollectionInterval, config.Traffic.InitialDelay = 100*time.Millisecond, 0
	core, logs := observer.New(zapcore.InfoLevel)
	settings := receivertest.NewNopSettings(metadata.Type)
	settings.Logger = zap.New(core)
	receivers, metrics, traces := &sharedReceivers{}, new(consumertest.MetricsSink), new(consumertest.TracesSink)
	ofMetrics, err := receivers.createMetrics(t.Context(), settings, config, metrics)
	if err != nil {
		t.Fatal(err)
	}
	ofTraces, err := receivers.createTraces(t.Context(), settings, config, traces)
	if err != nil {
		t.Fatal(err)
	}
	l := receivers.byConfig[config].limit
	l.every, l.timed, l.rest = 100*time.Millisecond, 20*time.Millisecond, 500*time.Millisecond
	for _, signal := range []component.Component{ofMetrics, ofTraces} {
		if err := signal.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
	}

	setLimit := func(share float64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.control.Limit = share
	}
	first := startSender(t)
	awaitUsage(t, l, "calls are reported", func(usage) bool { return keptOf(traces, first.Process.Pid)["failed"] > 0 })
	setLimit(1e-8)
	awaitUsage(t, l, "the limit is exceeded on the last step", func(u usage) bool { return u.exceeded && u.step == budget.LongIntervals })
	if u := l.read(); u.programs <= 0 || u.loops <= 0 || u.programs > 1 || u.loops > 1 {
		t.Errorf("the usage is %+v, and programs and loops ran", u)
	}
	awaitUsage(t, l, "no calls are reported, after those that were made before", func(usage) bool {
		traces.Reset()
		time.Sleep(300 * time.Millisecond) // in this time calls would be reported; there is no condition to await
		return traces.SpanCount() == 0
	})
	want := map[int]moved{}
	want[first.Process.Pid] = first.end(t)

	setLimit(10) // ten times the machine, so that any load is below the limit
	second := startSender(t)
	awaitUsage(t, l, "everything is seen again", func(u usage) bool { return u.step == budget.Full && !u.exceeded })
	traces.Reset()
	awaitUsage(t, l, "calls are reported again", func(usage) bool { return keptOf(traces, second.Process.Pid)["failed"] > 0 })
	want[second.Process.Pid] = second.end(t)

	for _, signal := range []component.Component{ofTraces, ofMetrics} {
		if err := signal.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := map[int]moved{}
	for pid := range want {
		got[pid] = movedBy(metrics, pid)
	}
	if diff := cmp.Diff(want, got); diff != "" && config.Traffic.Enabled {
		t.Errorf("the packets of processes differ (-want +got):\n%s", diff)
	}
	var steps []string
	for _, line := range messages(logs) {
		if strings.Contains(line, "step") {
			steps = append(steps, line)
		}
	}
	wantSteps := []string{ // functions are configured, so that the functions inside are followed for all calls
		"warn: max_cpu is exceeded: now on step no_sampled_trees",
		"warn: max_cpu is exceeded: now on step no_inner_functions",
		"warn: max_cpu is exceeded: now on step no_calls",
		"warn: max_cpu is exceeded: now on step long_intervals",
		"warn: max_cpu is exceeded by what is never left out, on step long_intervals",
		"info: max_cpu is no longer exceeded, on step long_intervals",
		"info: max_cpu is kept: back on step no_calls",
		"info: max_cpu is kept: back on step no_inner_functions",
		"info: max_cpu is kept: back on step no_sampled_trees",
		"info: max_cpu is kept: back on step full",
	}
	if diff := cmp.Diff(wantSteps, steps); diff != "" {
		t.Errorf("log differs (-want +got):\n%s", diff)
	}
}

func awaitUsage(t *testing.T, l *limit, what string, holds func(usage) bool) {
	t.Helper()
	for deadline := time.Now().Add(kerneltest.Patience); !holds(l.read()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s; the usage is %+v", what, l.read())
		}
	}
}

// sender is a process that sends to itself until end is called.
type sender struct {
	*kerneltest.Program
	output *kerneltest.Output
}

const asSender = "NETTAP_TEST_SENDER"

func startSender(t *testing.T) sender {
	t.Helper()
	command := exec.Command("/proc/self/exe", "-test.run=^TestSender$")
	command.Env = append(os.Environ(), asSender+"=1")
	output := kerneltest.OutputOf(t, command)
	return sender{kerneltest.StartProgram(t, command), output}
}

// end ends the process, and returns what it has sent and received.
func (s sender) end(t *testing.T) moved {
	t.Helper()
	s.Input.Close()
	var m moved
	if _, err := fmt.Sscan(s.output.Line(), &m.Transmitted, &m.Received); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSender is not a test, but the process of a [sender]: it sends datagrams to itself, and from time to
// time makes a call that fails.
func TestSender(t *testing.T) {
	if os.Getenv(asSender) == "" {
		return
	}
	over := make(chan bool)
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // only the end of the input matters
		close(over)
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Without a timeout, a datagram that is lost would block the process for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	var m moved
	message := make([]byte, 64)
	for n := 0; ; n++ {
		select {
		case <-over:
			fmt.Println(m.Transmitted, m.Received)
			os.Exit(0)
		default:
		}
		if err := unix.Sendto(fd, message, 0, address); err == nil {
			m.Transmitted++
		}
		for { // the kernel does not restart a receive with a timeout after a signal
			_, _, err := unix.Recvfrom(fd, message, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err == nil {
				m.Received++
			}
			break
		}
		if n%64 == 0 {
			unix.GetsockoptInt(fd, 250, 1) //nolint:errcheck // it fails intentionally, with ENOPROTOOPT
			time.Sleep(time.Millisecond)
		}
	}
}

// movedBy returns the highest counts of a process on lo.
func movedBy(sink *consumertest.MetricsSink, pid int) moved {
	var m moved
	for _, batch := range sink.AllMetrics() {
		for _, resource := range batch.ResourceMetrics().All() {
			if id, ok := resource.Resource().Attributes().Get("process.pid"); !ok || id.Int() != int64(pid) {
				continue
			}
			for _, scope := range resource.ScopeMetrics().All() {
				for _, metric := range scope.Metrics().All() {
					if metric.Name() != "nettap.process.network.packet.count" {
						continue
					}
					for _, point := range metric.Sum().DataPoints().All() {
						direction, _ := point.Attributes().Get("network.io.direction")
						count := &m.Received
						if direction.Str() == "transmit" {
							count = &m.Transmitted
						}
						*count = max(*count, point.IntValue())
					}
				}
			}
		}
	}
	return m
}

// keptOf returns how many calls of a process are reported, by nettap.call.kept.
func keptOf(sink *consumertest.TracesSink, pid int) map[string]int {
	kept := map[string]int{}
	for _, batch := range sink.AllTraces() {
		for _, resource := range batch.ResourceSpans().All() {
			if id, ok := resource.Resource().Attributes().Get("process.pid"); !ok || id.Int() != int64(pid) {
				continue
			}
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					if why, ok := span.Attributes().Get(calls.RootAttribute); ok {
						kept[why.Str()]++
					}
				}
			}
		}
	}
	return kept
}
