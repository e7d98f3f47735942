// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/owner"
	"github.com/seed-7756021b/nettap/internal/packet"
)

// told is what this kernel tells about a dropped packet.
type told struct {
	types     *btf.Spec
	arguments int               // of the tracepoint kfree_skb
	reasons   map[uint32]string // none before Linux 5.17
	meanings  meanings
}

func askKernel() (t told, err error) {
	if err := kernel.RequireSymbols(); err != nil {
		return t, err
	}
	if t.types, err = kernel.Types(); err != nil {
		return t, err
	}
	if t.arguments, err = kernel.TracepointArgs(t.types, "kfree_skb"); err != nil {
		return t, err
	}
	if t.reasons, err = kernel.DropReasons(t.types, kernel.DropReasonModules()...); err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return t, err
	}
	t.meanings, err = readMeanings(reasonsCSV)
	return t, err
}

// load loads the programs that fit this kernel.
func (d *Drops) load() error {
	told, err := askKernel()
	if err != nil {
		return err
	}
	resets, err := kernel.ResetReasons(told.types)
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return err
	}
	rules, err := readRules(countersCSV)
	if err != nil {
		return err
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	d.words = words{reasons: told.reasons, resets: resets, functions: map[uint64]string{}, meanings: told.meanings, rules: rulesFor(rules, told.reasons)}
	d.counting = variantFor(told.arguments, d.knows)
	if d.maxKeys != 0 {
		spec.Maps[bpfMapDrops].MaxEntries, spec.Maps[bpfMapDropsWithoutDetail].MaxEntries = d.maxKeys, d.maxCoarse
	}
	shared := d.interfaces.Maps()
	maps.Copy(shared, d.ownerMaps(spec))
	maps.Copy(shared, d.contexts.Maps(spec))
	meetings := d.knows && told.arguments < argumentsWithSocket
	if err := errors.Join(d.setConstants(spec, numbersOf(told.reasons), meetings), d.contexts.Fit(spec)); err != nil {
		return err
	}
	drop := kernel.Hook{Job: "drop", Name: "tp_btf/kfree_skb", Programs: []string{d.counting}}
	if len(told.reasons) == 0 {
		drop.NotSeen = "why a packet is dropped, before Linux 5.17"
	}
	hooks := []kernel.Hook{{Job: "listen_overflow", Name: "cgroup_skb/ingress", Programs: []string{bpfProgWatchListeners}}, drop}
	if d.countsResets() {
		hooks = append(hooks, resetHooks(len(resets) > 0)...)
	}
	if d.object, err = kernel.Load(spec, hooks, shared); err != nil {
		return err
	}
	d.open = append(d.open, d.object)
	d.quota = kernel.NewQuota(d.object.Maps[bpfMapShares], bpfShareOfSHARE_OF_DROPS, cmp.Or(d.quotaOf, d.object.Maps[bpfMapDrops].MaxEntries()))
	return nil
}

// resetHooks returns the hooks by which resets are seen. reasons tells whether the kernel gives
// reasons for them.
func resetHooks(reasons bool) []kernel.Hook {
	sent := kernel.Hook{Job: "reset_sent", Name: "tp_btf/tcp_send_reset", Programs: []string{bpfProgCountResetSent}, Cause: selftest.Reset}
	if !reasons {
		sent.Programs, sent.NotSeen = []string{bpfProgCountResetBare}, "why a connection is reset, and resets that a closed port sends, before Linux 6.10"
	}
	return []kernel.Hook{sent, {
		Job: "reset_received", Name: "tp_btf/tcp_receive_reset", Programs: []string{bpfProgCountResetReceived}, Cause: selftest.Reset,
	}}
}

// ownerMaps returns the maps in which owners are known, and adapts those of spec to them. If
// nothing fills them, those of spec get the smallest size.
func (d *Drops) ownerMaps(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	names := append(slices.Clone(owner.WhoseMaps), bpfMapLastListeners)
	if d.knows {
		return d.owners.Share(spec, names...)
	}
	for _, name := range names {
		if own := spec.Maps[name]; own.Type == ebpf.Hash || own.Type == ebpf.LRUHash {
			own.MaxEntries = 1
		}
	}
	return map[string]*ebpf.Map{}
}

func (d *Drops) setConstants(spec *ebpf.CollectionSpec, reasons numbers, meetings bool) error {
	var named [256]bool
	for protocol := range named {
		named[protocol] = packet.HasName(uint8(protocol))
	}
	var errs error
	for name, value := range map[string]any{
		bpfVarReasonConsumed:       reasons.consumed,
		bpfVarReasonNoSocket:       reasons.noSocket,
		bpfVarReasonOverflow:       reasons.overflow,
		bpfVarReasonUnspecified:    reasons.unspecified,
		bpfVarReasonListenOverflow: uint32(reasonListenOverflow),
		bpfVarReasonNotAvailable:   uint32(reasonNotAvailable),
		bpfVarNamedTransports:      named,
		bpfVarWithVictims:          d.knows,
		bpfVarWithMeetings:         meetings,
	} {
		errs = errors.Join(errs, spec.Variables[name].Set(value))
	}
	if d.knows {
		errs = errors.Join(errs, d.owners.Tell(spec))
	}
	return errs
}
