// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChoose(t *testing.T) {
	best := Hook{Job: "owner", Name: "tp_btf/sock_send_length", Programs: []string{"learn"}}
	next := Hook{Job: "owner", Name: "fentry/security_socket_sendmsg", Programs: []string{"trace"}}
	last := Hook{Job: "owner", Name: "kprobe/security_socket_sendmsg", Programs: []string{"probe"}, NotSeen: "something"}
	lacks := func(missing ...string) func(string) error {
		return func(hook string) error {
			for _, name := range missing {
				if name == hook {
					return fmt.Errorf("%s: no such thing: %w", hook, ErrUnsupported)
				}
			}
			return nil
		}
	}
	with := func(hook Hook, refused ...string) Hook {
		hook.Refused = refused
		return hook
	}
	const noTracepoint = "tp_btf/sock_send_length: no such thing: not supported by this kernel"
	for name, test := range map[string]struct {
		avoid   []string
		probe   func(hook string) error
		want    Hook
		wantErr string
	}{
		"the best one":    {probe: lacks(), want: best},
		"the next best":   {probe: lacks(best.Name), want: with(next, noTracepoint)},
		"a kind to avoid": {probe: lacks(best.Name), avoid: []string{"fentry"}, want: with(last, noTracepoint, "fentry/security_socket_sendmsg: avoid_hooks names it: not supported by this kernel")},
		"a hook to avoid": {probe: lacks(), avoid: []string{best.Name}, want: with(next, "tp_btf/sock_send_length: avoid_hooks names it: not supported by this kernel")},
		"another hook":    {probe: lacks(), avoid: []string{"tp_btf/sys_exit"}, want: best},
		"none":            {probe: lacks(best.Name, next.Name, last.Name), wantErr: `no hook for job "owner" works here: ` + noTracepoint + "\nfentry/security_socket_sendmsg: no such thing: not supported by this kernel\nkprobe/security_socket_sendmsg: no such thing: not supported by this kernel"},
		"a missing capability": {
			probe:   func(string) error { return fmt.Errorf("missing CAP_BPF: %w", os.ErrPermission) },
			wantErr: "missing CAP_BPF: permission denied",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Choose(Avoiding(test.avoid, test.probe), best, next, last)
			wantError(t, err, test.wantErr)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Choose() differs (-want +got):\n%s", diff)
			}
			if err != nil && errors.Is(err, ErrUnsupported) == errors.Is(err, os.ErrPermission) {
				t.Errorf("%v must match one of ErrUnsupported and ErrPermission", err)
			}
		})
	}
}

func TestCheckHookName(t *testing.T) {
	for name, ok := range map[string]bool{
		"fentry":                   true,
		"fentry/inet_csk_accept":   true,
		"cgroup_skb/ingress":       true,
		"tp_btf/sock_send_length":  true,
		"":                         false,
		"fentry/":                  false,
		"uprobe/main":              false,
		"inet_csk_accept":          false,
		"raw_tracepoint/kfree_skb": false,
	} {
		if err := CheckHookName(name); (err == nil) != ok {
			t.Errorf("CheckHookName(%q) = %v", name, err)
		}
	}
}

func TestTogether(t *testing.T) {
	const first, other, third, alone = "fentry/a", "fentry/b", "fentry/c", "tp_btf/d"
	for name, test := range map[string]struct {
		lacks, hook string
		refused     bool
	}{
		"all are there":                {hook: first},
		"the first is not there":       {lacks: first, hook: first, refused: true},
		"the last is not there":        {lacks: third, hook: first, refused: true},
		"a hook that stands for none":  {lacks: third, hook: other},
		"another hook":                 {lacks: first, hook: alone},
		"another hook that is missing": {lacks: alone, hook: alone, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			probe := func(hook string) error {
				if hook == test.lacks {
					return ErrUnsupported
				}
				return nil
			}
			if err := Together(probe, first, other, third)(test.hook); errors.Is(err, ErrUnsupported) != test.refused {
				t.Errorf("Together()(%q) = %v", test.hook, err)
			}
		})
	}
}
