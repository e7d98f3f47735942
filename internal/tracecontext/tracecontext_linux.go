// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/selftest"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type context_count -type observed_flag bpf ../../bpf/tracecontext.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Contexts is what one receiver knows of trace contexts. Several instruments use it: it is started
// with the first and shut down with the last. A nil Contexts has no sources. The zero value is not
// usable: see [NewContexts].
type Contexts struct {
	options    Options
	mu         sync.Mutex
	references int
	enabled    bool
	object     *kernel.Object
	open       kernel.Closers
	inspector  *inspector
	hasSlots   bool          // see [Contexts.Slots]
	notSeen    []kernel.Hook // jobs that no hook can do on this kernel
	off        error         // the reason if there are no contexts although they were started
}

// NewContexts returns Contexts that are not started.
func NewContexts(options Options) *Contexts {
	if options.Work == nil {
		options.Work = func(work func()) { work() }
	}
	for _, say := range []*func(string){&options.Warn, &options.Inform} {
		if *say == nil {
			*say = func(string) {}
		}
	}
	return &Contexts{options: options}
}

// Start loads the programs, attaches them and checks that they run. They find nothing until
// Enable. If they cannot run there are no contexts, and [Contexts.Hooks] and a warning tell why.
// This is not an error, since the instruments' own reports are complete without contexts.
func (c *Contexts) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references++; c.references > 1 {
		return nil
	}
	if err := c.start(ctx); err != nil {
		c.turnOff(err)
	}
	return nil
}

func (c *Contexts) start(ctx context.Context) error {
	if err := c.load(); err != nil {
		return fmt.Errorf("load trace context programs: %w", err)
	}
	return c.object.Start(ctx, "")
}

// turnOff leaves the instruments without contexts until the next start.
func (c *Contexts) turnOff(err error) {
	c.off = errors.Join(err, c.close())
	c.options.Warn("there are no trace contexts: " + c.off.Error())
}

// isOff reports whether there are no contexts, because none are wanted or they could not start.
func (c *Contexts) isOff() bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off != nil
}

// Enable lets the programs find contexts, and asks about the existing processes.
func (c *Contexts) Enable() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.enabled || c.off != nil {
		return nil
	}
	c.enabled = true
	c.inspector.start()
	if err := c.object.Enable(); err != nil {
		return err
	}
	if err := kernel.RunIterator(c.object.Programs[bpfProgAskAboutAll]); err != nil {
		return fmt.Errorf("look at the processes there are: %w", err)
	}
	return nil
}

// Shutdown detaches the programs and frees them when no instrument uses them any more.
func (c *Contexts) Shutdown(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references == 0 {
		return nil
	}
	if c.references--; c.references > 0 {
		return nil
	}
	c.off = nil
	return c.close()
}

// close removes everything from the kernel.
func (c *Contexts) close() error {
	c.enabled, c.object, c.inspector = false, nil, nil
	return c.open.Close()
}

// Hooks returns the hooks in use; ok is false if they were not started.
func (c *Contexts) Hooks() (hooks []kernel.Hook, ok bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.references == 0:
		return nil, false
	case c.off != nil:
		return []kernel.Hook{{Job: "context", Name: "none", NotSeen: notSeenWithoutContexts, Refused: []string{c.off.Error()}}}, true
	}
	return append(c.object.Hooks(), c.notSeen...), true
}

const notSeenWithoutContexts = "the trace contexts of calls, accepted connections and drops"

// shared are the maps that other objects have as well.
var shared = []string{bpfMapContextCounts, bpfMapObserved, bpfMapQuestions, bpfMapMessages, bpfMapObiMap, bpfMapObiLeftovers, bpfMapExchanges}

// Maps returns the shared maps by the names of those maps of spec that they replace. They exist
// until Shutdown.
func (c *Contexts) Maps(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	if c.isOff() {
		return nil
	}
	maps := make(map[string]*ebpf.Map)
	for _, name := range shared {
		if _, ok := spec.Maps[name]; ok {
			maps[name] = c.object.Maps[name]
		}
	}
	return maps
}

// Slots returns, by the section of a tracepoint, where an instrument can put its program so that the one
// which looks for contexts there runs it when it is done. It has none if that one is not attached to a
// tracepoint. With PREEMPT_RT the newest kernels let a thread be preempted in the search, and none runs a
// program on a CPU on which it has interrupted it, so the programs are apart there.
func (c *Contexts) Slots() map[string]kernel.Slot {
	if c.isOff() || !c.hasSlots {
		return nil
	}
	return map[string]kernel.Slot{
		sectionOfSend:    {Map: c.object.Maps[bpfMapAfterSend]},
		sectionOfReceive: {Map: c.object.Maps[bpfMapAfterReceive]},
	}
}

