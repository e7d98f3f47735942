package kernel

import (
	"errors"

	"github.com/cilium/ebpf"
)

// ReadAll returns all entries of a map. Those that come or go meanwhile may be
// among them or not.
func ReadAll[K comparable, V any](m *ebpf.Map) (map[K]V, error) {
	all := make(map[K]V)
	var key K
	var value V
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		all[key] = value
	}
	return all, entries.Err()
}

// TakePerCPU reads an entry, a value for each CPU, and deletes it: at once where the
// kernel can (5.14).
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
