// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ofKernelThread lets a worker of the kernel close the sockets of a network namespace that has no
// process left.
func ofKernelThread(t testing.TB, o *fixture) {
	o.want(t, Options{Filter: Filter{PIDs: []uint32{}}}) // of any process
	thread := onThread(func() {
		home := must(netns.Get())
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace: %v", err)
		}
		if err := netns.Set(home); err != nil {
			t.Errorf("leave a network namespace: %v", err)
		}
	})
	opened := slices.DeleteFunc(o.by(t, thread), func(tr tree) bool {
		return !slices.Contains([]string{"sock_create_kern", "sock_create_lite", "__sock_create"}, tr.function()) || tr.value("error.type") != nil
	})
	var closed []tree
	eventually(t, func() string {
		closed = slices.DeleteFunc(slices.Clone(o.collect(t)), func(tr tree) bool {
			return !isKernelWorker(tr) || !tr.has("sock_release") && !tr.has("__sock_release")
		})
		if len(closed) == 0 || len(closed) < len(opened) {
			return fmt.Sprintf("of %d sockets a worker of the kernel has closed %d", len(opened), len(closed))
		}
		return ""
	})
	if !o.few && len(closed) != len(opened) {
		t.Errorf("of %d sockets a worker of the kernel has closed %d", len(opened), len(closed))
	}
	for _, tr := range slices.DeleteFunc(slices.Clone(o.trees), func(tr tree) bool { return !isKernelWorker(tr) }) {
		got := deedOf(tr)
		got.BlockedOn = nil
		if diff := gocmp.Diff(deed{Kept: "slow"}, got); diff != "" {
			t.Errorf("%s by a worker of the kernel differs (-want +got):\n%s", tr.function(), diff)
		}
		if pid, name := value(tr.resource, "process.pid"), value(tr.resource, "nettap.process.comm"); pid != tr.value("nettap.thread.id") || name != tr.value("thread.name") {
			t.Errorf("the worker of the kernel %v %v is process %v %v", tr.value("nettap.thread.id"), tr.value("thread.name"), pid, name)
		}
		if name := value(tr.resource, "process.executable.name"); name != nil {
			t.Errorf("a worker of the kernel executes %v", name)
		}
	}
}

func isKernelWorker(tr tree) bool {
	name, _ := tr.value("thread.name").(string)
	return strings.HasPrefix(name, "kworker/")
}