// Fit adapts a spec that contains parts of bpf/lib/context to the wanted sources. Without sources
// its maps get the smallest size.
func (c *Contexts) Fit(spec *ebpf.CollectionSpec) error {
	if c.isOff() {
		for _, name := range []string{bpfMapObserved, bpfMapExchanges} {
			if m, ok := spec.Maps[name]; ok {
				m.MaxEntries = 1
			}
		}
		if m, ok := spec.Maps[bpfMapQuestions]; ok {
			m.MaxEntries = uint32(os.Getpagesize())
		}
		return nil
	}
	return c.fit(spec)
}

func (c *Contexts) fit(spec *ebpf.CollectionSpec) error {
	label := func(name string) (label struct {
		Name   [MaxLabel]byte
		Length uint64
	}) {
		label.Length = uint64(copy(label.Name[:], name))
		return label
	}
	return setThose(spec, map[string]any{
		bpfVarWithHttp:       c.options.has(HTTP),
		bpfVarWithOtelThread: c.options.has(OTelThread),
		bpfVarWithGoLabels:   c.options.has(GoLabels),
		bpfVarWithObi:        c.options.has(OBI),
		bpfVarWithSocket:     c.options.has(Socket),
		bpfVarTraceIdLabel:   label(c.options.TraceIDLabel),
		bpfVarSpanIdLabel:    label(c.options.SpanIDLabel),
		bpfVarOutboundIsLink: c.options.OutboundLink,
		bpfVarSocketTtlNs:    uint64(c.options.SocketTTL),
		bpfVarHeadBytes:      uint32(c.options.HeadBytes),
	})
}

// setThose sets those of the variables that spec has.
func setThose(spec *ebpf.CollectionSpec, values map[string]any) error {
	var errs error
	for name, value := range values {
		if variable, ok := spec.Variables[name]; ok {
			if err := variable.Set(value); err != nil {
				errs = errors.Join(errs, fmt.Errorf("set %s: %w", name, err))
			}
		}
	}
	return errs
}

