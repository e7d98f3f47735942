// SPDX-License-Identifier: Apache-2.0

package listeners

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/listeners.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Listeners knows which sockets listen. Its zero value is not usable: see [New]. Methods that may
// be called on nil say so.
type Listeners struct {
	withEnds bool
	avoid    []string
	surveyor string // the program that looks at all listeners
	object   *kernel.Object
	ring     *ringbuf.Reader
	open     kernel.Closers
	known    known
	surveyed uint64 // the kernel side's count of changes at the last survey
	settled  bool   // the last survey returned all listeners that there were
	told     uint64 // beginnings and ends that were read, since Start
	corrupt  uint64 // malformed records, since Start
}

// New returns Listeners that are not started. They do not use the hooks in avoid, which are those
// of [kernel.Avoiding]. Without withEnds the ends of listeners are not recorded: then only
// [Listeners.Now] may be called, and not [Listeners.Read].
func New(withEnds bool, avoid []string) *Listeners {
	return &Listeners{withEnds: withEnds, avoid: avoid}
}

// ladder has the ways to see that a socket begins and stops listening, the best one first: the
// functions are not called for connections.
var ladder = []kernel.Hook{
	{Job: "listener", Name: "fentry/inet_csk_listen_stop", Programs: []string{bpfProgSeeBegin, bpfProgSeeEnd}},
	{Job: "listener", Name: "tp_btf/inet_sock_set_state", Programs: []string{bpfProgSeeListener}},
}

// Start loads the programs, attaches them and checks that they run.
func (l *Listeners) Start(ctx context.Context) error {
	if err := l.load(); err != nil {
		return errors.Join(fmt.Errorf("load listeners programs: %w", err), l.Shutdown())
	}
	if err := l.object.Start(ctx, ""); err != nil {
		return errors.Join(err, l.Shutdown())
	}
	return nil
}

func (l *Listeners) load() error {
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	if err := spec.Variables[bpfVarWithEndings].Set(l.withEnds); err != nil {
		return fmt.Errorf("set with_endings: %w", err)
	}
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	l.surveyor = bpfProgSurveyListeners
	other := bpfProgSurveyListeners512
	if !kernel.WalksMaps(types) {
		l.surveyor, other = other, l.surveyor
	}
	delete(spec.Programs, other)
	hook, err := kernel.Choose(kernel.Avoiding(l.avoid, kernel.Probe), ladder...)
	if err != nil {
		return err
	}
	if l.object, err = kernel.Load(spec, []kernel.Hook{hook}, nil); err != nil {
		return err
	}
	l.open = append(l.open, l.object)
	if l.ring, err = ringbuf.NewReader(l.object.Maps[bpfMapEndings]); err != nil {
		return fmt.Errorf("open ring: %w", err)
	}
	l.open = append(l.open, l.ring)
	l.known, l.surveyed, l.settled, l.told, l.corrupt = known{}, 0, false, 0, 0
	return nil
}

// Enable lets the program record listeners, and finds those that exist already. It may be called
// on nil.
func (l *Listeners) Enable() error {
	if l == nil {
		return nil
	}
	if err := l.object.Enable(); err != nil {
		return err
	}
	if err := kernel.RunIterator(l.object.Programs[bpfProgFindListeners]); err != nil {
		return fmt.Errorf("find the listeners there are: %w", err)
	}
	return nil
}

// Shutdown detaches the programs and frees them. It may be called on nil, and more than once.
func (l *Listeners) Shutdown() error {
	if l == nil {
		return nil
	}
	return l.open.Close()
}

// Hooks returns the hook in use.
func (l *Listeners) Hooks() []kernel.Hook { return l.object.Hooks() }

// Read returns the listeners that have come and gone since the previous Read. It may be called on
// nil.
func (l *Listeners) Read() (Changes, error) {
	if l == nil {
		return Changes{}, nil
	}
	there, err := l.survey()
	// after the survey, since an end is reported before the listener is gone from the map
	ended, endedErr := l.drain()
	changes := l.known.change(there, ended)
	l.told += uint64(len(changes.Opened) + len(changes.Closed))
	return changes, errors.Join(err, endedErr)
}

// survey returns the listeners that exist, or nil if they are the same as at the last survey.
func (l *Listeners) survey() (map[key]Listener, error) {
	var news uint64
	if err := l.object.Variables[bpfVarNews].Get(&news); err != nil {
		return nil, fmt.Errorf("see whether there are other listeners: %w", err)
	}
	if l.settled && news == l.surveyed {
		return nil, nil
	}
	there, settled, err := l.read()
	if err != nil {
		return nil, err
	}
	l.surveyed, l.settled = news, settled
	return there, nil
}

// Now returns the listeners that exist, in the order in which they began. Those that are about to
// begin are not included.
func (l *Listeners) Now() ([]Listener, error) {
	there, _, err := l.read()
	return slices.SortedFunc(maps.Values(there), inOrder), err
}

// read returns the listeners that exist, and whether none is about to begin or to be forgotten.
func (l *Listeners) read() (there map[key]Listener, settled bool, err error) {
	m := l.object.Maps[bpfMapListening]
	if err := kernel.RunOverMap(l.object.Programs[l.surveyor], m); err != nil {
		return nil, false, fmt.Errorf("survey listeners: %w", err)
	}
	there, settled = map[key]Listener{}, true
	var stale []uint64
	err = kernel.Each(m, func(socket uint64, raw bpfListening) {
		settled = settled && raw.Surveyed != 0 && raw.Missing == 0
		switch {
		case raw.Missing >= patience:
			stale = append(stale, socket)
		case raw.Surveyed != 0:
			there[key{socket, raw.OpenedNs}] = listenerFrom(&raw)
		}
	})
	if err != nil {
		return nil, false, fmt.Errorf("read listeners: %w", err)
	}
	return there, settled, l.forget(stale)
}

// patience is for how many surveys an entry is kept whose socket does not listen: it has ended
// unseen.
const patience = 3

func (l *Listeners) forget(sockets []uint64) error {
	for _, socket := range sockets {
		if err := l.object.Maps[bpfMapListening].Delete(socket); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a listener: %w", err)
		}
	}
	return nil
}

func (l *Listeners) drain() (map[key]Listener, error) {
	ended := map[key]Listener{}
	err := kernel.DrainOnce(l.ring, func(record []byte) error {
		of, e, err := decode(record)
		if err != nil {
			l.corrupt++
			return err
		}
		ended[of] = e
		return nil
	})
	return ended, err
}

// Stats returns how many beginnings and ends of listeners were seen since Start, and lost. It may
// be called on nil.
func (l *Listeners) Stats() (stats.Events, error) {
	if l == nil {
		return stats.Events{}, nil
	}
	return stats.ReadEvents(l.object, l.object.Maps[bpfMapStats], func(counts []uint64) stats.Events {
		return stats.Events{
			Seen: counts[bpfStatSTAT_SEEN] + l.told + l.corrupt, RingFull: counts[bpfStatSTAT_LOST_RING_FULL],
			MapFull: counts[bpfStatSTAT_LOST_MAP_FULL], Unreadable: l.corrupt,
		}
	})
}
