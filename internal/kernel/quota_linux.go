// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Quota is how much of a map the network namespaces other than the host's may use, so that someone
// who can make namespaces cannot use up all of it: see bpf/lib/program/quota.h.
type Quota struct {
	shares *ebpf.Map
	of     uint32 // the map's number: enum share_of
	limit  uint32 // of the map
}

// shareKey and share have the layout of the kernel side.
type shareKey struct {
	Netns       uint64
	Of, Refused uint32
}

type share struct {
	Entries     uint64
	Limit, Each uint32
}

// unlimited is the limit of the host's namespace.
const unlimited = ^uint32(0)

// One namespace may have a quarter of a map, and all except the host's together three quarters.
func partOf(limit uint32) uint32     { return max(limit/4, 1) }
func togetherOf(limit uint32) uint32 { return max(limit/4*3, 1) }

// NewQuota returns the quota of a map of limit entries, whose number in the map shares is of.
func NewQuota[Number ~uint32](shares *ebpf.Map, of Number, limit uint32) *Quota {
	return &Quota{shares: shares, of: uint32(of), limit: limit}
}

// Apply puts the quota into effect. entries are how many entries of the map each namespace has, by
// its cookie. host is the cookie of the host's namespace.
func (q *Quota) Apply(host uint64, entries map[uint64]uint64) error {
	var all uint64
	for netns, n := range entries {
		if netns != host && netns != 0 {
			all += n
		}
	}
	err := q.forgetOthers(host, entries)
	if host != 0 {
		err = errors.Join(err, q.put(host, share{Limit: unlimited}))
	}
	err = errors.Join(err, q.countRefused(), q.put(0, share{Entries: all, Limit: togetherOf(q.limit), Each: partOf(q.limit)}))
	if err = errors.Join(err, q.putEach(host, entries)); err != nil {
		return fmt.Errorf("share a map among network namespaces: %w", err)
	}
	return nil
}

// putEach writes how many entries each namespace except the host's has. If there are so many
// namespaces that some find no place in shares, those are limited only by what all may have
// together.
func (q *Quota) putEach(host uint64, entries map[uint64]uint64) error {
	for netns, n := range entries {
		if netns == host || netns == 0 {
			continue
		}
		if err := q.put(netns, share{Entries: n}); errors.Is(err, unix.E2BIG) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (q *Quota) put(netns uint64, s share) error {
	return q.shares.Put(shareKey{Netns: netns, Of: q.of}, s)
}

// forgetOthers deletes namespaces that have no entries any more.
func (q *Quota) forgetOthers(host uint64, entries map[uint64]uint64) error {
	var gone []shareKey
	err := Each(q.shares, func(key shareKey, _ share) {
		if _, has := entries[key.Netns]; !has && key.Of == q.of && key.Netns != 0 && key.Netns != host {
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

// Each returns how many entries one namespace may have.
func (q *Quota) Each() int { return int(partOf(q.limit)) }

// Refused returns how often a namespace that had used up its share was refused an entry.
func (q *Quota) Refused() (uint64, error) {
	var s share
	err := q.shares.Lookup(shareKey{Of: q.of, Refused: 1}, &s)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read what network namespaces were refused: %w", err)
	}
	return s.Entries, nil
}
