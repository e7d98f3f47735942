// SPDX-License-Identifier: Apache-2.0

package view

// The approximate sizes of objects in bytes. The memory of the view is computed from them and not
// measured.
const (
	processBytes  = 700
	ringBytes     = 4 // an amount in a slot
	rowBytes      = 250
	acceptBytes   = 450
	callBytes     = 900
	nodeBytes     = 150
	listenerBytes = 400
	noticeBytes   = 400
	measureBytes  = 200
)

func (h *history) memory() int64 {
	return ringBytes * int64(cap(h.fine.amounts)+cap(h.coarse.amounts))
}

// memory returns roughly how many bytes the view holds.
func (v *View) memory() int64 {
	total := int64(len(v.processes.byID))*processBytes + int64(len(v.accepts))*acceptBytes + int64(len(v.notices)+len(v.packets))*noticeBytes +
		int64(len(v.calls.all))*callBytes + int64(v.calls.nodes)*nodeBytes
	for _, p := range v.processes.byID {
		for _, r := range p.rows {
			total += rowBytes + r.history.memory()
		}
	}
	for _, b := range v.interfaces.byDevice {
		for _, a := range b.accounts {
			total += rowBytes + a.history.memory()
		}
	}
	for _, drops := range []*drops{&v.drops, &v.losses, &v.resets, &v.unseen, &v.deeds} {
		for _, d := range drops.byPlace {
			total += rowBytes + d.history.memory()
		}
	}
	for _, l := range v.listeners.byKey {
		total += listenerBytes + l.history.memory()
	}
	m := &v.measures
	return total + int64(len(m.queues.all)+len(m.roundTrips.all)+len(m.waits.all))*measureBytes
}
