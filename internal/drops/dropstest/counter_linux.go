// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// counter reads one of the current network namespace's own counters, from a file of /proc/net in
// which each group has a line of names and a line of numbers. The result is 0 if this kernel does
// not have the counter.
func counter(t *testing.T, file, group, name string) int {
	t.Helper()
	content, err := os.Open("/proc/thread-self/net/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var names []string
	for lines := bufio.NewScanner(content); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if fields[0] != group {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		at := slices.Index(names, name)
		if at < 0 {
			return 0
		}
		count, err := strconv.Atoi(fields[at])
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	t.Fatalf("no %s %s in %s", group, name, content.Name())
	return 0
}
