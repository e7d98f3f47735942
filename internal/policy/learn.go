// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/seed-7756021b/nettap/internal/process"
)

// The bounds of what is learned, so that neither the file nor its reader is flooded.
const (
	maxLearned = 1024 // rules
	maxValues  = 64   // peers of a rule, and rules of a process
)

// ErrFull means that more was seen than fits into a file of rules.
var ErrFull = fmt.Errorf("there are %d learned rules already, and more was accepted than they expect", maxLearned)

const head = `# What was accepted, as rules: written by nettap, which keeps what is here and adds to it.
# accepts: {policy: "${file:...}"} expects it. A rule without peers expects all of them, and one
# without ports too: of more than 64 none is listed.
`

// Learner writes rules that expect the connections that were seen.
type Learner struct {
	file  string
	rules []*Rule
	fresh bool // there is something to write
	full  bool // there was no room for something
}

// learned is the content of the file, in the form of the configuration of a policy.
type learned struct {
	Expect []*Rule `yaml:"expect"`
}

// Open returns a Learner that adds to the rules of a file, which need not exist yet. If the file
// contains anything else the result is an error, since it would be overwritten.
func Open(file string) (*Learner, error) {
	l := &Learner{file: file}
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read learned rules: %w", err)
	}
	var is learned
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&is); err != nil && len(bytes.TrimSpace(content)) > 0 {
		return nil, fmt.Errorf("read learned rules of %s: %w", file, err)
	}
	l.rules = slices.DeleteFunc(is.Expect, func(rule *Rule) bool { return rule == nil })
	return l, nil
}

// See adds the rules that are needed to expect that a process accepts a connection from peer on a
// port.
func (l *Learner) See(who process.Process, port uint16, peer netip.Addr) {
	if l == nil {
		return
	}
	for _, rule := range l.rules {
		if rule.isOf(who) && lets(rule.Ports, port) && rule.letsPeer(peer) {
			return
		}
	}
	rule := l.ruleFor(who, port)
	if rule == nil {
		l.full = true
		return
	}
	rule.Peers = listed(rule.Peers, peer)
	l.fresh = true
}

// ruleFor returns the rule that matches only the process who and only that port. If there is none
// yet it makes one without peers, or returns nil if there is no room. A process with too many
// ports gets one rule for all of them.
func (l *Learner) ruleFor(who process.Process, port uint16) *Rule {
	of := 0
	for _, rule := range l.rules {
		if !rule.isOf(who) || !rule.namesOne(who) {
			continue
		}
		if len(rule.Ports) == 0 || len(rule.Ports) == 1 && rule.Ports[0] == port {
			return rule
		}
		of++
	}
	if len(l.rules) >= maxLearned {
		return nil
	}
	rule := &Rule{Commands: []string{who.Comm}, Users: []uint32{who.RealUserID}, Containers: []string{who.ContainerID}}
	if who.ExecutablePath != "" {
		rule.Executables = []string{who.ExecutablePath}
	}
	if of < maxValues {
		rule.Ports = []uint16{port}
	}
	l.rules = append(l.rules, rule)
	return rule
}

// namesOne reports whether the rule has everything that is known of one process, and matches no
// other.
func (r *Rule) namesOne(who process.Process) bool {
	return len(r.Users) == 1 && len(r.Containers) == 1 && len(r.Commands) == 1 &&
		len(r.Executables) == min(1, len(who.ExecutablePath))
}

// listed returns the list with a peer added in order, or an empty list if it would be too long.
func listed(list []netip.Prefix, peer netip.Addr) []netip.Prefix {
	if len(list) >= maxValues {
		return nil
	}
	list = append(list, netip.PrefixFrom(peer.WithZone(""), peer.BitLen()))
	slices.SortFunc(list, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return list
}

// Write writes what is new to the file, either completely or not at all.
func (l *Learner) Write() error {
	if l == nil {
		return nil
	}
	if l.fresh {
		if err := l.replace(); err != nil {
			return fmt.Errorf("write learned rules: %w", err)
		}
		l.fresh = false
	}
	if l.full {
		return ErrFull
	}
	return nil
}

func (l *Learner) replace() error {
	content, err := l.text()
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(l.file), filepath.Base(l.file)+".*") // readable only by its owner
	if err != nil {
		return err
	}
	_, err = next.Write(content)
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), l.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return nil
}

// text returns the content of the file. The same rules give the same text.
func (l *Learner) text() ([]byte, error) {
	rules := slices.Clone(l.rules)
	slices.SortStableFunc(rules, func(a, b *Rule) int {
		return cmp.Or(slices.Compare(a.Executables, b.Executables), slices.Compare(a.Commands, b.Commands),
			slices.Compare(a.Users, b.Users), slices.Compare(a.Containers, b.Containers), slices.Compare(a.Ports, b.Ports))
	})
	content, err := yaml.Marshal(learned{rules})
	return append([]byte(head), content...), err
}
