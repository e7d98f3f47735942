// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Quota is how much of a map those that have entries in it may use, other than the host: the network
// namespaces, so that someone who can make namespaces cannot use up all of it, or the users. See
// bpf/lib/program/quota.h.
type Quota struct {
	shares *ebpf.Map
	of     uint32 // the map's number: enum share_of
	limit  uint32 // of the map
}

// shareKey and share have the layout of the kernel side.
type shareKey struct {
	Holder      uint64
	Of, Refused uint32
}

type share struct {
	Entries     uint64
	Limit, Each uint32
}

// unlimited is the limit of the host.
const unlimited = ^uint32(0)

// One holder may have a quarter of a map, and all except the host together three quarters.
func partOf(limit uint32) uint32     { return max(limit/4, 1) }
func togetherOf(limit uint32) uint32 { return max(limit/4*3, 1) }

// NewQuota returns the quota of a map of limit entries, whose number in the map shares is of.
func NewQuota[Number ~uint32](shares *ebpf.Map, of Number, limit uint32) *Quota {
	return &Quota{shares: shares, of: uint32(of), limit: limit}
}

// Apply puts the quota into effect. entries are how many entries of the map each holder has: a
// network namespace by its cookie, or a user by its id plus 1. host is the holder without a limit: the
// host's namespace, or root.
func (q *Quota) Apply(host uint64, entries map[uint64]uint64) error {
	var all uint64
	for holder, n := range entries {
		if holder != host && holder != 0 {
			all += n
		}
	}
	err := q.forgetOthers(host, entries)
	if host != 0 {
		err = errors.Join(err, q.put(host, share{Limit: unlimited}))
	}
	err = errors.Join(err, q.countRefused(), q.put(0, share{Entries: all, Limit: togetherOf(q.limit), Each: partOf(q.limit)}))
	if err = errors.Join(err, q.putEach(host, entries)); err != nil {
		return fmt.Errorf("share a map: %w", err)
	}
	return nil
}

// putEach writes how many entries each holder except the host has. If there are so many that some find
// no place in shares, those are limited only by what all may have together.
func (q *Quota) putEach(host uint64, entries map[uint64]uint64) error {
	for holder, n := range entries {
		if holder == host || holder == 0 {
			continue
		}
		if err := q.put(holder, share{Entries: n}); errors.Is(err, unix.E2BIG) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (q *Quota) put(holder uint64, s share) error {
	return q.shares.Put(shareKey{Holder: holder, Of: q.of}, s)
}

// forgetOthers deletes holders that have no entries any more.
func (q *Quota) forgetOthers(host uint64, entries map[uint64]uint64) error {
	var gone []shareKey
	err := Each(q.shares, func(key shareKey, _ share) {
		if _, has := entries[key.Holder]; !has && key.Of == q.of && key.Holder != 0 && key.Holder != host {
			gone = append(gone, key)
		}
	})
	for _, key := range gone {
		if e := q.shares.Delete(key); e != nil && !errors.Is(e, ebpf.ErrKeyNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// countRefused adds the entry in which the kernel side counts how often an entry was refused.
func (q *Quota) countRefused() error {
	err := q.shares.Update(shareKey{Of: q.of, Refused: 1}, share{}, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil // it is there already
	}
	return err
}

// Each returns how many entries one holder may have.
func (q *Quota) Each() int { return int(partOf(q.limit)) }

// Refused returns how often a holder that had used up its share was refused an entry.
func (q *Quota) Refused() (uint64, error) {
	var s share
	err := q.shares.Lookup(shareKey{Of: q.of, Refused: 1}, &s)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read how often a map had no room: %w", err)
	}
	return s.Entries, nil
}
