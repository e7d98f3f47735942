// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestKernelLetsACrowdedNamespaceHaveItsPart has a network namespace with more devices than it can have
// accounts. Packets without an account must be counted as lost, and other namespaces must have theirs.
func TestKernelLetsACrowdedNamespaceHaveItsPart(t *testing.T) {
	const part, devices = 60, 80
	l := observe(t, owner.Options{MaxProcesses: 4096})
	l.traffic.limitOf = map[string]uint32{bpfMapAccounts: 4 * part}
	l.traffic.quotas = l.traffic.newQuotas()
	kerneltest.Fill(t, l.traffic.owners.Maps()[owner.Cells])
	l.collect(t) // it finds out which namespace is the host's
	crowded, _ := kerneltest.Namespaces(t)
	kerneltest.InNamespace(t, crowded.Name, func() {
		for i := range devices {
			receiveOnTun(t, fmt.Sprintf("crowd%d", i))
		}
	})

	l.loseNothing(t)
	totals := l.recorder.Read()
	if lost := totals.Lost["namespace_full"]; lost < devices-part {
		t.Errorf("%d packets are lost to the part that is full, want %d at least", lost, devices-part)
	}
	if refused := totals.Maps[bpfMapAccounts].Refused; refused < devices-part {
		t.Errorf("%d accounts were refused, want %d at least", refused, devices-part)
	}
	held := 0
	for key := range must(readCounts[bpfAccountKey](l.traffic.object.Maps, bpfMapAccounts, 0)) {
		if key.Netns == l.netnsOf(t, crowded.Name) {
			held++
		}
	}
	if held != part {
		t.Errorf("the namespace has %d accounts, want %d", held, part)
	}

	w := connect(t, l)
	w.send(t, 100, 1000, w.far.IPv4)
	_, far, published := w.moved()
	want := map[string]quantity{"receive process": {100, 100 * 1042}}
	if diff := cmp.Diff(want, far, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the accounts of another namespace differ (-want +got):\n%s", diff)
	}
	usage := published.usage(os.Getpid(), w.far.Device)
	if diff := cmp.Diff(map[string]quantity{"receive": {100, 100 * 1042}}, usage, cmp.AllowUnexported(quantity{})); diff != "" {
		t.Errorf("the process's series there differ (-want +got):\n%s", diff)
	}
	l.loseNothing(t)
}

// receiveOnTun makes a device, on which one packet arrives that no socket receives.
func receiveOnTun(t *testing.T, name string) {
	t.Helper()
	tun := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI, Queues: 1,
	}
	if err := netlink.LinkAdd(tun); err != nil {
		t.Fatalf("make %s: %v", name, err)
	}
	defer tun.Fds[0].Close() // the device goes with its namespace
	if err := netlink.LinkSetUp(tun); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
	packet := make([]byte, 40)
	packet[0] = 4 << 4 // a version of IP, and no length of a header
	if _, err := unix.Write(int(tun.Fds[0].Fd()), packet); err != nil {
		t.Fatalf("receive on %s: %v", name, err)
	}
}

// netnsOf returns the number that the kernel side has for a network namespace.
func (l *lab) netnsOf(t *testing.T, name string) uint64 {
	t.Helper()
	inode := uint32(in(t, name, "").netns)
	for netns, namespace := range l.traffic.survey.existing {
		if namespace.Inode == inode {
			return netns
		}
	}
	t.Fatalf("no survey has found %s", name)
	return 0
}
