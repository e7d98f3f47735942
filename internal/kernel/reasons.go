// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// dropReasonEnums are the enums whose numbers the kernel's kfree_skb reports.
// Those of a subsystem have the subsystem's number in their high 16 bits.
var dropReasonEnums = []string{
	"skb_drop_reason",      // include/net/dropreason-core.h
	"mac80211_drop_reason", // net/mac80211/drop.h
	"ovs_drop_reason",      // net/openvswitch/drop.h
	"qdisc_drop_reason",    // include/net/dropreason-qdisc.h, in Linux 7.3
}

// subsystemMask is SKB_DROP_REASON_SUBSYS_MASK, itself a member of the enum.
const subsystemMask = 0xffff0000

// DropReasons returns the name of every drop reason that this kernel knows, by its number, in
// lower case without the SKB_DROP_REASON_ prefix: on Linux 6.18 number 3 is "no_socket". Reasons
// of subsystems keep their prefix, as in "rx_drop_u_mic_fail" of mac80211,
// "ovs_drop_last_action" of openvswitch and "qdisc_drop_congested" of queues.
//
// The numbers differ between releases, so they come from spec, the running
// kernel's BTF, and from the BTF of those modules that have reasons of their
// own ([DropReasonModules]). A kernel without enum skb_drop_reason (before
// 5.17) gives an error matching [ErrUnsupported].
//
// Source: enum skb_drop_reason in include/net/dropreason-core.h.
func DropReasons(spec *btf.Spec, modules ...*btf.Spec) (map[uint32]string, error) {
	names := map[uint32]string{}
	for _, spec := range append([]*btf.Spec{spec}, modules...) {
		if err := addDropReasons(names, spec); err != nil {
			return nil, err
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("drop reasons: no enum skb_drop_reason: %w", ErrUnsupported)
	}
	return names, nil
}

// ResetReasons returns the name of every reason for which a TCP connection is reset, by its
// number, in lower case without the SK_RST_REASON_ prefix. A kernel without enum
// sk_rst_reason (before 6.10) gives an error matching [ErrUnsupported].
//
// Source: enum sk_rst_reason in include/net/rstreason.h.
func ResetReasons(spec *btf.Spec) (map[uint32]string, error) {
	var reasons *btf.Enum
	if err := spec.TypeByName("sk_rst_reason", &reasons); errors.Is(err, btf.ErrNotFound) {
		return nil, fmt.Errorf("reset reasons: no enum sk_rst_reason: %w", ErrUnsupported)
	} else if err != nil {
		return nil, fmt.Errorf("reset reasons: enum sk_rst_reason: %w", err)
	}
	names := map[uint32]string{}
	for _, reason := range reasons.Values {
		if !strings.HasSuffix(reason.Name, "_MAX") {
			names[uint32(reason.Value)] = strings.ToLower(strings.TrimPrefix(reason.Name, "SK_RST_REASON_"))
		}
	}
	return names, nil
}

func addDropReasons(names map[uint32]string, spec *btf.Spec) error {
	for _, enum := range dropReasonEnums {
		var reasons *btf.Enum
		if err := spec.TypeByName(enum, &reasons); errors.Is(err, btf.ErrNotFound) {
			continue
		} else if err != nil {
			return fmt.Errorf("drop reasons: enum %s: %w", enum, err)
		}
		for _, reason := range reasons.Values {
			number := uint32(reason.Value)
			// RX_DROP and RX_DROP_UNUSABLE of mac80211 are one number: the first name stays.
			if _, known := names[number]; !known && isDropReason(reason.Name, number) {
				names[number] = dropReasonName(reason.Name)
			}
		}
	}
	return nil
}

// isDropReason returns false for members that only delimit the enum.
func isDropReason(name string, number uint32) bool {
	return number != subsystemMask && !strings.HasSuffix(name, "_MAX") && !strings.HasPrefix(name, "__")
}

func dropReasonName(name string) string {
	for _, prefix := range []string{"SKB_DROP_REASON_", "SKB_"} {
		if short, ok := strings.CutPrefix(name, prefix); ok {
			return strings.ToLower(short)
		}
	}
	return strings.ToLower(name)
}

// DropReasonModules returns the BTF of the loaded kernel modules that have drop reasons of their
// own. The reasons of a module without BTF have no names.
func DropReasonModules() []*btf.Spec {
	var specs []*btf.Spec
	types := typeCache()
	for _, module := range []string{"mac80211", "openvswitch"} {
		if spec, err := types.Module(module); err == nil {
			specs = append(specs, spec)
		}
	}
	return specs
}
