// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// busy is a program that sends datagrams to itself until its input ends, and then prints how many.
const busy = `
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
n = 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    for _ in range(50):
        s.sendto(b"x" * 64, s.getsockname())
        s.recv(100)
        n += 1
print(n)
`

// TestDistributionLimitsItself has a limit that any load exceeds, so that calls are left out and
// then counters are read less often. The log, the Collector's own metrics and the view must say so,
// and the packets that a process sends meanwhile must be counted exactly.
func TestDistributionLimitsItself(t *testing.T) {
	t.Parallel() // it takes two minutes until everything is left out
	port := freePort(t)
	c := StartWith(t, Options{
		Receivers: fmt.Sprintf(`
			nettap:
			  max_cpu: 0.001%%
			  traffic: {collection_interval: 200ms, initial_delay: 0s}
			  calls: {collection_interval: 100ms, initial_delay: 0s, min_duration: 1h, sample_ratio: 1, max_per_second: 100}
			  view: {endpoint: "127.0.0.1:%d"}
		`, port),
		Traces: true,
	})
	var sent strings.Builder
	command := exec.Command("python3", "-c", busy)
	command.Stdout = &sent
	load := kerneltest.StartProgram(t, command)
	pid := load.Process.Pid
	c.Wait("its calls are reported", func() bool { return len(c.Spans(Attributes{"process.pid": pid})) > 0 })
	step := func() int {
		if c.Own("otelcol_nettap_limit_step") == nil {
			return -1
		}
		return int(c.OwnValue("otelcol_nettap_limit_step", "receiver", "nettap"))
	}
	c.Wait("calls are left out", func() bool { return step() >= 3 })
	seen := func() float64 { // without the lost ones: calls that had begun at the change may be lost later
		return c.OwnValue("otelcol_nettap_events_seen", "instrument", "calls") - c.OwnValue("otelcol_nettap_events_lost", "instrument", "calls")
	}
	time.Sleep(time.Second) // the accounts are only as recent as the last collection
	before := seen()
	time.Sleep(2 * time.Second) // if calls were not left out, some would be seen in this time
	if after := seen(); after != before || after == 0 {
		t.Errorf("%v calls are seen without calls, and %v before", after-before, before)
	}
	c.Wait("nothing is left to leave out", func() bool { return strings.Contains(c.Log(), "max_cpu is exceeded by what is never left out") })
	for _, want := range []string{
		"now on step no_sampled_trees", "now on step no_calls", `"not_seen": "all calls"`, "now on step long_intervals", `"max_cpu": "0.001%"`,
	} {
		if !strings.Contains(c.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if step() != 4 || c.OwnValue("otelcol_nettap_cpu_usage", "part", "programs") <= 0 || c.OwnValue("otelcol_nettap_cpu_usage", "part", "loops") <= 0 {
		t.Errorf("the step is %d and the usage %v", step(), c.Own("otelcol_nettap_cpu_usage"))
	}
	var state struct {
		Health struct {
			Limit   map[string]any
			NotSeen []string `json:"not_seen"`
		}
	}
	until(t, "the view is up to date", func() bool {
		if err := json.Unmarshal([]byte(curl(t, fmt.Sprintf("http://127.0.0.1:%d/api/v1/state", port))), &state); err != nil {
			t.Fatal(err)
		}
		return state.Health.Limit["step"] == "long_intervals"
	})
	if l := state.Health.Limit; l["max_percent"] != 0.001 || l["exceeded"] != true || l["programs_percent"] == 0.0 {
		t.Errorf("the view has %v", l)
	}
	if !strings.Contains(fmt.Sprint(state.Health.NotSeen), "max_cpu: all calls") {
		t.Errorf("the view says of what is not seen: %v", state.Health.NotSeen)
	}

	load.End()
	var want int64
	if _, err := fmt.Sscan(sent.String(), &want); err != nil {
		t.Fatal(err)
	}
	packets := func() map[string]int64 {
		counts := map[string]int64{}
		for _, direction := range []string{"transmit", "receive"} {
			counts[direction] = c.Value("nettap.process.network.packet.count", Attributes{
				"process.pid": pid, "network.interface.name": "lo", "network.io.direction": direction,
			})
		}
		return counts
	}
	c.Wait("all it sent is counted", func() bool { return packets()["receive"] >= want })
	if diff := cmp.Diff(map[string]int64{"transmit": want, "receive": want}, packets()); diff != "" {
		t.Errorf("packets differ (-want +got):\n%s", diff)
	}
	for _, instrument := range []string{"traffic", "calls"} {
		c.Wait("each event is accounted for", func() bool { return c.accountsFor(instrument) })
	}
	c.Stop()
}

// TestDistributionSaysThatItCannotMeasure takes away the capability to measure the time of BPF
// programs. Then there is no limit, and the log says so, as a warning if max_cpu is set.
func TestDistributionSaysThatItCannotMeasure(t *testing.T) {
	for name, test := range map[string]struct{ config, level string }{
		"by default":   {"{}", "info"},
		"on a warning": {"{max_cpu: 2%}", "warn"},
		"nor wants to": {"{max_cpu: 0}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := StartWith(t, Options{Receivers: "nettap: " + test.config, Capabilities: capabilities})
			const says = "max_cpu is off"
			if test.level != "" {
				c.Wait("it says so", func() bool { return strings.Contains(c.Log(), says) })
			}
			line := ""
			for l := range strings.Lines(c.Log()) {
				if strings.Contains(l, says) {
					line += l
				}
			}
			if test.level == "" && line == "" {
				return
			}
			if strings.Count(line, "\n") != 1 || !strings.Contains(line, "\t"+test.level+"\t") || !strings.Contains(line, "missing CAP_SYS_ADMIN") {
				t.Errorf("the log says %q, want one line of level %q", line, test.level)
			}
			if usage := c.Own("otelcol_nettap_cpu_usage"); usage != nil {
				t.Errorf("the usage is %v", usage)
			}
		})
	}
}
