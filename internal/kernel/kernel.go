// SPDX-License-Identifier: Apache-2.0

// Package kernel loads BPF programs, attaches them, and reads their maps and rings. It also finds
// out which hooks the running kernel has, and tells why one cannot be used.
package kernel

import (
	"context"
	"errors"
	"io"
	"slices"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// ErrUnsupported is matched by an error that a newer or differently configured kernel would not
// give.
var ErrUnsupported = host.ErrUnsupported

// Closers closes what was opened, in the reverse order.
type Closers []io.Closer

// Close closes all of them and joins their errors. It may be called again.
func (c *Closers) Close() error {
	var errs error
	for _, closer := range slices.Backward(*c) {
		errs = errors.Join(errs, closer.Close())
	}
	*c = nil
	return errs
}

// Shutdown makes an [io.Closer] of a function that shuts something down.
type Shutdown func(context.Context) error

// Close implements [io.Closer].
func (f Shutdown) Close() error { return f(context.Background()) }

// CloseFunc is an [io.Closer] that cannot fail.
type CloseFunc func()

// Close implements [io.Closer].
func (f CloseFunc) Close() error {
	f()
	return nil
}
