package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLeftOf(t *testing.T) {
	bridge := bpfInterfaceKey{Netns: host, Ifindex: 3}
	var cpu bpfArrivals
	arrive := func(slot int, number uint64, port, bridged bpfCount) {
		s := &cpu.Slots[slot]
		s.Netns, s.Number = host, number
		s.Legs[0].Ifindex, s.Legs[0].Left = eth0.Ifindex, port
		s.Legs[1].Ifindex, s.Legs[1].Left = bridge.Ifindex, bridged
	}
	arrive(0, 6, packets(1, 60), bpfCount{})
	arrive(1, 7, packets(1, 100), packets(1, 86))
	arrive(2, 8, bpfCount{}, bpfCount{}) // claimed
	arrive(3, 9, packets(1, 200), bpfCount{})
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
