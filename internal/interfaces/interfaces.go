// SPDX-License-Identifier: Apache-2.0

// Package interfaces knows the network interfaces of the machine, in all network
// namespaces. Each receiver loads it once, and instruments share its maps. Kernel
// side: bpf/interfaces.bpf.c.
package interfaces

// Key tells an interface apart from all others that there are. Its Netns is the
// cookie of its network namespace; before Linux 5.12 the inode number.
type Key = bpfInterfaceKey

// Entry is what is known of an interface, as the kernel side has it.
type Entry = bpfInterfaceEntry

// Namespace is a network namespace; one without a process has no Pid.
type Namespace = bpfNamespaceEntry

// Survey is what there was at one time.
type Survey struct {
	Epoch uint64 // interfaces that it found have this one or a later one
	Whole bool   // it has found all namespaces
	Host  uint64 // the host's namespace; 0: it was not found
	All   map[uint64]Namespace
}

// Namespaces returns those that have a process, by their cookies.
func (s Survey) Namespaces() map[uint64]Namespace {
	inhabited := make(map[uint64]Namespace, len(s.All))
	for netns, namespace := range s.All {
		if namespace.Pid != 0 {
			inhabited[netns] = namespace
		}
	}
	return inhabited
}

// Gone says that an interface is no more. It cannot be told as long as its
// namespace is there and was not looked through: it has no process, or too many
// interfaces.
func (s Survey) Gone(key Key, entry Entry) bool {
	namespace, exists := s.All[key.Netns]
	if !exists {
		return s.Whole && entry.Epoch < s.Epoch
	}
	return namespace.Whole != 0 && entry.Epoch < s.Epoch
}
