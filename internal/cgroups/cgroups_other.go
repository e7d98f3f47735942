// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cgroups

import (
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// Cgroups is never started on this system.
type Cgroups struct{}

// New returns Cgroups that report nothing.
func New([]string, *stats.Recorder) *Cgroups { return &Cgroups{} }

// Changes implements [process.CgroupWatch].
func (*Cgroups) Changes(func(process.CgroupChange)) (bool, error) { return false, nil }
