// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// limited is an instrument that leaves out some of its work if nettap takes more than max_cpu.
type limited[T instrument.Telemetry] struct {
	instrument.Instrument[T]
	reducible
	limit *limit
}

// Enable implements [instrument.Instrument].
func (l limited[T]) Enable() error {
	if err := l.Instrument.Enable(); err != nil {
		return err
	}
	if err := l.limit.add(l.reducible); err != nil {
		l.limit.remove()
		return err
	}
	return nil
}

// Shutdown implements [instrument.Instrument].
func (l limited[T]) Shutdown(ctx context.Context) error {
	l.limit.remove()
	return l.Instrument.Shutdown(ctx)
}

// Audit implements auditor.
func (l limited[T]) Audit() error {
	if i, ok := l.Instrument.(auditor); ok {
		return i.Audit()
	}
	return nil
}

// Delivered implements [instrument.Deliverer].
func (l limited[T]) Delivered() {
	if i, ok := l.Instrument.(instrument.Deliverer); ok {
		i.Delivered()
	}
}
