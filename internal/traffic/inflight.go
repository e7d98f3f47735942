// SPDX-License-Identifier: Apache-2.0

package traffic

// leftOf returns, by interface, what has arrived since each CPU had counted so many arrivals, and
// is not claimed yet. It may still be claimed: a fragment waits for the others, and a forwarded
// packet for its turn.
func leftOf(cpus []bpfArrivals, since []uint64) map[bpfInterfaceKey]bpfCount {
	left := make(map[bpfInterfaceKey]bpfCount)
	for i := range cpus {
		var first uint64
		if i < len(since) {
			first = since[i]
		}
		for j := range cpus[i].Slots {
			slot := &cpus[i].Slots[j]
			if slot.Number < first {
				continue
			}
			for _, leg := range slot.By[:min(int(slot.Legs), len(slot.By))] {
				if leg.Left != (bpfPart{}) {
					key := bpfInterfaceKey{Netns: leg.Netns, Ifindex: leg.Ifindex}
					left[key] = plus(left[key], bpfPart(leg.Left).count())
				}
			}
		}
	}
	return left
}

// seenBy returns how many packets have arrived on all CPUs, without copies that were never on a
// wire.
func seenBy(cpus []bpfArrivals) (packets uint64) {
	for i := range cpus {
		packets += cpus[i].Seen
	}
	return packets
}

// numbersOf returns how many packets have arrived on each CPU.
func numbersOf(cpus []bpfArrivals) []uint64 {
	numbers := make([]uint64, len(cpus))
	for i := range cpus {
		numbers[i] = cpus[i].Number
	}
	return numbers
}

func (p bpfPart) count() bpfCount {
	return bpfCount{
		Packets:    uint64(p.Packets),
		Bytes:      uint64(p.Bytes),
		Frames:     uint64(p.Frames),
		FrameBytes: uint64(p.FrameBytes),
	}
}
