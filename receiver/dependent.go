// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"

	"github.com/seed-7756021b/nettap/internal/instrument"
)

// dependent is an instrument that runs only while its dependency does.
type dependent[T instrument.Telemetry] struct {
	dependency interface {
		Start(ctx context.Context) error
		Enable() error
		Shutdown(ctx context.Context) error
	}
	instrument.Instrument[T]
}

// Start implements [instrument.Instrument].
func (a dependent[T]) Start(ctx context.Context) error {
	if err := a.dependency.Start(ctx); err != nil {
		return err
	}
	if err := a.Instrument.Start(ctx); err != nil {
		return errors.Join(err, a.dependency.Shutdown(ctx))
	}
	return nil
}

// Enable implements [instrument.Instrument].
func (a dependent[T]) Enable() error {
	if err := a.dependency.Enable(); err != nil {
		return err
	}
	return a.Instrument.Enable()
}

// Shutdown implements [instrument.Instrument].
func (a dependent[T]) Shutdown(ctx context.Context) error {
	return errors.Join(a.Instrument.Shutdown(ctx), a.dependency.Shutdown(ctx))
}

// Delivered implements [instrument.Deliverer].
func (a dependent[T]) Delivered() {
	if i, ok := a.Instrument.(instrument.Deliverer); ok {
		i.Delivered()
	}
}

// Audit implements auditor.
func (a dependent[T]) Audit() error {
	if i, ok := a.Instrument.(auditor); ok {
		return i.Audit()
	}
	return nil
}

// Finish implements finisher.
func (a dependent[T]) Finish() {
	if i, ok := a.Instrument.(finisher); ok {
		i.Finish()
	}
}

// Peek implements [instrument.Peeker].
func (a dependent[T]) Peek(ctx context.Context) (T, error) {
	if i, ok := a.Instrument.(instrument.Peeker[T]); ok {
		return i.Peek(ctx)
	}
	var nothing T
	return nothing, errors.ErrUnsupported
}
