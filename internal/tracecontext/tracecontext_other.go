// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tracecontext

import "github.com/seed-7756021b/nettap/internal/kernel"

// Contexts is never started on this system.
type Contexts struct{}

// Hooks returns none.
func (*Contexts) Hooks() ([]kernel.Hook, bool) { return nil, false }

// Counts returns none.
func (*Contexts) Counts() (Counts, error) { return Counts{}, nil }
