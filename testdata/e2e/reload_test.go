// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestDistributionLeavesNothingBehindWhenItReloads sends SIGHUP, with which the Collector shuts down
// and starts everything again in the same process.
func TestDistributionLeavesNothingBehindWhenItReloads(t *testing.T) {
	pprof := freePort(t)
	c := StartWith(t, Options{Receivers: fast, Traces: true, Overlay: fmt.Sprintf(`
		extensions: {pprof: {endpoint: "127.0.0.1:%d"}}
		service: {extensions: [pprof]}
	`, pprof)})
	c.reload() // the first reload opens what a process keeps until its end, such as its poller's descriptors
	before := c.atRest(pprof)
	for _, kind := range []string{"anon_inode:bpf-map", "anon_inode:bpf-prog", "anon_inode:bpf_link"} {
		if before[kind] < 5 {
			t.Errorf("it has %d of %s, want several: %v", before[kind], kind, before)
		}
	}

	var replaced []kerneltest.Objects
	for range 3 {
		replaced = append(replaced, kerneltest.ObjectsOf(t, c.PID()))
		c.reload()
	}

	c.awaitPossessions(pprof, before)
	for _, objects := range replaced {
		awaitGone(t, pprof, objects)
	}

	address := listen(t)
	pid := talker(t, address)
	c.Wait("accepts are reported again", func() bool {
		return len(c.Records(Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()})) == 1
	})
	c.await("process.network.io", Attributes{"process.pid": pid, "network.interface.name": "lo", "network.io.direction": "transmit"})
	c.Stop()
}

// atRest returns what the Collector has at each of several looks, which leaves out what is there only
// now and then.
func (c *Collector) atRest(pprof int) possessions {
	c.t.Helper()
	p, looks := c.possessions(pprof), 0
	c.Wait("what is there only now and then was seen to be gone", func() bool {
		looks++
		p = p.least(c.possessions(pprof))
		return looks == 20
	})
	return p
}

// awaitPossessions waits until the Collector has no more and no less than before.
func (c *Collector) awaitPossessions(pprof int, before possessions) {
	c.t.Helper()
	after := c.possessions(pprof)
	var diff string
	c.t.Cleanup(func() {
		if diff != "" {
			c.t.Errorf("what the process has differs (-before +after):\n%s", diff)
		}
	})
	c.Wait("the process has what it had before", func() bool {
		now := c.possessions(pprof)
		after = after.least(now)
		if !cmp.Equal(before, before.least(after)) {
			after = now // at an earlier look not everything had begun yet
		}
		diff = cmp.Diff(before, after)
		return diff == ""
	})
}

// awaitGone waits until the objects of a Collector that has reloaded are gone.
func awaitGone(t *testing.T, pprof int, objects kerneltest.Objects) {
	t.Helper()
	// A map that the Collector has closed may stay until the garbage collector frees its memory mapping.
	objects.AwaitGone(t, func() { get(t, pprof, "heap?gc=1") })
}

// reload has the Collector read its configuration again, and waits until it is ready.
func (c *Collector) reload() {
	c.t.Helper()
	const ready = "Everything is ready"
	times := strings.Count(c.Log(), ready)
	if err := c.signal(syscall.SIGHUP); err != nil {
		c.t.Fatal(err)
	}
	c.Wait("the Collector has reloaded", func() bool { return strings.Count(c.Log(), ready) == times+1 })
}

// possessions has the number of files that a process has open, by their links in /proc/PID/fd, and
// of its goroutines, by the functions in which they began.
type possessions map[string]int

// least returns the lower of both numbers of each kind.
func (p possessions) least(other possessions) possessions {
	both := possessions{}
	for kind, n := range p {
		if n = min(n, other[kind]); n > 0 {
			both[kind] = n
		}
	}
	return both
}

// number matches the number of a socket or a pipe.
var number = regexp.MustCompile(`:\[\d+\]$`)

// possessions returns what the Collector has open. pprof is the port of the extension pprof.
func (c *Collector) possessions(pprof int) possessions {
	c.t.Helper()
	p := goroutines(c.t, get(c.t, pprof, "goroutine?debug=1"))
	directory := fmt.Sprintf("/proc/%d/fd/", c.PID())
	entries, err := os.ReadDir(directory)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink(directory + entry.Name()); err == nil {
			p[number.ReplaceAllString(target, "")]++
		}
	}
	return p
}

var (
	stackCount = regexp.MustCompile(`^(\d+) @ `)
	stackFrame = regexp.MustCompile(`^#\t0x[0-9a-f]+\t(\S+)\+0x`)
)

// goroutines counts the goroutines of a profile by the last frames of their stacks.
func goroutines(t testing.TB, profile string) possessions {
	t.Helper()
	counts := possessions{}
	for stack := range strings.SplitSeq(profile, "\n\n") {
		var count int
		var began string
		for line := range strings.Lines(stack) {
			if found := stackCount.FindStringSubmatch(line); found != nil {
				count, _ = strconv.Atoi(found[1]) // the expression matches only digits
			}
			if found := stackFrame.FindStringSubmatch(line); found != nil {
				began = found[1]
			}
		}
		if count == 0 || began == "" {
			continue
		}
		counts[began] += count
	}
	if len(counts) == 0 {
		t.Fatalf("no goroutines in the profile:\n%s", profile)
	}
	return counts
}

// get returns a page of the extension pprof. It makes a new connection.
func get(t testing.TB, pprof int, page string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/%s", pprof, page), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestDistributionReloadsItsPolicy changes the rules of a running Collector.
func TestDistributionReloadsItsPolicy(t *testing.T) {
	address := listen(t)
	rules := func(port int) string {
		return fmt.Sprintf("receivers: {nettap: {accepts: {policy: {expect: [{ports: [%d]}]}}}}\n", port)
	}
	c := StartWith(t, Options{Receivers: fmt.Sprintf(acceptsSoon, ""), Overlay: rules(address.Port)})
	visit := func(want string, severity plog.SeverityNumber) {
		before := len(c.Records(Attributes{"network.local.port": address.Port, "nettap.policy.verdict": want}))
		talker(t, address)
		c.Wait("the accept is "+want, func() bool {
			records := c.Records(Attributes{"network.local.port": address.Port, "nettap.policy.verdict": want})
			return len(records) == before+1 && records[before].Severity == severity
		})
	}
	visit("expected", plog.SeverityNumberInfo)
	if err := os.WriteFile(c.path("overlay.yaml"), []byte(rules(1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.reload()
	visit("unexpected", plog.SeverityNumberWarn)
	c.Stop()
}
