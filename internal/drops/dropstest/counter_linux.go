// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// counter reads one of the receiver's own counters by the name that nstat gives it. The result is 0
// if this kernel does not have the counter.
func (l *Lab) counter(t *testing.T, name string) int {
	t.Helper()
	return l.counters(t)[name]
}

// counters reads the receiver's own counters of IP, TCP, UDP and ICMP.
func (l *Lab) counters(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	l.inReceiver(t, func() {
		for _, file := range []string{"snmp", "netstat", "snmp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for line := range strings.Lines(string(text)) {
				fields := strings.Fields(line)
				group, paired := strings.CutSuffix(fields[0], ":")
				switch {
				case !paired:
					all[fields[0]] = number(t, fields[1])
				case names == nil:
					names = fields
				default:
					for i, field := range fields[1:] {
						all[group+names[i+1]] = number(t, field)
					}
					names = nil
				}
			}
		}
	})
	return all
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// growth returns by how much some counters grow while something happens, without those that do not.
// It is a fault if that is never enough.
func (l *Lab) growth(t *testing.T, enough func(grown map[string]int) bool, happens func(), names ...string) map[string]int {
	t.Helper()
	before := l.counters(t)
	happens()
	grown := map[string]int{}
	if !within(time.Minute, func() bool {
		after := l.counters(t)
		for _, name := range names {
			grown[name] = after[name] - before[name]
		}
		return enough(grown)
	}) {
		t.Errorf("counters grow by no more than %v", grown)
	}
	maps.DeleteFunc(grown, func(_ string, n int) bool { return n == 0 })
	return grown
}

// together says whether all counters together have grown by n, as those of which each packet is
// counted by one.
func together(n int) func(grown map[string]int) bool {
	return func(grown map[string]int) bool {
		sum := 0
		for _, by := range grown {
			sum += by
		}
		return sum >= n
	}
}
