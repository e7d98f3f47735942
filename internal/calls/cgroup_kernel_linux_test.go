// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// inCgroups filters by cgroups that it makes. One of them is a container's, and is made after the
// filter was set.
func inCgroups(t testing.TB, o *fixture) {
	outer := fmt.Sprintf("/nettap-test-%d", os.Getpid())
	container := strings.Repeat("ab", 32)
	inner := outer + "/docker-" + container + ".scope"
	h := startHelper(t, "sends")
	t.Cleanup(func() { h.end(t) })
	for name, test := range map[string]struct {
		filter Filter
		want   []string // the cgroups whose process is seen
	}{
		"a cgroup":                {Filter{Cgroups: []string{outer}}, []string{outer, inner}},
		"the cgroup in it":        {Filter{Cgroups: []string{inner}}, []string{inner}},
		"one that is named alike": {Filter{Cgroups: []string{outer[:len(outer)-1]}}, nil},
		"a container":             {Filter{Containers: []string{container}}, []string{inner}},
		"another container":       {Filter{Containers: []string{strings.Repeat("cd", 32)}}, nil},
	} {
		makeCgroup(t, outer)
		test.filter.PIDs = []uint32{} // any process
		o.want(t, Options{Filter: test.filter})
		makeCgroup(t, inner)
		h.sendIn(t, inner, 9)
		o.collect(t) // it adds new cgroups to the filter, so the calls before it are not seen
		sent := map[any]string{}
		for i, cgroup := range []string{outer, inner, "/"} {
			h.sendIn(t, cgroup, i+1)
			sent[int64(i+1)] = cgroup
		}
		var got []string
		for _, tr := range o.collect(t) {
			if d := deedOf(tr); d.Syscall == "sendto" {
				got = append(got, sent[d.Bytes])
			}
			if pid := value(tr.resource, "process.pid"); pid != int64(h.Process.Pid) {
				t.Errorf("with a filter for %s a call of process %v is seen", name, pid)
			}
		}
		if diff := gocmp.Diff(test.want, got); diff != "" {
			t.Errorf("with a filter for %s the cgroups that are seen differ (-want +got):\n%s", name, diff)
		}
		removeCgroup(t, inner)
		removeCgroup(t, outer)
		o.collect(t)
		if err := o.calls.object.Maps[bpfMapCgroups].NextKey(nil, new(uint64)); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("a filter for %s has cgroups that are gone: %v", name, err)
		}
	}
}

// sendIn moves the helper to a cgroup, and lets it send once.
func (h helper) sendIn(t testing.TB, cgroup string, bytes int) {
	t.Helper()
	members := filepath.Join(directoryOf(t, cgroup), "cgroup.procs")
	if err := os.WriteFile(members, []byte(strconv.Itoa(h.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(h.in, bytes)
	if _, err := h.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// sends is what that helper runs.
func sends(fd int) {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Println("sent") {
		if err := unix.Sendto(fd, make([]byte, must(strconv.Atoi(lines.Text()))), 0, nil); err != nil {
			panic(err)
		}
	}
}

func directoryOf(t testing.TB, cgroup string) string {
	t.Helper()
	root, err := host.CgroupRoot("")
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, cgroup)
}

func makeCgroup(t testing.TB, cgroup string) {
	t.Helper()
	directory := directoryOf(t, cgroup)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(directory) })
}

func removeCgroup(t testing.TB, cgroup string) {
	t.Helper()
	if err := os.Remove(directoryOf(t, cgroup)); err != nil {
		t.Error(err)
	}
}