func (c *Contexts) load() error {
	types, err := kernel.Types()
	if err != nil {
		return fmt.Errorf("load the kernel's BTF: %w", err)
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	hooks, err := c.chooseHooks(types)
	if err != nil {
		return err
	}
	err = errors.Join(c.fit(spec), setThose(spec, map[string]any{
		bpfVarWithFilter:      len(c.options.PIDs)+len(c.options.Commands) > 0,
		bpfVarInboundIsParent: c.options.InboundParent,
		bpfVarWithFirsts:      c.options.LateBind > 0,
		bpfVarOwnPid:          c.options.IgnoredPID,
	}))
	if err != nil {
		return err
	}
	kernel.Preallocate(types, spec.Maps[bpfMapObserved]) // the probes of other objects use it as well
	seats := c.options.Places.Seat(spec, hooks, map[string]places.Rank{places.Send: places.Second, places.Receive: places.Second})
	if c.object, err = kernel.Load(spec, seats.Hooks, seats.Maps); err != nil {
		return err
	}
	c.object.Follow(seats.Slots)
	c.open = append(c.open, c.object)
	c.inspector, err = newInspector(c.options, c.object)
	if err != nil {
		return err
	}
	c.open = append(c.open, c.inspector)
	if c.options.has(OBI) {
		c.inspector.obi = newOBI(c.options, c.object, spec)
		c.inspector.obi.refresh()
	}
	return nil
}

// The tracepoints at which programs have slots: see [Contexts.Slots].
const (
	sectionOfSend    = "tp_btf/sock_send_length"
	sectionOfReceive = "tp_btf/sock_recv_length"
)

// ladder has the ways to see the messages of processes, the best one first.
var ladder = []kernel.Hook{
	{Job: "message", Name: sectionOfSend, Programs: []string{bpfProgSeeSend, bpfProgSeeReceive}},
	{Job: "message", Name: "fexit/tcp_sendmsg", Programs: []string{bpfProgSeeSendmsg, bpfProgSeeRecvmsg}, NotSeen: "messages on Unix sockets"},
}

const notSeenWithoutMessages = "the contexts of sources http and socket, and the first context of an accepted connection"

// chooseHooks returns the hooks that this kernel has. If messages cannot be seen, the other
// sources can still tell the context of a thread.
func (c *Contexts) chooseHooks(types *btf.Spec) ([]kernel.Hook, error) {
	messagesHere := kernel.Avoiding(c.options.AvoidHooks, func(hook string) error { return probe(hook, types) })
	hooks := []kernel.Hook{
		{Job: "exec", Name: "tp_btf/sched_process_exec", Programs: []string{bpfProgSeeExec}, Cause: selftest.Exec},
		{Job: "fork", Name: "tp_btf/sched_process_fork", Programs: []string{bpfProgSeeFork}, Cause: selftest.Thread},
	}
	for _, hook := range hooks {
		if err := kernel.Avoiding(c.options.AvoidHooks, kernel.Probe)(hook.Name); err != nil {
			return nil, err
		}
	}
	c.notSeen, c.hasSlots = nil, false
	if !c.options.SeesMessages() {
		return hooks, nil
	}
	messages, err := kernel.Choose(messagesHere, ladder...)
	if errors.Is(err, kernel.ErrUnsupported) {
		c.notSeen = append(c.notSeen, kernel.Hook{Job: "message", Name: "none", NotSeen: notSeenWithoutMessages, Refused: []string{err.Error()}})
		return hooks, nil
	}
	c.hasSlots = messages.Name == sectionOfSend && !kernel.IsRealTime(types)
	return append(hooks, messages), err
}

// probe is [kernel.Probe], with a check of the helpers that the programs use.
func probe(hook string, types *btf.Spec) error {
	for _, helper := range []string{"loop", "task_storage_get", "task_pt_regs", "get_func_ret"} {
		if !kernel.HasHelper(types, helper) {
			return fmt.Errorf("%s: this kernel has no bpf_%s: %w", hook, helper, kernel.ErrUnsupported)
		}
	}
	return kernel.Probe(hook)
}

// First returns the first context on an accepted connection, if it came after
// sinceNanos of CLOCK_BOOTTIME.
func (c *Contexts) First(connection Connection, sinceNanos uint64) (Context, bool) {
	if c.isOff() {
		return Context{}, false
	}
	var first bpfFirstContext
	if err := c.object.Maps[bpfMapFirsts].Lookup(keyOf(connection), &first); err != nil || first.TimeNs < sinceNanos {
		return Context{}, false
	}
	k := first.Context
	found, err := New(k.TraceId, k.SpanId, k.Source, k.Link, k.Sampled)
	return found, err == nil && found.Source != None
}

// BindsLate reports whether the first context of an accepted connection may come later.
func (c *Contexts) BindsLate() bool {
	return !c.isOff() && c.options.LateBind > 0 && len(c.notSeen) == 0
}

func keyOf(connection Connection) bpfConnection {
	return bpfConnection{
		LocalAddress: connection.Local.Addr().As16(),
		PeerAddress:  connection.Peer.Addr().As16(),
		LocalPort:    connection.Local.Port(),
		PeerPort:     connection.Peer.Port(),
		NetnsInode:   connection.NetnsInode,
	}
}

// Service returns what a process publishes about itself.
func (c *Contexts) Service(id process.ID) Service {
	if c.isOff() {
		return Service{}
	}
	return c.inspector.service(id)
}

// Counts returns what was found since Start.
func (c *Contexts) Counts() (Counts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.references == 0 || c.off != nil {
		return Counts{}, nil
	}
	counts := Counts{Found: map[string]uint64{}, Refused: c.inspector.refused()}
	sums, err := kernel.ReadCounts(c.object.Maps[bpfMapContextCounts])
	if err != nil {
		return counts, fmt.Errorf("read the counts of trace contexts: %w", err)
	}
	for s := HTTP; s < sources; s++ {
		counts.Found[s.String()] = sums[s]
	}
	for kind, name := range refusals {
		counts.Refused[name] = sums[kind]
	}
	return counts, nil
}

var refusals = map[bpfContextCount]string{
	bpfContextCountREFUSED_UNREADABLE: "unreadable",
	bpfContextCountREFUSED_INVALID:    "invalid",
	bpfContextCountREFUSED_POOLED:     "pooled_goroutine",
	bpfContextCountREFUSED_FOREIGN:    "foreign_process",
	bpfContextCountREFUSED_EXPIRED:    "expired",
	bpfContextCountREFUSED_LEFTOVER:   "leftover",
	bpfContextCountREFUSED_TABLE_FULL: "table_full",
}

// pidOf decodes a question of the kernel side.
func pidOf(record []byte) (uint32, error) {
	if len(record) < 4 {
		return 0, fmt.Errorf("decode question: the record has %d bytes", len(record))
	}
	return binary.NativeEndian.Uint32(record), nil
}
