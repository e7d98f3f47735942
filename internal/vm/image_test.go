// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"

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
