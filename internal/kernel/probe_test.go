// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestKindOf(t *testing.T) {
	for name, test := range map[string]struct {
		hook       string
		wantTarget string
		wantOption string
		wantError  string
	}{
		"a kind with a target":          {hook: "fexit/inet_csk_accept", wantTarget: "inet_csk_accept", wantOption: "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"},
		"a kind with a slash":           {hook: "cgroup_skb/ingress", wantOption: "CONFIG_CGROUP_BPF"},
		"a kind that nobody heard of":   {hook: "uprobe/main", wantError: `unknown kind of hook "uprobe/main"`},
		"a cgroup hook nobody heard of": {hook: "cgroup/nothing", wantError: `unknown kind of hook "cgroup/nothing"`},
	} {
		t.Run(name, func(t *testing.T) {
			kind, target, err := kindOf(test.hook)
			wantError(t, err, test.wantError)
			if target != test.wantTarget || kind.option != test.wantOption {
				t.Errorf("kindOf(%q) = %q of %q, want %q of %q", test.hook, target, kind.option, test.wantTarget, test.wantOption)
			}
		})
	}
}

func TestExplainKind(t *testing.T) {
	refused := fmt.Errorf("load program: %w (MEMLOCK may be too low)", syscall.EPERM)
	invalid := fmt.Errorf("load program: %w", syscall.EINVAL)

	for name, test := range map[string]struct {
		hook     string
		err      error
		lockdown string
		want     string
	}{
		"lockdown hides kernel memory": {
			hook: "tp_btf", err: invalid, lockdown: "none integrity [confidentiality]\n",
			want: "kernel lockdown keeps BPF from reading kernel memory: start the kernel with lockdown=integrity: load program: invalid argument",
		},
		"lockdown does not matter to programs that read none": {
			hook: "cgroup_skb/ingress", err: invalid, lockdown: "none integrity [confidentiality]\n",
			want: "the kernel may be built without CONFIG_CGROUP_BPF: load program: invalid argument",
		},
		"the lesser lockdown forbids no reading": {
			hook: "tp_btf", err: refused, lockdown: "none [integrity] confidentiality\n",
			want: "all capabilities are there, so a seccomp filter, a security module or the kernel's build refuses it: operation not permitted",
		},
		"anything else speaks for itself": {
			hook: "fexit", err: errors.New("fexit nothing not supported"),
			want: "fexit nothing not supported",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := kinds[test.hook].explain(test.err, test.lockdown).Error(); got != test.want {
				t.Errorf("explain() = %q, want %q", got, test.want)
			}
		})
	}
}

// wantError checks that err holds part, or that there is none when part is empty.
func wantError(t *testing.T, err error, part string) {
	t.Helper()
	if part == "" && err != nil {
		t.Errorf("unexpected error: %v", err)
	}
	if part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		t.Errorf("error is %q, want %q in it", err, part)
	}
}
