// SPDX-License-Identifier: Apache-2.0

// Package refusals counts the attempts to connect over TCP that this machine refused, by
// peer and port. Kernel side: bpf/refusals.bpf.c.
package refusals

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/refusals.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Refusals counts refused attempts. Its zero value is not usable: see [New].
type Refusals struct {
	avoid  []string
	object *kernel.Object
	open   kernel.Closers
	maps   [2]*ebpf.Map // indexed by whether the round is odd
	round  uint32
}

// New returns Refusals that are not started. avoidHooks are those of [kernel.Avoiding].
func New(avoidHooks []string) *Refusals { return &Refusals{avoid: avoidHooks} }

// Start loads the programs, attaches them and checks that they run.
func (r *Refusals) Start(ctx context.Context) error {
	if err := r.load(); err != nil {
		return errors.Join(fmt.Errorf("load refusals programs: %w", err), r.Shutdown())
	}
	if err := r.object.Start(ctx, ""); err != nil {
		return errors.Join(err, r.Shutdown())
	}
	return nil
}

// Enable lets the programs count. Like the methods below it may be called on nil.
func (r *Refusals) Enable() error {
	if r == nil {
		return nil
	}
	return r.object.Enable()
}

// Shutdown detaches the programs and frees them. It may be called more than once.
func (r *Refusals) Shutdown() error {
	if r == nil {
		return nil
	}
	return r.open.Close()
}

// Hooks returns the hooks in use.
func (r *Refusals) Hooks() []kernel.Hook { return r.object.Hooks() }

func (r *Refusals) load() error {
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hooks, err := r.hooks(types, spec)
	if err != nil {
		return err
	}
	if r.object, err = kernel.Load(spec, hooks, nil); err != nil {
		return err
	}
	r.open = append(r.open, r.object)
	r.maps = [2]*ebpf.Map{r.object.Maps[bpfMapRefusedEven], r.object.Maps[bpfMapRefusedOdd]}
	r.round = 0
	return errors.Join(prepare(r.maps[0]), prepare(r.maps[1]))
}

// hooks returns the hooks for refusals on this kernel.
func (r *Refusals) hooks(types *btf.Spec, spec *ebpf.CollectionSpec) ([]kernel.Hook, error) {
	closed, err := closedPort(types, spec)
	if err != nil {
		return nil, err
	}
	queue, err := kernel.Choose(kernel.Avoiding(r.avoid, kernel.Probe), fullQueue...)
	if errors.Is(err, kernel.ErrUnsupported) {
		closed.DoesNotSee("attempts on a full accept queue, where functions can neither be traced nor probed")
		return []kernel.Hook{closed}, nil
	}
	return []kernel.Hook{closed, queue}, err
}

// fullQueue has the ways to see an attempt on a full accept queue, the best one first.
var fullQueue = []kernel.Hook{
	{Job: "refused_queue", Name: "fentry/tcp_conn_request", Programs: []string{bpfProgSeeFullQueue}},
	{Job: "refused_queue", Name: "kprobe/tcp_conn_request", Programs: []string{bpfProgProbeFullQueue}},
}

// closedPort returns the hook that sees a SYN without a socket: by the reason of its drop, or
// before Linux 5.17 by the function that drops it.
func closedPort(types *btf.Spec, spec *ebpf.CollectionSpec) (kernel.Hook, error) {
	hook := kernel.Hook{Job: "refused_port", Name: "tp_btf/kfree_skb", Programs: []string{bpfProgSeeClosedPort}}
	reasons, err := kernel.DropReasons(types)
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return hook, err
	}
	for number, name := range reasons {
		if name == "no_socket" {
			return hook, spec.Variables[bpfVarReasonNoSocket].Set(number)
		}
	}
	hook.Programs = []string{bpfProgSeeClosedPortBare}
	hook.NotSeen = "why a SYN is dropped before Linux 5.17: one that a listener's own filter drops is taken for refused"
	table, err := kernel.RunningSymbols()
	if err != nil {
		return hook, err
	}
	if !table.TellsDroppers() {
		hook.NotSeen = "attempts on closed ports: this kernel does not tell which function drops a packet"
	}
	begins, ends := receivers(table)
	return hook, errors.Join(spec.Variables[bpfVarReceiveBegins].Set(begins), spec.Variables[bpfVarReceiveEnds].Set(ends))
}

// receivers returns where the functions begin and end that look up the socket of a segment.
func receivers(table *symbols.Table) (begins, ends [2]uint64) {
	for i, name := range []string{"tcp_v4_rcv", "tcp_v6_rcv"} {
		begins[i], ends[i], _ = table.Extent(name)
	}
	return begins, ends
}

// Read returns what was refused until the previous Read, and begins a new round: what is counted
// during this call is returned by the next one. With last it returns everything, and nothing is
// left for another call.
func (r *Refusals) Read(last bool) ([]Refusal, error) {
	if r == nil {
		return nil, nil
	}
	refused, err := r.take((r.round + 1) % 2)
	r.round++
	if err := r.object.Variables[bpfVarRefusalRound].Set(r.round); err != nil {
		return refused, fmt.Errorf("begin a round of refusals: %w", err)
	}
	if !last {
		return refused, err
	}
	time.Sleep(settling)
	rest, lastErr := r.take((r.round + 1) % 2)
	return append(refused, rest...), errors.Join(err, lastErr)
}

// settling is how long the last Read waits for programs that are still counting.
const settling = 10 * time.Millisecond

// take returns and deletes the entries of a map that no program counts into.
func (r *Refusals) take(which uint32) ([]Refusal, error) {
	var refused []Refusal
	var keys []bpfRefusedKey
	m := r.maps[which]
	err := kernel.Each(m, func(key bpfRefusedKey, value bpfRefused) {
		if value.Count > 0 {
			keys, refused = append(keys, key), append(refused, refusalFrom(key, value))
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	for _, key := range keys {
		if err := m.Delete(key); err != nil {
			return refused, fmt.Errorf("empty refusals: %w", err)
		}
	}
	return sorted(refused), prepare(m)
}

// prepare adds the entries to a map that count what finds no place of its own.
func prepare(m *ebpf.Map) error {
	for cause := range causes {
		if err := m.Put(bpfRefusedKey{Refusal: cause}, bpfRefused{}); err != nil {
			return fmt.Errorf("prepare a map of refusals: %w", err)
		}
	}
	return nil
}
