package traffic

// leftOf returns what has arrived since each CPU counted so many arrivals and is
// claimed by nobody yet, by interface. It may still be: a fragment waits for the
// others, and a packet that is forwarded for its turn.
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
			for _, leg := range slot.Legs {
				if leg.Left != (bpfCount{}) {
					key := bpfInterfaceKey{Netns: slot.Netns, Ifindex: leg.Ifindex}
					left[key] = plus(left[key], leg.Left)
				}
			}
		}
	}
	return left
}

// numbersOf returns how many packets have arrived on each CPU.
func numbersOf(cpus []bpfArrivals) []uint64 {
	numbers := make([]uint64, len(cpus))
	for i := range cpus {
		numbers[i] = cpus[i].Number
	}
	return numbers
}
