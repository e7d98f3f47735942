//go:build !linux

package cgroups

import (
	"github.com/seed-7756021b/nettap/internal/books"
	"github.com/seed-7756021b/nettap/internal/process"
)

// Cgroups is never started here.
type Cgroups struct{}

// New returns one that tells nothing.
func New([]string, *books.Books) *Cgroups { return &Cgroups{} }

// Changes implements [process.CgroupWatch].
func (*Cgroups) Changes(func(process.CgroupChange)) (bool, error) { return false, nil }
