// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

func TestDropReasons(t *testing.T) {
	core := &btf.Enum{Name: "skb_drop_reason", Size: 4, Values: []btf.EnumValue{
		{Name: "SKB_NOT_DROPPED_YET", Value: 0},
		{Name: "SKB_CONSUMED", Value: 1},
		{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2},
		{Name: "SKB_DROP_REASON_NO_SOCKET", Value: 3},
		{Name: "SKB_DROP_REASON_MAX", Value: 4},
		{Name: "SKB_DROP_REASON_SUBSYS_MASK", Value: 0xffff0000},
	}}
	wireless := &btf.Enum{Name: "mac80211_drop_reason", Size: 4, Values: []btf.EnumValue{
		{Name: "RX_CONTINUE", Value: 1},
		{Name: "RX_QUEUED", Value: 0},
		{Name: "RX_DROP_U_MIC_FAIL", Value: 0x10001},
	}}
	openvswitch := &btf.Enum{Name: "ovs_drop_reason", Size: 4, Values: []btf.EnumValue{
		{Name: "__OVS_DROP_REASON", Value: 0x30000},
		{Name: "OVS_DROP_LAST_ACTION", Value: 0x30001},
		{Name: "OVS_DROP_MAX", Value: 0x30002},
	}}
	queues := &btf.Enum{Name: "qdisc_drop_reason", Size: 4, Values: []btf.EnumValue{
		{Name: "QDISC_DROP_UNSPEC", Value: 0},
		{Name: "__QDISC_DROP_REASON", Value: 0x40000},
		{Name: "QDISC_DROP_CONGESTED", Value: 0x40003},
		{Name: "QDISC_DROP_MAX", Value: 0x40004},
	}}
	coreNames := map[uint32]string{0: "not_dropped_yet", 1: "consumed", 2: "not_specified", 3: "no_socket"}
	allNames := map[uint32]string{
		0: "not_dropped_yet", 1: "consumed", 2: "not_specified", 3: "no_socket",
		0x10001: "rx_drop_u_mic_fail", 0x30001: "ovs_drop_last_action", 0x40003: "qdisc_drop_congested",
	}

	for name, test := range map[string]struct {
		kernel  []btf.Type
		modules []btf.Type
		want    map[uint32]string
		wantErr error
	}{
		"the delimiters of the enum are no reasons": {kernel: []btf.Type{core}, want: coreNames},
		"subsystems built into the kernel":          {kernel: []btf.Type{wireless, core, openvswitch, queues}, want: allNames},
		"subsystems in modules":                     {kernel: []btf.Type{core, queues}, modules: []btf.Type{wireless, openvswitch}, want: allNames},
		"a kernel before 5.17":                      {kernel: []btf.Type{&btf.Int{Name: "int", Size: 4}}, wantErr: ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			var modules []*btf.Spec
			for _, module := range test.modules {
				modules = append(modules, specOf(t, module))
			}
			got, err := DropReasons(specOf(t, test.kernel...), modules...)
			if !errors.Is(err, test.wantErr) {
				t.Fatalf("DropReasons() fails with %v, want %v", err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("DropReasons() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTracepointArgs(t *testing.T) {
	void := &btf.Pointer{Target: &btf.Void{}}
	spec := specOf(t,
		&btf.Typedef{Name: "btf_trace_kfree_skb", Type: &btf.Pointer{Target: &btf.FuncProto{
			Return: &btf.Void{},
			Params: []btf.FuncParam{{Type: void}, {Type: void}, {Type: void}, {Type: void}},
		}}},
		&btf.Typedef{Name: "btf_trace_odd", Type: &btf.Int{Name: "int", Size: 4}},
	)

	if got, err := TracepointArgs(spec, "kfree_skb"); got != 3 || err != nil {
		t.Errorf("TracepointArgs(kfree_skb) = %d, %v, want 3", got, err)
	}
	if _, err := TracepointArgs(spec, "sock_send_length"); !errors.Is(err, ErrUnsupported) {
		t.Errorf("TracepointArgs() of an absent tracepoint fails with %v, want ErrUnsupported", err)
	}
	if _, err := TracepointArgs(spec, "odd"); err == nil {
		t.Error("TracepointArgs() takes a number for a function")
	}
}

// specOf returns types as the kernel would describe them.
func specOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
