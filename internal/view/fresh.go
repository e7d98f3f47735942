// SPDX-License-Identifier: Apache-2.0

package view

// fresh is what has happened since a tick.
type fresh struct {
	since      int64 // ms since 1970
	until      int64
	accepts    []Accept
	notices    []Notice
	packets    []Notice
	calls      []*keptCall
	gone       Gone
	moved      []movedRow
	booked     []bookedAccount
	dropped    []droppedPackets
	lost       []droppedPackets
	reset      []droppedPackets
	overlooked []droppedPackets
	done       []droppedPackets
	accepted   []acceptedOn
}

type movedRow struct {
	of   *process
	name string
	amounts
}

type bookedAccount struct {
	of     *networkInterface
	name   string
	way    string
	amount [2]int64
}

type droppedPackets struct {
	at      *drop
	packets uint64
}

type acceptedOn struct {
	*listener
	connections [2]uint64
}

// takeFresh returns what has happened since the previous call.
func (v *View) takeFresh() fresh {
	f := v.fresh
	f.until = v.now()
	v.fresh = fresh{}
	for _, p := range v.processes.byID {
		for _, r := range p.rows {
			if r.moved != (amounts{}) {
				f.moved = append(f.moved, movedRow{p, r.name, r.moved})
				r.moved = amounts{}
			}
		}
	}
	for _, b := range v.interfaces.byDevice {
		for _, a := range b.accounts {
			if a.moved != [2]int64{} {
				f.booked = append(f.booked, bookedAccount{b, a.name, a.way(), a.moved})
				a.moved = [2]int64{}
			}
		}
	}
	f.dropped, f.lost = v.drops.takeFresh(), v.losses.takeFresh()
	f.reset, f.overlooked = v.resets.takeFresh(), v.unseen.takeFresh()
	f.done = v.deeds.takeFresh()
	for _, l := range v.listeners.byKey {
		if l.moved[0] != 0 {
			f.accepted = append(f.accepted, acceptedOn{l, l.moved})
			l.moved = [2]uint64{}
		}
	}
	return f
}

func (ds *drops) takeFresh() (all []droppedPackets) {
	for _, d := range ds.byPlace {
		if d.moved != 0 {
			all = append(all, droppedPackets{d, d.moved})
			d.moved = 0
		}
	}
	return all
}

func (a *account) way() string {
	if a.receive {
		return "rx"
	}
	return "tx"
}
