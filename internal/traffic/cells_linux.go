// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
)

// closedCell is the number of a cell whose key is gone. The kernel side neither adds to the cell
// nor gives it to another key.
const closedCell = ^uint64(0)

// cells is the memory in which the kernel side counts for each CPU separately.
//
// Kernel side: struct cell in bpf/lib/traffic/count.h.
type cells struct {
	memory *ebpf.Memory
	all    []byte   // a copy
	closed []uint32 // offsets of cells that may be used again at the next read
}

// Offsets of a cell's fields.
const (
	cellKey             = 0
	cellPackets         = 24
	cellBytes           = 32
	cellMoreFrames      = 40
	cellMoreFrameBytes  = 48
	cellSize            = 64
	keyNetns            = 8
	keyIfindex          = 16
	keyType             = 20
	keyTransport        = 22
	keyDirection        = 23
	accountsNumberShift = 32
)

func openCells(m *ebpf.Map) (*cells, error) {
	memory, err := m.Memory()
	if err != nil {
		return nil, fmt.Errorf("map the cells of the CPUs: %w", err)
	}
	return &cells{memory: memory, all: make([]byte, m.ValueSize())}, nil
}

// each reads all cells that have a key.
func (c *cells) each(do func(offset uint32, key bpfTrafficKey, count bpfCount) error) error {
	if _, err := c.memory.ReadAt(c.all, 0); err != nil {
		return fmt.Errorf("read the cells of the CPUs: %w", err)
	}
	for offset := uint32(0); offset+cellSize <= uint32(len(c.all)); offset += cellSize {
		cell := c.all[offset : offset+cellSize]
		number := binary.NativeEndian.Uint64(cell[cellKey:])
		if number == 0 || number == closedCell {
			continue
		}
		key := bpfTrafficKey{
			Number:    number,
			Netns:     binary.NativeEndian.Uint64(cell[keyNetns:]),
			Ifindex:   binary.NativeEndian.Uint32(cell[keyIfindex:]),
			Type:      binary.NativeEndian.Uint16(cell[keyType:]),
			Transport: cell[keyTransport],
			Direction: cell[keyDirection],
		}
		if err := do(offset, key, countIn(cell)); err != nil {
			return err
		}
	}
	return nil
}

func countIn(cell []byte) bpfCount {
	packets, bytes := binary.NativeEndian.Uint64(cell[cellPackets:]), binary.NativeEndian.Uint64(cell[cellBytes:])
	return bpfCount{
		Packets:    packets,
		Bytes:      bytes,
		Frames:     packets + binary.NativeEndian.Uint64(cell[cellMoreFrames:]),
		FrameBytes: bytes + binary.NativeEndian.Uint64(cell[cellMoreFrameBytes:]),
	}
}

// account returns the account of a key, if it is not the key of a process.
func (k bpfTrafficKey) account() (bpfAccountKey, bool) {
	if uint32(k.Number) != 0 {
		return bpfAccountKey{}, false
	}
	return bpfAccountKey{
		Netns:     k.Netns,
		Ifindex:   k.Ifindex,
		Account:   bpfAccount(k.Number >> accountsNumberShift),
		Direction: bpfDirection(k.Direction),
	}, true
}

// add adds the counts of all CPUs, to accounts and, if traffic is not nil, to processes.
func (c *cells) add(accounts map[bpfAccountKey]bpfCount, traffic map[bpfTrafficKey]bpfCount) error {
	return c.each(func(_ uint32, key bpfTrafficKey, count bpfCount) error {
		if account, ok := key.account(); ok {
			accounts[account] = plus(accounts[account], count)
		} else if traffic != nil {
			traffic[key] = plus(traffic[key], count)
		}
		return nil
	})
}

// take closes the cells of keys that are gone, and returns their counts.
func (c *cells) take(gone func(bpfTrafficKey) bool) (map[bpfTrafficKey]bpfCount, error) {
	taken := make(map[bpfTrafficKey]bpfCount)
	var cell [cellSize]byte
	err := c.each(func(offset uint32, key bpfTrafficKey, _ bpfCount) error {
		if !gone(key) {
			return nil
		}
		if err := c.write(offset, cellKey, closedCell); err != nil {
			return err
		}
		if _, err := c.memory.ReadAt(cell[:], int64(offset)); err != nil {
			return fmt.Errorf("read a cell of a CPU: %w", err)
		}
		c.closed = append(c.closed, offset)
		taken[key] = plus(taken[key], countIn(cell[:]))
		return nil
	})
	return taken, err
}

// free lets the cells be used again that were closed so long ago that no program can still be
// adding to them.
func (c *cells) free() error {
	for _, offset := range c.closed {
		for field := uint32(keyNetns); field < cellSize; field += 8 {
			if err := c.write(offset, field, 0); err != nil {
				return err
			}
		}
		// last, so that the cell belongs to no key now
		if err := c.write(offset, cellKey, 0); err != nil {
			return err
		}
	}
	c.closed = c.closed[:0]
	return nil
}

func (c *cells) write(offset, field uint32, value uint64) error {
	if _, err := c.memory.WriteAt(binary.NativeEndian.AppendUint64(nil, value), int64(offset+field)); err != nil {
		return fmt.Errorf("write a cell of a CPU: %w", err)
	}
	return nil
}
