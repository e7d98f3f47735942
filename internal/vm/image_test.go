// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestModulesOf(t *testing.T) {
	got := modulesOf(`insmod /k/lib/modules/7.3/kernel/net/llc/llc.ko.xz
insmod /k/lib/modules/7.3/kernel/net/802/stp.ko.xz
builtin ipv6
insmod /k/lib/modules/7.3/kernel/net/llc/llc.ko.xz
insmod /k/lib/modules/7.3/kernel/net/sched/sch_tbf.ko.xz option=1
`)
	want := []string{
		"/k/lib/modules/7.3/kernel/net/llc/llc.ko.xz",
		"/k/lib/modules/7.3/kernel/net/802/stp.ko.xz",
		"/k/lib/modules/7.3/kernel/net/sched/sch_tbf.ko.xz",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("modulesOf() differs (-want +got):\n%s", diff)
	}
}

func TestInFiles(t *testing.T) {
	directory := fstest.MapFS{
		"kernel/net/8021q/8021q.ko.xz":          {},
		"kernel/net/xfrm/xfrm-interface.ko":     {},
		"kernel/drivers/net/veth.ko.xz":         {},
		"kernel/drivers/net/netkit.txt":         {},
		"kernel/drivers/net/bonding/bonding.ko": {},
	}
	found, missing, err := inFiles(directory, []string{"veth", "netkit", "xfrm_interface", "ipv6", "8021q"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"veth", "xfrm_interface", "8021q"}, found); diff != "" {
		t.Errorf("inFiles() finds others (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"netkit", "ipv6"}, missing); diff != "" {
		t.Errorf("inFiles() misses others (-want +got):\n%s", diff)
	}
}
