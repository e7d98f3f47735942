// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"context"
	"errors"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// countedWaits has a program and its server wait for so long that the waits are in the same bucket even
// on a busy machine. The answer is read as late as the request.
func countedWaits(t testing.TB, o *fixture) {
	const long = 1200 * time.Millisecond // the bucket ends at 2.5 s
	recorder := &stats.Recorder{}
	durations := newDurations(o, recorder)
	if err := durations.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := durations.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	options := slowWaits
	options.MinDuration, options.Durations = time.Hour, true // no wait becomes a span
	o.want(t, options)
	if err := durations.Enable(); err != nil {
		t.Fatal(err)
	}
	client, server, port := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	if err := unix.SetNonblock(server, true); err != nil {
		t.Fatal(err)
	}
	var m moments
	m.asked = time.Now()
	send(t, client, 5)
	time.Sleep(long)
	receive(server)
	m.ready = time.Now()
	send(t, server, 7)
	awaitReadable(t, client)
	time.Sleep(long)
	m.read = time.Now()
	receive(client)

	metrics, err := durations.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	took := func(part, end string, from, to time.Time) histogramPoint {
		p := histogramPoint{PID: int64(unix.Getpid()), Part: part, End: end, Port: int64(port), Sum: to.Sub(from).Seconds(), Count: 1}
		p.Buckets[13] = 1 // above 1 s, up to 2.5 s
		return p
	}
	want := []histogramPoint{
		took("peer", "network.peer.port", m.asked, m.ready),
		took("local", "network.peer.port", m.ready, m.read),
		took("local", "network.local.port", m.asked, m.ready),
	}
	var got []histogramPoint
	for _, p := range histogramPoints(metrics) {
		if p.Port == int64(port) {
			got = append(got, p)
		}
	}
	if diff := gocmp.Diff(want, got, about); diff != "" {
		t.Errorf("points differ (-want +got):\n%s", diff)
	}
	if totals := recorder.Read(); totals.Seen < 2 || totals.Seen != totals.Aggregated || totals.Lost["map_full"] != 0 {
		t.Errorf("of %d waits %d are in series, and %v are lost", totals.Seen, totals.Aggregated, totals.Lost)
	}
	if len(o.waits(t, port)) > 0 {
		t.Errorf("there are spans: %v", o.waits(t, port))
	}
	answerOfAQuickPeer(t, durations)
	waitsWithoutPlace(t, o, durations)
}

// answerOfAQuickPeer has the answer to the first message of a connection there when the call that sends returns.
func answerOfAQuickPeer(t testing.TB, durations *Durations) {
	before := durations.recorder.Read()
	client, server, _ := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	send(t, server, 7)
	awaitReadable(t, client)
	send(t, client, 5)
	receive(client)
	receive(server)
	if _, err := durations.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	after := durations.recorder.Read()
	if seen, aggregated := after.Seen-before.Seen, after.Aggregated-before.Aggregated; seen != 2 || aggregated != 2 {
		t.Errorf("of two waits %d are seen, %d in series", seen, aggregated)
	}
}

// waitsWithoutPlace has waits of a program and its server while the map is full.
func waitsWithoutPlace(t testing.TB, o *fixture, durations *Durations) {
	before := durations.recorder.Read()
	m := o.calls.object.Maps[bpfMapWaitDurations]
	var taken []bpfDurationKey
	for pid := uint32(1 << 30); ; pid++ { // pids that no process can have
		key := bpfDurationKey{}
		key.Process.Pid = pid
		if err := m.Put(key, bpfDurations{}); errors.Is(err, unix.E2BIG) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, key)
	}
	client, server, _ := connectWithoutBlocking(t)
	defer unix.Close(client)
	defer unix.Close(server)
	send(t, client, 5)
	receive(server)
	send(t, server, 7)
	awaitReadable(t, client)
	receive(client)
	if _, err := durations.Collect(t.Context()); err != nil {
		t.Error(err)
	}
	after := durations.recorder.Read()
	if lost := after.Lost["map_full"] - before.Lost["map_full"]; lost != 2 || after.Seen-before.Seen != lost || after.Aggregated != before.Aggregated {
		t.Errorf("of two waits %d are seen, %d in series and %d lost", after.Seen-before.Seen, after.Aggregated-before.Aggregated, lost)
	}
	for _, key := range taken {
		if err := m.Delete(key); err != nil {
			t.Error(err)
		}
	}
}

func newDurations(o *fixture, recorder *stats.Recorder) *Durations {
	config := metadata.NewDefaultMetricsBuilderConfig()
	config.Metrics.NettapSocketWaitDuration.Enabled = true
	builder := metadata.NewMetricsBuilder(config, receivertest.NewNopSettings(metadata.Type))
	return NewDurations(o.calls, builder, o.calls.processes, clock.New(), recorder)
}
