// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import (
	"fmt"
	"runtime"
)

var errNotLinux = fmt.Errorf("nettap runs on Linux only, and this is %s: %w", runtime.GOOS, ErrUnsupported)

// Require returns an error matching [ErrUnsupported].
func Require(string) error { return errNotLinux }

// CgroupRoot returns an error matching [ErrUnsupported].
func CgroupRoot(string) (string, error) { return "", errNotLinux }

// InCgroupNamespace returns false.
func InCgroupNamespace() bool { return false }
