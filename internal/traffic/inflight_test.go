// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLeftOf(t *testing.T) {
	bridge := bpfInterfaceKey{Netns: host, Ifindex: 3}
	var cpu bpfArrivals
	arrive := func(slot int, number uint64, port, bridged bpfPart) {
		s := &cpu.Slots[slot]
		s.Number, s.Legs = number, 2
		s.By[0].Netns, s.By[0].Ifindex, s.By[0].Left = host, eth0.Ifindex, port
		s.By[1].Netns, s.By[1].Ifindex, s.By[1].Left = host, bridge.Ifindex, bridged
		s.By[2].Netns, s.By[2].Ifindex, s.By[2].Left = host, bridge.Ifindex, part(1, 1) // of an earlier packet
	}
	arrive(0, 6, part(1, 60), bpfPart{})
	arrive(1, 7, part(1, 100), part(1, 86))
	arrive(2, 8, bpfPart{}, bpfPart{}) // claimed
	arrive(3, 9, part(1, 200), bpfPart{})
	cpu.Number = 10

	for name, test := range map[string]struct {
		since []uint64
		want  map[bpfInterfaceKey]bpfCount
	}{
		"of all": {
			want: map[bpfInterfaceKey]bpfCount{eth0: packets(3, 360), bridge: packets(1, 86)},
		},
		"of those that came later": {
			since: []uint64{7},
			want:  map[bpfInterfaceKey]bpfCount{eth0: packets(2, 300), bridge: packets(1, 86)},
		},
		"when none came later": {
			since: numbersOf([]bpfArrivals{cpu}),
			want:  map[bpfInterfaceKey]bpfCount{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, leftOf([]bpfArrivals{cpu}, test.since)); diff != "" {
				t.Errorf("leftOf() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func part(packets uint16, bytes uint32) bpfPart {
	return bpfPart{Packets: packets, Bytes: bytes, Frames: packets, FrameBytes: bytes}
}
