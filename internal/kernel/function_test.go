// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

func TestFunctionType(t *testing.T) {
	integer := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	long := &btf.Int{Name: "long", Size: 8, Encoding: btf.Signed}
	unsigned := &btf.Int{Name: "unsigned int", Size: 4}
	boolean := &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}
	ssize := &btf.Typedef{Name: "ssize_t", Type: &btf.Typedef{Name: "__kernel_ssize_t", Type: long}}
	poll := &btf.Typedef{Name: "__poll_t", Type: unsigned}
	pointer := &btf.Pointer{Target: &btf.Void{}}
	// sockptr is passed in two registers, and large is on the stack.
	sockptr := &btf.Struct{Name: "sockptr", Size: 16, Members: []btf.Member{{Name: "user", Type: pointer}, {Name: "is_kernel", Type: boolean, Offset: 64}}}
	large := &btf.Struct{Name: "large", Size: 24, Members: []btf.Member{{Name: "head", Type: sockptr}, {Name: "tail", Type: long, Offset: 128}}}
	function := func(name string, result btf.Type, params ...btf.Type) *btf.Func {
		proto := &btf.FuncProto{Return: result}
		for _, param := range params {
			proto.Params = append(proto.Params, btf.FuncParam{Name: "p", Type: param})
		}
		return &btf.Func{Name: name, Type: proto, Linkage: btf.StaticFunc}
	}
	spec := specOf(t,
		function("nothing", &btf.Void{}),
		function("int", integer, pointer, integer),
		function("ssize", ssize, pointer),
		function("poll", poll, pointer),
		function("boolean", boolean),
		function("pointer", &btf.Const{Type: pointer}),
		function("enumeration", &btf.Enum{Name: "verdict", Size: 4, Signed: true, Values: []btf.EnumValue{{Name: "DROP", Value: 0}}}),
		function("sockptr_argument", integer, pointer, &btf.Typedef{Name: "sockptr_t", Type: sockptr}, unsigned),
		function("large_argument", integer, large),
		function("struct_result", sockptr),
		function("variable", integer, pointer, &btf.Void{}),
		function("thirteen", integer, integer, integer, integer, integer, integer, integer, integer, integer, integer, integer, integer, integer, integer),
		function("alike", integer, pointer), function("alike", integer, long),
		function("other_words", integer, pointer), function("other_words", integer, pointer, pointer),
		function("other_result", integer, pointer), function("other_result", pointer, pointer),
		function("____sys_sendmsg", integer, pointer), function("____sys_recvmsg", long, pointer), function("____sys_other", long),
		&btf.Struct{Name: "also_a_struct", Size: 8, Members: []btf.Member{{Name: "next", Type: pointer}}}, function("also_a_struct", integer),
	)
	for name, want := range map[string]Function{
		"unknown":          {},
		"nothing":          {Type: 1},
		"int":              {Type: 1, Arguments: 2, Result: ResultInt},
		"ssize":            {Type: 1, Arguments: 1, Result: ResultLong},
		"poll":             {Type: 1, Arguments: 1},
		"boolean":          {Type: 1},
		"pointer":          {Type: 1, Result: ResultPointer},
		"enumeration":      {Type: 1},
		"sockptr_argument": {Type: 1, Arguments: 4, Structs: true, Result: ResultInt},
		"large_argument":   {Arguments: 3, Structs: true, Result: ResultInt},
		"struct_result":    {},
		"variable":         {Arguments: 1, Result: ResultInt},
		"thirteen":         {Arguments: 13, Result: ResultInt},
		"alike":            {Twin: 1, Arguments: 1, Result: ResultInt},
		"other_words":      {Result: ResultInt},
		"other_result":     {Arguments: 1},
		"____sys_sendmsg":  {Twin: 1, Arguments: 1, Result: ResultInt},
		"____sys_recvmsg":  {Twin: 1, Arguments: 1, Result: ResultLong},
		"also_a_struct":    {Type: 1, Result: ResultInt},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FunctionType(spec, name)
			if err != nil {
				t.Fatal(err)
			}
			want.Name = name
			// If Type is set the program is loaded by the name, which is not possible
			// if Twin is set.
			var loaders *btf.Func
			err = spec.TypeByName(name, &loaders)
			if got.Type != 0 && err != nil || got.Twin != 0 && err == nil {
				t.Errorf("Type is %d and Twin %d, but cilium/ebpf finds it with: %v", got.Type, got.Twin, err)
			}
			// The ids differ between builds, so only compare whether one is there and
			// belongs to that function.
			for _, id := range []*btf.TypeID{&got.Type, &got.Twin} {
				if *id == 0 {
					continue
				}
				if typ, err := spec.TypeByID(*id); err != nil || typ.TypeName() != name {
					t.Errorf("type %d is %v, %v", *id, typ, err)
				}
				*id = 1
			}
			// Their order decides which of them cilium/ebpf finds.
			if strings.HasPrefix(name, "____") {
				got.Twin |= got.Type
				got.Type = 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("FunctionType() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFunctionTypeOfThisKernel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no kernel with BTF")
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skip(err)
	}
	for name, want := range map[string]Function{
		"sock_alloc_file": {Name: "sock_alloc_file", Arguments: 3, Result: ResultPointer},
		"__sys_sendto":    {Name: "__sys_sendto", Arguments: 6, Result: ResultInt},
		"sock_release":    {Name: "sock_release", Arguments: 1},
	} {
		got, err := FunctionType(spec, name)
		if err != nil {
			t.Fatal(err)
		}
		if got.Type == 0 {
			t.Errorf("%s has no type", name)
		}
		got.Type = 0
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("FunctionType() differs (-want +got):\n%s", diff)
		}
	}
}
