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

	// Type is the id of its BTF_KIND_FUNC. It is 0 if BTF has no function or several functions
	// of that name, and if no kernel attaches fentry to such a function: one with variable
	// arguments, with a struct as its result, or with an argument of more than 16 bytes.
	Type btf.TypeID
	// Twin is set if Type is 0 only because of the name. Either several functions have the
	// name, with the same Arguments, Result and Structs, and Twin is one of them. Or there is
	// only one, but cilium/ebpf cannot load a program by its name: it takes the end of
	// ____sys_sendmsg for a flavor. The kernel finds the address by the name, so Twin works
	// wherever an id can be given.
	Twin btf.TypeID

	Arguments int    // words of 8 bytes, after which fexit finds the result; also 0 if unknown
	Structs   bool   // an argument is a struct, which fentry accepts from 6.1 on
	Result    Result // how its result shows a failure
	Tag       uint8  // less than 16: what else an instrument's programs are to know of it
}

// Result is how the result of a function shows a failure.
type Result uint8

// The kinds of results.
const (
	ResultNone    Result = iota // not at all: void, unsigned, bool, enum, struct, or unknown
	ResultInt                   // a negative errno, in the low 32 bits
	ResultLong                  // a negative errno, in 64 bits
	ResultPointer               // ERR_PTR
)

// maxArguments is MAX_BPF_FUNC_ARGS.
const maxArguments = 12

// FunctionType returns what spec tells about a function, which is everything except its address.
// If spec has no such function that is only the name.
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

// common returns what the types of one name have in common, and sets Twin if they are alike.
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
