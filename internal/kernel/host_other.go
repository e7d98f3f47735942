// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package kernel

import "github.com/seed-7756021b/nettap/internal/kernel/host"

// RequireHost returns an error matching [ErrUnsupported].
func RequireHost(rootPath string) error { return host.Require(rootPath) }

// Probe returns an error matching [ErrUnsupported].
func Probe(string) error { return host.Require("") }
