// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// batchBytes is roughly how many bytes of a map are read with one system call, and firstBatch how many
// entries with the first one. Most maps have no more, and need no large memory then.
const (
	batchBytes = 256 << 10
	firstBatch = 64
)

// ReadAll returns all entries of a hash map. An entry that is added or deleted meanwhile may be
// included or not.
func ReadAll[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := make(map[K]V)
	err := Each(m, func(key K, value V) { all[key] = value })
	return all, err
}

// Each calls visit with each entry of a hash map. An entry that is added or deleted meanwhile may
// be included or not.
func Each[K comparable, V any](m *ebpf.Map, visit func(K, V)) error {
	err := eachBatch(m, batchSize[V](m, 1), 1, func(key K, values []V) { visit(key, values[0]) })
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		visit(key, value)
	}
	return entries.Err()
}

// EachPerCPU is [Each] for a map that has a value for each CPU. visit may use the values only
// until it returns.
func EachPerCPU[K comparable, V any](m *ebpf.Map, visit func(K, []V)) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	err = eachBatch(m, batchSize[V](m, cpus), cpus, visit)
	if !errors.Is(err, ebpf.ErrNotSupported) {
		return err
	}
	var key K
	var perCPU []V
	entries := m.Iterate()
	for entries.Next(&key, &perCPU) {
		visit(key, perCPU)
	}
	return entries.Err()
}

// batchSize is how many entries, each with so many values, are read at a time.
func batchSize[V any](m *ebpf.Map, perEntry int) int {
	var value V
	return max(16, min(int(m.MaxEntries()), batchBytes/(perEntry*max(1, int(unsafe.Sizeof(value))))))
}

// eachBatch reads up to size entries, each with perEntry values, with one system call. If the kernel
// (before 5.6) or the kind of map does not have this call, the error matches
// [ebpf.ErrNotSupported], and no entry was visited.
func eachBatch[K comparable, V any](m *ebpf.Map, size, perEntry int, visit func(K, []V)) error {
	var cursor ebpf.MapBatchCursor
	first := min(size, firstBatch)
	keys, values := make([]K, first), make([]V, first*perEntry)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		if errors.Is(err, unix.ENOSPC) { // one of the hash's buckets holds more
			size = max(size, 2*len(keys))
			keys, values = make([]K, size), make([]V, size*perEntry)
			continue
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
		for i := range n {
			visit(keys[i], values[i*perEntry:(i+1)*perEntry])
		}
		if err != nil {
			return nil // it was the last
		}
		if len(keys) < size {
			keys, values = make([]K, size), make([]V, size*perEntry)
		}
	}
}

// TakePerCPU reads an entry, which has a value for each CPU, and deletes it. From Linux 5.14 on
// this is one operation.
func TakePerCPU[V, K any](m *ebpf.Map, key K) ([]V, error) {
	var perCPU []V
	err := m.LookupAndDelete(key, &perCPU)
	if errors.Is(err, ebpf.ErrNotSupported) {
		if err = m.Lookup(key, &perCPU); err == nil {
			err = m.Delete(key)
		}
	}
	return perCPU, err
}

// Take reads an entry and deletes it: at once where the kernel can (5.14).
func Take[V, K any](m *ebpf.Map, key K) (V, error) {
	var value V
	err := m.LookupAndDelete(key, &value)
	if errors.Is(err, ebpf.ErrNotSupported) {
		if err = m.Lookup(key, &value); err == nil {
			err = m.Delete(key)
		}
	}
	return value, err
}
