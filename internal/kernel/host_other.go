//go:build !linux

package kernel

import (
	"fmt"
	"runtime"
)

var errNotLinux = fmt.Errorf("nettap runs on Linux only, and this is %s: %w", runtime.GOOS, ErrUnsupported)

// RequireHost returns an error matching [ErrUnsupported].
func RequireHost(string) error { return errNotLinux }

// CgroupRoot returns an error matching [ErrUnsupported].
func CgroupRoot(string) (string, error) { return "", errNotLinux }

// InCgroupNamespace returns false.
func InCgroupNamespace() bool { return false }

// Probe returns an error matching [ErrUnsupported].
func Probe(string) error { return errNotLinux }
