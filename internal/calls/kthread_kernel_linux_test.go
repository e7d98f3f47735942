package calls

import (
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ofKernelThread lets a worker of the kernel close the sockets of a network namespace
// that nobody is in any more.
func ofKernelThread(t testing.TB, o *observer) {
	o.want(t, Options{Filter: Filter{PIDs: []uint32{}}}) // of any process
	onThread(func() {
		home := must(netns.Get())
		defer home.Close()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace: %v", err)
		}
		if err := netns.Set(home); err != nil {
			t.Errorf("leave a network namespace: %v", err)
		}
	})
	eventually(t, func() string {
		for _, tr := range o.collect(t) {
			if isKernelWorker(tr) && (tr.has("sock_release") || tr.has("__sock_release")) {
				return ""
			}
		}
		return "no worker of the kernel has closed a socket"
	})
	for _, tr := range o.trees {
		if !isKernelWorker(tr) {
			continue
		}
		got := rooted{Deed: deedOf(tr), PID: value(tr.resource, "process.pid")}
		got.Deed.BlockedOn = nil
		want := rooted{Deed: deed{Kept: "slow"}, PID: tr.value("nettap.thread.id")}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s by a worker of the kernel differs (-want +got):\n%s", tr.root.Name(), diff)
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
