// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// soakReceiver has the defaults, except that it reads more often and the interfaces of all
// namespaces, and that it reports no less when it takes much of the machine: it would read only once
// a minute then, and the test waits for what was read.
const soakReceiver = `
	nettap:
	  max_cpu: 0
	  traffic: {collection_interval: 500ms, namespaces: all}
	  drops: {collection_interval: 500ms}
	  view: {endpoint: "127.0.0.1:%d"}
`

// soakOverlays are merged over the configuration in turn, one at each reload. The second one turns
// everything on that is off by default, and lets nettap limit itself.
var soakOverlays = []string{``, `
receivers:
  nettap:
    max_cpu: 5%
    drops: {records: true, metrics: {nettap.tcp.reset: {enabled: true}}}
    accepts: {events: {nettap.connection.closed: {enabled: true}}}
    listeners: {enabled: true}
    connections: {enabled: true}
    calls: {off_cpu: true, metrics: {nettap.socket.wait.duration: {enabled: true}}}
`}

// soakTime returns how long the test of endurance lasts.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	lasts, err := time.ParseDuration(os.Getenv("NETTAP_SOAK_TIME"))
	if err != nil {
		t.Skipf("make soak sets NETTAP_SOAK_TIME: %v", err)
	}
	return lasts
}

// TestSoak runs the Collector for a long time. In each round all kinds of things come and go, and the
// configuration is reloaded in the middle of that. After each round every event must have a fate, and
// at the end the Collector must have no more than after the first rounds.
func TestSoak(t *testing.T) {
	const longest, fewest = 30 * time.Second, 7 // of a round, and rounds
	lasts := soakTime(t)
	round := min(longest, lasts/(fewest+2)) // after a round the Collector comes to rest
	pprof, view := freePort(t), freePort(t)
	c := StartWith(t, Options{Receivers: fmt.Sprintf(soakReceiver, view), Traces: true, Overlay: fmt.Sprintf(soakFrame, pprof)})

	// The first reload opens what a process keeps until its end, and of the first rounds the
	// prometheus exporter and others keep buffers. So the third round is the first one to compare with.
	const first = 2
	var base holdings
	deadline := time.Now().Add(lasts)
	for i := 0; i < fewest || i%2 == 0 || time.Now().Before(deadline); i++ {
		overlay := soakOverlays[i%len(soakOverlays)]
		t.Run(fmt.Sprintf("round_%d", i), func(t *testing.T) {
			churn(t, round, view, func() {
				c.write("overlay.yaml", fmt.Sprintf(soakFrame, pprof)+overlay)
				replaced := kerneltest.ObjectsOf(t, c.PID())
				c.reload()
				awaitGone(t, pprof, replaced)
			})
		})
		if t.Failed() {
			return
		}
		c.awaitFates()
		if overlay != "" {
			continue
		}
		now := c.holdings(t, pprof)
		t.Logf("round %d: %v", i, now)
		switch {
		case i == first:
			base = now
		case i > first:
			base.requireNoMore(t, now, i-first)
			c.awaitPossessions(pprof, base.possessions)
		}
	}

	// These namespaces are new, so that nettap has seen everything that they have counted.
	a, b := kerneltest.Namespaces(t)
	near, far := furnish(t, a), furnish(t, b)
	near.run(t, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)) // the server is up
	carry(t, c, near, far, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80))
	c.awaitFates()
	c.Stop()
}

// soakFrame adds the extension pprof.
const soakFrame = `
extensions: {pprof: {endpoint: "127.0.0.1:%d"}}
service: {extensions: [pprof]}
`

// churn lets all kinds of things come and go for a time, and calls reload in the middle of it.
func churn(t *testing.T, lasts time.Duration, view int, reload func()) {
	t.Helper()
	deadline := time.Now().Add(lasts)
	more := func(pause time.Duration) bool {
		time.Sleep(pause)
		return time.Now().Before(deadline) && !t.Failed()
	}
	address, lab := listen(t), dropstest.NewLab(t)
	var running sync.WaitGroup
	defer running.Wait()
	for _, loop := range []struct {
		pause time.Duration
		once  func()
	}{
		{50 * time.Millisecond, func() { startTalker(t, address).End() }}, // a process
		{300 * time.Millisecond, func() { answerInContainer(t) }},
		{100 * time.Millisecond, func() { flood(t, 20) }}, // connections, and their listener
		{100 * time.Millisecond, func() { dropstest.Storm(t, lab, 500) }},
		{200 * time.Millisecond, func() { look(view) }},
		{time.Second, func() { visitNamespaces(t) }},
	} {
		running.Go(func() { // a helper that fails ends only its own loop, and the others see that the test has failed
			for more(loop.pause) {
				loop.once()
			}
		})
	}
	running.Go(func() { dropstest.FloodSYNs(t, lab, func() bool { return more(50 * time.Millisecond) }) })
	time.Sleep(lasts / 2)
	reload()
}

