package nettapreceiver

import (
	"context"
	"errors"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// after is an instrument that runs only while something else does.
type after[T instrument.Telemetry] struct {
	first interface {
		Start(ctx context.Context) error
		Begin() error
		Shutdown(ctx context.Context) error
	}
	instrument.Instrument[T]
}

// Start implements [instrument.Instrument].
func (a after[T]) Start(ctx context.Context) error {
	if err := a.first.Start(ctx); err != nil {
		return err
	}
	if err := a.Instrument.Start(ctx); err != nil {
		return errors.Join(err, a.first.Shutdown(ctx))
	}
	return nil
}

// Begin implements [instrument.Instrument].
func (a after[T]) Begin() error {
	if err := a.first.Begin(); err != nil {
		return err
	}
	return a.Instrument.Begin()
}

// Shutdown implements [instrument.Instrument].
func (a after[T]) Shutdown(ctx context.Context) error {
	return errors.Join(a.Instrument.Shutdown(ctx), a.first.Shutdown(ctx))
}

// Delivered implements [instrument.Deliverer].
func (a after[T]) Delivered() {
	if i, ok := a.Instrument.(instrument.Deliverer); ok {
		i.Delivered()
	}
}

// Audit implements auditor.
func (a after[T]) Audit() error {
	if i, ok := a.Instrument.(auditor); ok {
		return i.Audit()
	}
	return nil
}

// Finish implements finisher.
func (a after[T]) Finish() {
	if i, ok := a.Instrument.(finisher); ok {
		i.Finish()
	}
}

// Peek implements [instrument.Peeker].
func (a after[T]) Peek(ctx context.Context) (T, error) {
	if i, ok := a.Instrument.(instrument.Peeker[T]); ok {
		return i.Peek(ctx)
	}
	var nothing T
	return nothing, errors.ErrUnsupported
}
