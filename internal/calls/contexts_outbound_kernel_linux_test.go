// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/tracecontext"
)

// TestKernelWhatAProcessSaysOfItselfIsALink has processes that publish a span whose ids they know, in
// each way, where the options say that this is not trusted.
func TestKernelWhatAProcessSaysOfItselfIsALink(t *testing.T) {
	kerneltest.Require(t)
	o := observeContexts(t, func(options *tracecontext.Options) { options.OutboundLink = true })
	t.Run("in the labels of a goroutine", func(t *testing.T) {
		fds := pair(t, unix.SOCK_STREAM)
		o.want(t, Options{})
		says := func() {
			labels := pprof.Labels("trace_id", traceIDOf(1), "span_id", spanIDOf(1))
			pprof.Do(context.Background(), labels, func(context.Context) { send(t, fds[0], 1) })
		}
		want := []relation{{"sendto", "go_labels", "", spanIDOf(1)}}
		eventually(t, func() string { return gocmp.Diff(want, o.relations(t, onThread(says))) })
	})
	t.Run("in the record of a thread", func(t *testing.T) {
		fds := pair(t, unix.SOCK_STREAM)
		h := startWith(t, exec.Command(filepath.Join("testdata", "publisher", runtime.GOARCH)), fds[0])
		want := []relation{{Syscall: "sendto", Source: "otel_thread", Link: fmt.Sprintf("d0d0d0d0d0d0d0%02x", 'a')}}
		eventually(t, func() string {
			o.want(t, Options{Filter: Filter{PIDs: []uint32{h.pid()}, Syscalls: []string{"sendto"}}})
			if _, err := h.in.Write([]byte("a")); err != nil {
				return err.Error()
			}
			awaitReadable(t, fds[1])
			unix.Read(fds[1], make([]byte, 1))
			return gocmp.Diff(want, o.relations(t, h.Process.Pid))
		})
		h.end(t)
	})
	t.Run("in the head of a message", func(t *testing.T) {
		needMessages(t, o)
		client, _ := connectTCP(t)
		o.want(t, Options{})
		thread := onThread(func() { write(t, client, request(traceparent(1))) })
		want := []relation{{"write", "http", "", spanIDOf(1)}}
		if diff := gocmp.Diff(want, o.relations(t, thread)); diff != "" {
			t.Errorf("relations differ (-want +got):\n%s", diff)
		}
	})
}