// visitNamespaces makes two network namespaces and interfaces in them, sends through them, and
// deletes the interfaces. The namespaces last until the end of the round.
func visitNamespaces(t *testing.T) {
	t.Helper()
	a, b := kerneltest.Namespaces(t)
	h := host{Namespace: a}
	h.ip(t, "link", "add", "br0", "type", "bridge")
	h.ip(t, "link", "set", "br0", "up")
	h.run(t, "ping", "-c", "3", "-i", "0.01", b.IPv4.String())
	h.ip(t, "link", "set", a.Device, "master", "br0")
	h.ip(t, "link", "delete", "br0")
	h.ip(t, "link", "delete", a.Device)
}

// look reads the view. While the Collector reloads nothing answers.
func look(view int) {
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/state", view))
	if err == nil {
		answer.Body.Close()
	}
}

// write writes a file in the Collector's directory.
func (c *Collector) write(name, content string) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// awaitFates waits until each event that an instrument has seen has a fate.
func (c *Collector) awaitFates() {
	c.t.Helper()
	rest := map[string]int{}
	c.t.Cleanup(func() {
		if len(rest) > 0 {
			c.t.Errorf("events without a fate: %v", rest)
		}
	})
	c.Wait("each event has a fate", func() bool {
		unaccounted := c.unaccounted()
		rest = map[string]int{}
		for instrument, n := range unaccounted {
			if n != 0 {
				rest[instrument] = n
			}
		}
		return len(rest) == 0 && len(unaccounted) > 0
	})
}

// holdings are what a process takes of the machine when it is at rest.
type holdings struct {
	possessions possessions
	objects     map[string]int // BPF objects by kind
	resident    uint64         // memory in bytes, less what Go keeps of it to use again
	heap        uint64         // of Go, in bytes, after garbage was collected
	threads     int
}

func (h holdings) String() string {
	return fmt.Sprintf("%d MiB resident, %d KiB of live heap, %d threads, BPF objects %v, %d files and goroutines",
		h.resident>>20, h.heap>>10, h.threads, h.objects, h.possessions.sum())
}

func (p possessions) sum() (n int) {
	for _, count := range p {
		n += count
	}
	return n
}

// memstat finds a field of runtime.MemStats in a profile of the heap.
var memstat = regexp.MustCompile(`(?m)^# (HeapAlloc|HeapIdle|HeapReleased) = (\d+)$`)

// holdings returns what the Collector takes.
func (c *Collector) holdings(t *testing.T, pprof int) holdings {
	t.Helper()
	h := holdings{possessions: c.atRest(pprof), objects: map[string]int{}}
	for kind, ids := range kerneltest.ObjectsOf(t, c.PID()) {
		h.objects[kind] = len(ids)
	}
	memory := map[string]uint64{}
	for _, found := range memstat.FindAllStringSubmatch(get(t, pprof, "heap?gc=1&debug=1"), -1) {
		memory[found[1]], _ = strconv.ParseUint(found[2], 10, 64) // the expression matches only digits
	}
	if len(memory) != 3 {
		t.Fatalf("the profile says of the heap only %v", memory)
	}
	process, err := procfs.NewProc(c.PID())
	if err != nil {
		t.Fatal(err)
	}
	status, err := process.NewStatus()
	if err != nil {
		t.Fatal(err)
	}
	stat, err := process.Stat()
	if err != nil {
		t.Fatal(err)
	}
	// Go returns memory to the kernel slowly, and garbage was collected later the busier the machine is.
	kept := memory["HeapIdle"] - memory["HeapReleased"]
	h.heap, h.resident, h.threads = memory["HeapAlloc"], status.VmRSS-kept, stat.NumThreads
	return h
}

// requireNoMore requires that now is not more than h, which was a number of reloads ago, with tolerance
// where a process that leaks nothing differs from round to round.
func (h holdings) requireNoMore(t *testing.T, now holdings, reloads int) {
	t.Helper()
	if diff := cmp.Diff(h.objects, now.objects); diff != "" {
		t.Errorf("BPF objects differ (-before +now):\n%s", diff)
	}
	const (
		// Tables of processes, cgroups and symbols keep the room that they once had, and the last
		// batch is still referred to.
		heap = 8 << 20
		// The file exporter, by which the test reads the output, keeps its logger at each reload.
		logger = 600 << 10
		// What lies between garbage keeps whole spans of the heap, the more the busier the machine is.
		resident = 48 << 20
		// The runtime starts a thread when others are in system calls, and keeps it.
		threads = 8
	)
	kept := uint64(reloads) * logger
	if now.heap > h.heap+heap+kept || now.resident > h.resident+resident+kept || now.threads > h.threads+threads {
		t.Errorf("it takes %v, and before %v", now, h)
	}
}
