// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// Drain calls visit with each record in the ring, oldest first, and returns when the ring is
// empty. A record is only valid until visit returns.
func Drain(ring *ringbuf.Reader, visit func(record []byte) error) error {
	ring.SetDeadline(time.Now())
	var record ringbuf.Record
	for {
		err := ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ring: %w", err)
		}
		if err := visit(record.RawSample); err != nil {
			return err
		}
	}
}

// errEnough ends the reading of a ring that the kernel side fills as fast as it is read.
var errEnough = errors.New("enough records")

// DrainOnce calls visit with each record in the ring, oldest first, but with no more records than
// the ring can hold. A record that visit returns an error for is skipped, and the last such error
// is returned.
func DrainOnce(ring *ringbuf.Reader, visit func(record []byte) error) error {
	var complaint error
	rest := ring.BufferSize()
	err := Drain(ring, func(record []byte) error {
		if err := visit(record); err != nil {
			complaint = err
		}
		if rest -= len(record); rest <= 0 {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, complaint)
}
