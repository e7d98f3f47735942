// SPDX-License-Identifier: Apache-2.0

package view

import (
	"maps"
	"slices"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// unobservedAccount is listed next to the accounts of docs/accounts.md.
const unobservedAccount = "unobserved"

// device is an interface with the identity that its series have.
type device struct {
	netns   int64
	name    string
	stacked bool
}

// networkInterface is one interface with its accounts.
type networkInterface struct {
	Interface
	accounts []*account
	seen     int64
	active   int64
	updated  int64
}

// account is what is on one account of an interface, in one direction.
type account struct {
	name     string
	receive  bool
	start    pcommon.Timestamp
	seen     int64
	now, was [2]int64 // bytes, packets
	total    [2]int64 // since the view began
	moved    [2]int64 // since the last tick
	known    bool     // the last reading contained it
	history  history
}

type interfaces struct {
	view     *View
	byDevice map[device]*networkInterface
	seq      int64 // number of the reading
}

func (is *interfaces) init(v *View) {
	is.view, is.byDevice, is.seq = v, map[device]*networkInterface{}, 1
}

// enter adds a point of a reading that is about an interface.
func (is *interfaces) enter(metric string, point pmetric.NumberDataPoint) {
	which, name := 0, ""
	switch metric {
	case "nettap.interface.io":
	case "nettap.interface.packet.count":
		which = 1
	case "nettap.interface.unobserved.io":
		name = unobservedAccount
	case "nettap.interface.unobserved.packet.count":
		which, name = 1, unobservedAccount
	default:
		return
	}
	var of device
	receive := false
	for key, value := range point.Attributes().All() {
		switch key {
		case "network.interface.name":
			of.name = value.Str()
		case "nettap.netns.inode":
			of.netns = value.Int()
		case "nettap.interface.stacked":
			of.stacked = value.Bool()
		case "network.io.direction":
			receive = value.Str() == "receive"
		case "nettap.account":
			name = value.Str()
		}
	}
	b := is.find(of)
	if b == nil {
		return
	}
	if point.Flags().NoRecordedValue() {
		return
	}
	b.seen = is.seq
	a := b.account(name, receive)
	if a.seen != is.seq {
		if point.StartTimestamp() != a.start {
			a.start, a.was = point.StartTimestamp(), [2]int64{}
		}
		a.seen, a.now = is.seq, [2]int64{}
	}
	a.now[which] += point.IntValue()
}

func (is *interfaces) find(of device) *networkInterface {
	if b, ok := is.byDevice[of]; ok {
		return b
	}
	if len(is.byDevice) >= maxInterfaces {
		is.view.leaveOut("interfaces")
		return nil
	}
	b := &networkInterface{updated: is.view.seq, active: is.view.now()}
	b.Name, b.Netns, b.Stacked = clean(of.name), of.netns, of.stacked
	b.ID = is.view.newID() + "-" + strconv.FormatInt(of.netns, 10)
	is.byDevice[of] = b
	return b
}

func (n *networkInterface) account(name string, receive bool) *account {
	for _, a := range n.accounts {
		if a.name == name && a.receive == receive {
			return a
		}
	}
	a := &account{name: name, receive: receive}
	n.accounts = append(n.accounts, a)
	return a
}

// settle ends a reading.
func (is *interfaces) settle(at period) {
	for _, b := range is.byDevice {
		if b.seen == is.seq && b.EndedMS != 0 {
			b.EndedMS, b.updated = 0, is.view.seq
		} else if b.seen != is.seq && b.EndedMS == 0 {
			b.EndedMS, b.updated = at.to, is.view.seq
		}
		for _, a := range b.accounts {
			if a.known = a.seen == is.seq; !a.known {
				continue
			}
			if moved := a.settle(); moved != [2]int64{} {
				a.history.add(at, float64(moved[0]), float64(moved[1]))
				b.active = at.to
			}
		}
	}
	is.seq++
}

// settle returns what has moved in the reading. An account only grows, with two exceptions.
// Packets that are unclaimed may be claimed later; what is unclaimed counts as moved only when it
// exceeds the earlier value. What is unobserved may move in both directions.
func (a *account) settle() (moved [2]int64) {
	for i := range moved {
		moved[i] = a.now[i] - a.was[i]
		if moved[i] < 0 && a.name != unobservedAccount {
			moved[i] = 0
			continue
		}
		a.was[i] = a.now[i]
		a.total[i] += moved[i]
		a.moved[i] += moved[i]
	}
	return moved
}

func (is *interfaces) prune(old int64) {
	for of, b := range is.byDevice {
		if b.EndedMS != 0 && b.EndedMS < old {
			delete(is.byDevice, of)
			is.view.fresh.gone.Interfaces = append(is.view.fresh.gone.Interfaces, b.ID)
		}
	}
}

// sorted returns all interfaces by name.
func (is *interfaces) sorted() []*networkInterface {
	return slices.SortedFunc(maps.Values(is.byDevice), func(a, b *networkInterface) int { return compareTexts(a.Name, b.Name, a.ID, b.ID) })
}

// show returns the interface in the form of the API, with its series.
func (n *networkInterface) show(s scale, now int64, looked *looks) Interface {
	shown := n.Interface
	shown.Tx, shown.Rx = n.sides(false, s, now, looked), n.sides(true, s, now, looked)
	return shown
}

func (n *networkInterface) sides(receive bool, s scale, now int64, looked *looks) *Sides {
	sides := &Sides{Bytes: AccountTotals{Accounts: map[string]int64{}}, Packets: AccountTotals{Accounts: map[string]int64{}}}
	for _, a := range n.accounts {
		if a.receive != receive {
			continue
		}
		for i, totals := range []*AccountTotals{&sides.Bytes, &sides.Packets} {
			totals.enter(a, i)
			if series := a.history.read(s, now, i, 2, looked); series != nil {
				if totals.Series == nil {
					totals.Series = map[string][]number{}
				}
				totals.Series[a.name] = series
			}
		}
	}
	return sides
}

func (t *AccountTotals) enter(a *account, which int) {
	amount := a.total[which] - a.moved[which] // at the last tick
	if a.name == unobservedAccount {
		if a.known {
			t.Unobserved = &amount
			t.Total += amount
		}
		return
	}
	if amount != 0 {
		t.Accounts[a.name] = amount
		t.Total += amount
	}
}
