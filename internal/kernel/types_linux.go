// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"github.com/cilium/ebpf/btf"
)

// HasHelper reports whether this kernel has a BPF helper, such as "get_func_ret".
//
// Source: enum bpf_func_id in include/uapi/linux/bpf.h.
func HasHelper(types *btf.Spec, name string) bool {
	var helpers *btf.Enum
	if err := types.TypeByName("bpf_func_id", &helpers); err != nil {
		return false
	}
	for _, helper := range helpers.Values {
		if helper.Name == "BPF_FUNC_"+name {
			return true
		}
	}
	return false
}

// hasMember reports whether a struct has a member. Members without a name are searched too.
func hasMember(types *btf.Spec, name, member string) bool {
	var s *btf.Struct
	return types.TypeByName(name, &s) == nil && isAmong(s.Members, member)
}

func isAmong(members []btf.Member, name string) bool {
	return slices.ContainsFunc(members, func(m btf.Member) bool {
		if m.Name != "" {
			return m.Name == name
		}
		switch typ := m.Type.(type) {
		case *btf.Struct:
			return isAmong(typ.Members, name)
		case *btf.Union:
			return isAmong(typ.Members, name)
		}
		return false
	})
}

// ExitsFromPool reports whether probes of many functions keep a note of each expected return in a
// pool of fixed size, which calls that block use up: before Linux 6.14.
//
// Source: struct fprobe in include/linux/fprobe.h.
func ExitsFromPool(types *btf.Spec) bool {
	return hasMember(types, "fprobe", "rethook")
}
