package nettapreceiver

import (
	"context"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// limited is an instrument that leaves out some of what it does where nettap takes more
// than max_cpu.
type limited[T instrument.Telemetry] struct {
	instrument.Instrument[T]
	reducible
	limit *limit
}

// Begin implements [instrument.Instrument].
func (l limited[T]) Begin() error {
	if err := l.Instrument.Begin(); err != nil {
		return err
	}
	if err := l.limit.join(l.reducible); err != nil {
		l.limit.part()
		return err
	}
	return nil
}

// Shutdown implements [instrument.Instrument].
func (l limited[T]) Shutdown(ctx context.Context) error {
	l.limit.part()
	return l.Instrument.Shutdown(ctx)
}

// Audit implements auditor.
func (l limited[T]) Audit() error {
	if i, ok := l.Instrument.(auditor); ok {
		return i.Audit()
	}
	return nil
}
