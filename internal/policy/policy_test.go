// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"testing"

	"github.com/seed-7756021b/nettap/internal/process"
)

func sshd() process.Process {
	return process.Process{
		ID: process.ID{PID: 7, RealUserID: 0, UserID: 74}, Comm: "sshd", Executable: "sshd", ExecutablePath: "/usr/sbin/sshd",
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestPolicyExpects(t *testing.T) {
	for name, test := range map[string]struct {
		rules  []Rule
		change func(who *process.Process)
		peer   string // default: 10.1.2.3
		want   bool
	}{
		"what is in each list of a rule": {
			rules: []Rule{{
				Ports: []uint16{80, 22}, Executables: []string{"/usr/sbin/sshd"}, Commands: []string{"sshd"},
				Users: []uint32{0}, Containers: []string{NoContainer}, Peers: prefixes("192.0.2.0/24", "10.0.0.0/8"),
			}},
			want: true,
		},
		"what one of two rules matches": {rules: []Rule{{Ports: []uint16{80}}, {Ports: []uint16{22}}}, want: true},
		"no other port":                 {rules: []Rule{{Ports: []uint16{80}, Commands: []string{"sshd"}}}},
		"no other executable of that command": {
			rules:  []Rule{{Executables: []string{"/usr/sbin/sshd"}}},
			change: func(who *process.Process) { who.ExecutablePath = "/tmp/sshd" },
		},
		"no executable that is unknown": {
			rules:  []Rule{{Executables: []string{"/usr/sbin/sshd"}}},
			change: func(who *process.Process) { who.ExecutablePath = "" },
		},
		"no other command":                     {rules: []Rule{{Commands: []string{"nginx"}}}},
		"the real user, not the effective one": {rules: []Rule{{Users: []uint32{74}}}},
		"no process of a container where there is to be none": {
			rules:  []Rule{{Containers: []string{NoContainer}}},
			change: func(who *process.Process) { who.ContainerID = "4f5a" },
		},
		"a process of a container": {
			rules:  []Rule{{Containers: []string{"4f5a"}}},
			change: func(who *process.Process) { who.ContainerID = "4f5a" },
			want:   true,
		},
		"no other peer":                 {rules: []Rule{{Peers: prefixes("10.0.0.0/8")}}, peer: "11.0.0.1"},
		"a peer of IPv6":                {rules: []Rule{{Peers: prefixes("2001:db8::/32")}}, peer: "2001:db8::1", want: true},
		"a peer whatever link it is on": {rules: []Rule{{Peers: prefixes("fe80::/10")}}, peer: "fe80::1%eth0", want: true},
		"no parts of two rules":         {rules: []Rule{{Ports: []uint16{22}, Users: []uint32{5}}, {Ports: []uint16{80}, Users: []uint32{0}}}},
	} {
		t.Run(name, func(t *testing.T) {
			who, peer := sshd(), netip.MustParseAddr("10.1.2.3")
			if test.change != nil {
				test.change(&who)
			}
			if test.peer != "" {
				peer = netip.MustParseAddr(test.peer)
			}
			if got := New(test.rules).Of(who).Expect(22, peer); got != test.want {
				t.Errorf("Expect() is %v, want %v", got, test.want)
			}
		})
	}
}

func TestPolicyIsSilentWithoutRules(t *testing.T) {
	var none *Policy
	if !none.IsSilent() || !New(nil).IsSilent() || New([]Rule{{}}).IsSilent() {
		t.Error("a policy is silent when it has no rules, and only then")
	}
}
