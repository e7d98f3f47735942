package kernel

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// markIsReturn marks the call of a kfunc whose type is not the same in all kernels.
//
// Kernel side: bpf/calls.bpf.c.
const markIsReturn = 0x7a33

// HasHelper says whether this kernel has a BPF helper, as "get_func_ret".
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

// hasMember says whether a struct has a member, members without a name included.
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

// CallIsReturn makes the programs of spec call the kfunc bpf_session_is_return,
// which takes an argument from 7.x on: a caller that hands it over suits both.
// A kernel without it gives an error matching [ErrUnsupported].
func CallIsReturn(spec *ebpf.CollectionSpec, types *btf.Spec) error {
	var kfunc *btf.Func
	if err := types.TypeByName("bpf_session_is_return", &kfunc); err != nil {
		return fmt.Errorf("kfunc bpf_session_is_return: %w: %w", err, ErrUnsupported)
	}
	id, err := types.TypeID(kfunc)
	if err != nil {
		return fmt.Errorf("kfunc bpf_session_is_return: %w", err)
	}
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if ins.OpCode.JumpOp() == asm.Call && ins.Src == 0 && ins.Constant == markIsReturn {
				ins.Src, ins.Constant = asm.PseudoKfuncCall, int64(id)
			}
		}
	}
	return nil
}

// ExitsFromPool says whether probes of many functions note what they wait for the
// return of in a pool of fixed size, which calls that block empty: before Linux 6.14.
//
// Source: struct fprobe in include/linux/fprobe.h.
func ExitsFromPool(types *btf.Spec) bool {
	return hasMember(types, "fprobe", "rethook")
}
