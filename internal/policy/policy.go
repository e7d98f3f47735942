// SPDX-License-Identifier: Apache-2.0

// Package policy decides by the rules of the configuration which accepted connections are
// expected, and writes rules for the connections that were seen.
package policy

import (
	"net/netip"
	"slices"

	"github.com/seed-7756021b/nettap/internal/process"
)

// NoContainer in the list of containers matches processes that are in none.
const NoContainer = ""

// Rule defines accepts that are expected, by the process, the port and the peer. An accept has to
// match each of its lists; an empty list matches everything.
type Rule struct {
	Ports       []uint16       `yaml:"ports,flow,omitempty"`
	Executables []string       `yaml:"executables,flow,omitempty"` // paths
	Commands    []string       `yaml:"commands,flow,omitempty"`    // of the thread group leader
	Users       []uint32       `yaml:"users,flow,omitempty"`       // real ones
	Containers  []string       `yaml:"containers,flow,omitempty"`  // ids, or NoContainer
	Peers       []netip.Prefix `yaml:"peers,flow,omitempty"`
}

// Policy is what is expected. A nil Policy, or one without rules, gives no verdicts.
type Policy struct{ rules []Rule }

// New returns the policy of rules.
func New(rules []Rule) *Policy { return &Policy{rules: slices.Clone(rules)} }

// IsSilent reports whether there are no rules, so that nothing has a verdict.
func (p *Policy) IsSilent() bool { return p == nil || len(p.rules) == 0 }

// Of returns the rules that match a process.
//
// A property that is not known matches no list: a rule that names executables does not match a
// process whose path could not be read.
func (p *Policy) Of(who process.Process) Rules {
	var rules Rules
	if p == nil {
		return nil
	}
	for _, rule := range p.rules {
		if rule.isOf(who) {
			rules = append(rules, rule)
		}
	}
	return rules
}

func (r *Rule) isOf(who process.Process) bool {
	return lets(r.Executables, who.ExecutablePath) && lets(r.Commands, who.Comm) &&
		lets(r.Users, who.RealUserID) && lets(r.Containers, who.ContainerID)
}

func lets[T comparable](list []T, value T) bool {
	return len(list) == 0 || slices.Contains(list, value)
}

// Rules are the rules that match one process.
type Rules []Rule

// Expect reports whether the process is expected to accept a connection from peer on a port.
func (r Rules) Expect(port uint16, peer netip.Addr) bool {
	return slices.ContainsFunc(r, func(rule Rule) bool {
		return lets(rule.Ports, port) && rule.letsPeer(peer)
	})
}

func (r *Rule) letsPeer(peer netip.Addr) bool {
	return len(r.Peers) == 0 || contains(r.Peers, peer)
}

func contains(prefixes []netip.Prefix, peer netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(peer.WithZone("")) })
}
