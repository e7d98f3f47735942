// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
)

// TracepointArgs returns how many arguments the tracepoint passes to a tp_btf or raw_tp program:
// for kfree_skb 3 on Linux 6.1 and 4 from 6.11 on. For a tracepoint that this kernel does not
// have, the error matches [ErrUnsupported].
//
// Source: typedef btf_trace_NAME, from DEFINE_EVENT in include/trace/bpf_probe.h.
func TracepointArgs(spec *btf.Spec, name string) (int, error) {
	var tracepoint *btf.Typedef
	err := spec.TypeByName("btf_trace_"+name, &tracepoint)
	if errors.Is(err, btf.ErrNotFound) {
		return 0, fmt.Errorf("tracepoint %s: %w", name, ErrUnsupported)
	}
	if err != nil {
		return 0, fmt.Errorf("tracepoint %s: %w", name, err)
	}
	pointer, ok := tracepoint.Type.(*btf.Pointer)
	if !ok {
		return 0, fmt.Errorf("tracepoint %s: %v is not a pointer", name, tracepoint.Type)
	}
	handler, ok := pointer.Target.(*btf.FuncProto)
	if !ok {
		return 0, fmt.Errorf("tracepoint %s: %v is not a function", name, pointer.Target)
	}
	return len(handler.Params) - 1, nil // the first is the handler's own data
}
