// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// Function is a kernel function that programs can be attached to.
type Function struct {
	Name    string
	Address uint64

	// Type is of its BTF_KIND_FUNC. It is 0 where BTF has none of that name or
	// several, and where no kernel attaches fentry to such a function: with variable
	// arguments, a struct as its result or one of more than 16 bytes as an argument.
	Type btf.TypeID
	// Twin is where Type is 0 because of the name: one of several that are alike, with
	// the same Arguments, Result and Structs, or the only one, that cilium/ebpf cannot
	// load a program by: of ____sys_sendmsg it takes the end for a flavor. The kernel
	// finds the address by the name, so Twin will do wherever an id can be given.
	Twin btf.TypeID

	Arguments int    // words of 8 bytes, behind which fexit finds the result; 0 where unknown too
	Structs   bool   // an argument is a struct: fentry takes those from 6.1 on
	Result    Result // how its result tells of failure
}

// Result says how the result of a function tells of failure.
type Result uint8

// The kinds of results.
const (
	ResultNone    Result = iota // it does not: void, unsigned, bool, enum, struct, or unknown
	ResultInt                   // a negative errno, in the low 32 bits
	ResultLong                  // a negative errno, in 64 bits
	ResultPointer               // ERR_PTR
)

// maxArguments is MAX_BPF_FUNC_ARGS.
const maxArguments = 12

// FunctionType returns what spec knows of a function, which is all but its address.
// That is no more than the name where spec has no such function.
func FunctionType(spec *btf.Spec, name string) (Function, error) {
	types, err := spec.AnyTypesByName(name)
	if err != nil && !errors.Is(err, btf.ErrNotFound) {
		return Function{}, fmt.Errorf("type of function %s: %w", name, err)
	}
	var found []Function
	sameForLoader := 0
	for _, typ := range types {
		function, ok := typ.(*btf.Func)
		if !ok {
			continue
		}
		sameForLoader++
		if function.Name != name {
			continue
		}
		id, err := spec.TypeID(function)
		if err != nil {
			return Function{}, fmt.Errorf("type of function %s: %w", name, err)
		}
		found = append(found, prototype(function, id))
	}
	if len(found) == 0 {
		return Function{Name: name}, nil
	}
	all := common(found)
	if sameForLoader == 1 {
		all.Type, all.Twin = all.Twin, 0
	}
	return all, nil
}

// common returns what the types of one name agree on, with a Twin if that is all.
func common(found []Function) Function {
	all := found[0]
	all.Type, all.Twin = 0, all.Type
	for _, one := range found[1:] {
		if one.Arguments != all.Arguments {
			all.Arguments, all.Twin = 0, 0
		}
		if one.Result != all.Result {
			all.Result, all.Twin = ResultNone, 0
		}
		if one.Structs != all.Structs {
			all.Structs, all.Twin = true, 0
		}
		if one.Type == 0 {
			all.Twin = 0
		}
	}
	return all
}

// prototype describes one function. Its Type is 0 if btf_distill_func_proto of
// kernel/bpf/btf.c refuses it.
func prototype(function *btf.Func, id btf.TypeID) Function {
	described := Function{Name: function.Name, Type: id}
	proto, ok := function.Type.(*btf.FuncProto)
	if !ok {
		return Function{Name: function.Name}
	}
	for _, param := range proto.Params {
		size, err := btf.Sizeof(param.Type)
		if err != nil || size == 0 || size > 16 {
			described.Type = 0 // size is 0 for "..."
		}
		described.Arguments += (size + 7) / 8
		described.Structs = described.Structs || isStruct(param.Type)
	}
	described.Result = resultOf(proto.Return)
	if isStruct(proto.Return) || len(proto.Params) > maxArguments {
		described.Type = 0
	}
	return described
}

func isStruct(typ btf.Type) bool {
	switch btf.UnderlyingType(typ).(type) {
	case *btf.Struct, *btf.Union:
		return true
	}
	return false
}

func resultOf(typ btf.Type) Result {
	switch typ := btf.UnderlyingType(typ).(type) {
	case *btf.Pointer:
		return ResultPointer
	case *btf.Int:
		switch {
		case typ.Encoding != btf.Signed: // bool, char and unsigned
		case typ.Size == 4:
			return ResultInt
		case typ.Size == 8:
			return ResultLong
		}
	}
	return ResultNone
}
