// SPDX-License-Identifier: Apache-2.0

// Package interfaces finds the network interfaces of the machine, in all network namespaces. Each
// receiver loads it once, and its instruments share the maps. Kernel side: bpf/interfaces.bpf.c.
package interfaces

// Key identifies an interface among all that exist. Its Netns is the cookie of the network
// namespace, and before Linux 5.12 the inode number.
type Key = bpfInterfaceKey

// Entry is what is known of an interface, as the kernel side has it.
type Entry = bpfInterfaceEntry

// Namespace is a network namespace. Its Pid is 0 if it has no process.
type Namespace = bpfNamespaceEntry

// Survey is the result of a survey: what existed at one time.
type Survey struct {
	Epoch uint64 // the interfaces that it found have this epoch or a later one
	Whole bool   // all namespaces were found
	Host  uint64 // the host's namespace; 0 if it was not found
	All   map[uint64]Namespace
}

// Namespaces returns the namespaces that have a process, by their cookies.
func (s Survey) Namespaces() map[uint64]Namespace {
	inhabited := make(map[uint64]Namespace, len(s.All))
	for netns, namespace := range s.All {
		if namespace.Pid != 0 {
			inhabited[netns] = namespace
		}
	}
	return inhabited
}

// Gone reports whether an interface no longer exists. This is not known while its namespace exists
// but was not surveyed completely, because it has no process or too many interfaces.
func (s Survey) Gone(key Key, entry Entry) bool {
	namespace, exists := s.All[key.Netns]
	if !exists {
		return s.Whole && entry.Epoch < s.Epoch
	}
	return namespace.Whole != 0 && entry.Epoch < s.Epoch
}
