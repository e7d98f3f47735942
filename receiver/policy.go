// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path"
	"path/filepath"

	"github.com/seed-7756021b/nettap/internal/policy"
)

// PolicyConfig is the block "accepts.policy".
type PolicyConfig struct {
	// Expect are rules (see docs/accepts.md). An accepted connection that matches none of them
	// is reported as a warning, with nettap.policy.verdict = unexpected. Without rules nothing
	// has a verdict.
	Expect []ExpectConfig `mapstructure:"expect"`

	// Learn is a file to which rules are written that expect what was accepted; empty means
	// none.
	Learn string `mapstructure:"learn"`
}

// ExpectConfig is a rule. A connection has to match each list; an empty list lets everything
// through.
type ExpectConfig struct {
	Ports       []int    `mapstructure:"ports"`       // local ones
	Executables []string `mapstructure:"executables"` // paths, as in /proc/PID/exe
	Commands    []string `mapstructure:"commands"`    // of the thread group leader, as in /proc/PID/comm
	Users       []int    `mapstructure:"users"`       // real user ids
	Containers  []string `mapstructure:"containers"`  // their ids; "" matches a process that is in none
	Peers       []string `mapstructure:"peers"`       // addresses, as "10.0.0.0/8" or "::1"
}

func (c *PolicyConfig) validate() error {
	var errs error
	for i, rule := range c.Expect {
		errs = errors.Join(errs, rule.validate(fmt.Sprintf("accepts.policy.expect[%d]", i)))
	}
	if c.Learn != "" && !filepath.IsAbs(c.Learn) {
		errs = errors.Join(errs, fmt.Errorf("accepts.policy.learn is %q, and must be an absolute path", c.Learn))
	}
	return errs
}

func (c *ExpectConfig) validate(key string) error {
	if len(c.Ports)+len(c.Executables)+len(c.Commands)+len(c.Users)+len(c.Containers)+len(c.Peers) == 0 {
		return fmt.Errorf("%s is empty, and would expect everything", key)
	}
	return errors.Join(
		each(key+".ports", c.Ports, within(1, math.MaxUint16)),
		each(key+".executables", c.Executables, func(executable string) error {
			if !path.IsAbs(executable) || path.Clean(executable) != executable {
				return fmt.Errorf("%q is no absolute path of a file", executable)
			}
			return nil
		}),
		each(key+".commands", c.Commands, checkCommand),
		each(key+".users", c.Users, within(0, math.MaxUint32-1)),
		each(key+".containers", c.Containers, func(id string) error {
			if id == policy.NoContainer {
				return nil
			}
			return checkContainer(id)
		}),
		each(key+".peers", c.Peers, func(text string) error {
			_, err := parsePrefix(text)
			return err
		}),
	)
}

// rules returns the rules of a valid configuration.
func (c *PolicyConfig) rules() []policy.Rule {
	var rules []policy.Rule
	for _, rule := range c.Expect {
		rules = append(rules, policy.Rule{
			Ports: numbers[uint16](rule.Ports), Executables: rule.Executables, Commands: rule.Commands,
			Users: numbers[uint32](rule.Users), Containers: rule.Containers, Peers: prefixes(rule.Peers),
		})
	}
	return rules
}

// prefixes parses texts that are valid.
func prefixes(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if prefix, err := parsePrefix(text); err == nil {
			prefixes = append(prefixes, prefix)
		}
	}
	return prefixes
}
