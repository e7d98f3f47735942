// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestSoakKills kills the Collector at random moments. The kernel must free everything that it had at
// that moment, and the next one must start and see what happens then. It takes a fifth of the time of
// [TestSoak], but each kind of moment has its turn.
func TestSoakKills(t *testing.T) {
	deadline := time.Now().Add(soakTime(t) / 5)
	seed, err := strconv.ParseUint(os.Getenv("NETTAP_SOAK_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("NETTAP_SOAK_SEED=%d chooses the same moments", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it must be repeatable
	atRandom := func(longest time.Duration) { time.Sleep(time.Duration(random.Int64N(int64(longest)))) }

	c := prepare(t, Options{Receivers: fast, Traces: true})
	start := func() time.Duration {
		began := time.Now()
		c.launch(c.words()...)
		c.awaitReady()
		return time.Since(began)
	}
	takes := start()
	visit := func(t *testing.T) {
		address := listen(t)
		pid := talker(t, address)
		c.Wait("accepts are reported", func() bool {
			return len(c.Records(Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()})) == 1
		})
		c.await("process.network.io", Attributes{"process.pid": pid, "network.interface.name": "lo", "network.io.direction": "transmit"})
	}
	visit(t)
	for {
		for _, moment := range []struct {
			name string
			come func()
		}{
			{"while it starts", func() {
				c.Stop()
				c.launch(c.words()...)
				atRandom(takes)
			}},
			{"under load", func() { atRandom(time.Second) }},
			{"while it reloads", func() {
				if err := c.signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				atRandom(takes + takes/4) // what ran before is shut down first
			}},
		} {
			t.Run(moment.name, func(t *testing.T) {
				churn(t, time.Second, freePort(t), func() {
					moment.come()
					objects := c.killFrozen(t)
					t.Logf("killed with %d maps, %d programs and %d links", len(objects["map"]), len(objects["prog"]), len(objects["link"]))
					objects.AwaitGone(t, func() {})
					start()
				})
				visit(t)
			})
		}
		if t.Failed() || time.Now().After(deadline) {
			break
		}
	}
	c.Stop()
}

// killFrozen kills the Collector, and returns the BPF objects that it had at that moment.
func (c *Collector) killFrozen(t *testing.T) (objects kerneltest.Objects) {
	t.Helper()
	c.Halted(func() {
		c.Wait("each thread of the Collector has stopped", func() bool {
			threads, err := procfs.AllThreads(c.PID())
			if err != nil {
				t.Fatal(err)
			}
			for _, thread := range threads {
				if stat, err := thread.Stat(); err == nil && stat.State != "T" {
					return false
				}
			}
			return true
		})
		objects = kerneltest.ObjectsOf(t, c.PID())
		c.Kill()
	})
	return objects
}
