// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
)

// Hook is a place in the kernel where programs are attached for one job.
type Hook struct {
	Job      string         // its purpose, as one word: "owner", "transmit"
	Name     string         // as a section name: "tp_btf/net_dev_start_xmit"
	Programs []string       // in the order to attach them
	Cause    selftest.Cause // the event that makes each of them run
	NotSeen  string         // what it does not see and a better hook would; "" for nothing
	Faulty   bool           // part of NotSeen is because the kernel refused a program, which is a fault of ours

	Functions []Function // the functions that each program is attached to, if not only the one in Name
	First     int        // the index of the first of them, if other hooks of the object have functions too
	Later     bool       // it is attached when it is needed, by [Object.AttachLater]
	Copies    bool       // each function gets a copy of the programs, because links have no cookies

	Refused  []string // the better hooks, each with the reason why it cannot be used; set by [Choose]
	Unproven string   // why it is not known whether the hook fires here; set by [Object.SelfTest]
	Awaited  bool     // only other processes make it fire here, so that it is unproven until they do; likewise
}

// DoesNotSee adds to what the hook does not see.
func (h *Hook) DoesNotSee(what string) {
	if h.NotSeen != "" {
		h.NotSeen += "; "
	}
	h.NotSeen += what
}

// Choose returns the first hook that probe does not refuse with [ErrUnsupported]. All of them do
// the same job, and the best one comes first.
func Choose(probe func(hook string) error, ladder ...Hook) (Hook, error) {
	var refused []string
	var errs error
	for _, hook := range ladder {
		err := probe(hook.Name)
		if err == nil {
			hook.Refused = refused
			return hook, nil
		}
		if !errors.Is(err, ErrUnsupported) {
			return Hook{}, err
		}
		refused = append(refused, err.Error())
		errs = errors.Join(errs, err)
	}
	return Hook{}, fmt.Errorf("no hook for job %q works here: %w", ladder[0].Job, errs)
}

// Avoiding returns a probe that refuses the named hooks, such as "fentry/inet_csk_accept", and all
// hooks of the named kinds, such as "fentry". It passes the others to probe.
func Avoiding(names []string, probe func(hook string) error) func(hook string) error {
	return func(hook string) error {
		kind, _, _ := strings.Cut(hook, "/")
		if slices.Contains(names, hook) || slices.Contains(names, kind) {
			return fmt.Errorf("%s: avoid_hooks names it: %w", hook, ErrUnsupported)
		}
		return probe(hook)
	}
}

// Together returns a probe that refuses the hook first if it refuses one of the others, which have programs for the same
// job. It passes other hooks to probe.
func Together(probe func(hook string) error, first string, others ...string) func(hook string) error {
	return func(hook string) error {
		err := probe(hook)
		if hook != first {
			return err
		}
		for _, other := range others {
			if err == nil {
				err = probe(other)
			}
		}
		return err
	}
}

// CheckHookName returns an error unless name is that of a hook or of a kind of hooks, in the form
// that [Avoiding] takes.
func CheckHookName(name string) error {
	_, ofKind := kinds[name]
	if _, target, err := kindOf(name); !ofKind && (err != nil || target == "") {
		return fmt.Errorf("%q is no hook: want a kind (fentry, fexit, kprobe, tp_btf) or one of its hooks, as fentry/inet_csk_accept", name)
	}
	return nil
}
