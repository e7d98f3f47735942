package kernel

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// Drain calls visit with each record now in the ring, oldest first, and returns
// when the ring is empty. The record is only valid until visit returns.
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
