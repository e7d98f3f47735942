// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestFirstTableComesAtOnce requires that the first table does not wait for the interval, and the second one does.
func TestFirstTableComesAtOnce(t *testing.T) {
	f := newFeed()
	f.processes = []fed{{pid: 7, comm: "a", dev: "lo"}}
	ctx, stop := context.WithCancel(t.Context())
	var printed strings.Builder
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.Print(ctx, &printed, 3*time.Second, "")
	}()
	if !f.AwaitWatcher(ctx) {
		t.Fatal("nothing is printed")
	}
	for second := range 5 {
		f.waitFor(t, func() bool { return f.waiting == 1 })
		f.processes[0].amounts[rxPackets] = 1 << second
		f.second()
	}
	f.waitFor(t, func() bool { return f.waiting == 1 })
	stop()
	<-ended
	var packets []string // received, of each table
	for line := range strings.Lines(printed.String()) {
		if fields := strings.Fields(line); len(fields) == 8 && fields[0] == "7" {
			packets = append(packets, fields[4])
		}
	}
	if diff := cmp.Diff([]string{"1", "14"}, packets); diff != "" {
		t.Errorf("the tables differ (-want +got):\n%s%s", diff, printed.String())
	}
}
