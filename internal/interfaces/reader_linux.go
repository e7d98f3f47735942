// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// Reader is what one instrument sees. Interfaces that it forgets are still seen by other readers.
type Reader struct {
	of        *Interfaces
	forgotten map[Key]uint64 // the epoch in which it was forgotten
}

// Start loads the survey, unless another reader has done so.
func (r *Reader) Start(ctx context.Context) error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	if err := r.of.start(ctx); err != nil {
		return err
	}
	r.forgotten = map[Key]uint64{}
	r.of.readers[r] = true
	return nil
}

// Enable does nothing, since there are no programs to enable.
func (r *Reader) Enable() error { return nil }

// Shutdown unloads the survey if this was the last reader. It may be called more than once.
func (r *Reader) Shutdown(context.Context) error {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	delete(r.of.readers, r)
	if len(r.of.readers) > 0 {
		return nil
	}
	return r.of.open.Close()
}

// Maps is [Interfaces.Maps].
func (r *Reader) Maps() map[string]*ebpf.Map { return r.of.Maps() }

// Survey finds the interfaces that exist. The result is valid even if err is not nil.
func (r *Reader) Survey() (Survey, error) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	return r.of.find()
}

// Interfaces returns all interfaces that a survey has found or an instrument has met, and that the
// reader has not forgotten since.
func (r *Reader) Interfaces() (map[Key]Entry, error) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	all, err := kernel.ReadAll[Key, Entry](r.of.object.Maps[bpfMapInterfaces])
	if err != nil {
		return nil, fmt.Errorf("read interfaces: %w", err)
	}
	if err := r.of.count(all); err != nil {
		return nil, err
	}
	for key, epoch := range r.forgotten {
		if entry, known := all[key]; known && entry.Epoch <= epoch {
			delete(all, key)
		} else {
			delete(r.forgotten, key)
		}
	}
	return all, nil
}

// Host returns the inode number of the host's network namespace, after a [Reader.Survey].
func (r *Reader) Host() (uint32, error) {
	var host uint32
	if err := r.of.object.Variables[bpfVarHostNetnsInode].Get(&host); err != nil {
		return 0, fmt.Errorf("find the host's network namespace: %w", err)
	}
	return host, nil
}

// Forget removes interfaces from what this reader sees. When all readers have forgotten one its
// entry is deleted. An interface that is met again is seen again.
func (r *Reader) Forget(keys ...Key) error {
	if len(keys) == 0 {
		return nil
	}
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	epoch := r.of.epoch
	errs := r.of.advance()
	for _, key := range keys {
		r.forgotten[key] = epoch
		if !r.of.isForgotten(key) {
			continue
		}
		if err := r.of.object.Maps[bpfMapInterfaces].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = errors.Join(errs, fmt.Errorf("forget an interface: %w", err))
		}
	}
	return errs
}

// isForgotten reports whether all readers have forgotten an interface since it was last met.
func (i *Interfaces) isForgotten(key Key) bool {
	var entry Entry
	if err := i.object.Maps[bpfMapInterfaces].Lookup(key, &entry); err != nil {
		return false // there is no entry
	}
	for reader := range i.readers {
		if epoch, forgotten := reader.forgotten[key]; !forgotten || epoch < entry.Epoch {
			return false
		}
	}
	return true
}

// Usage returns how full the maps were when they were last read.
func (r *Reader) Usage() map[string]stats.Map {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	return maps.Clone(r.of.usage)
}
