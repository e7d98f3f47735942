// SPDX-License-Identifier: Apache-2.0

package calls

import "github.com/seed-7756021b/nettap/internal/errno"

// Errnos says which errors are kept as failures.
type Errnos struct {
	All        bool
	Unexpected bool     // all but those that are expected of the call that failed
	Numbers    []uint32 // these errors, if neither of the others is set
}

// lastErrno is the highest number of an error that a system call can return. Functions of the kernel
// return higher ones to each other.
const lastErrno = 133

// ErrnoNumber returns the number of an error that a system call can return, by its name: 111 for
// "ECONNREFUSED". It is the number on Linux on x86-64 and arm64, on whichever system it is called.
// The result is false for any other name.
func ErrnoNumber(name string) (uint32, bool) {
	for number, known := range errno.Names {
		if known == name && number <= lastErrno {
			return number, true
		}
	}
	number, ok := errnoAliases[name]
	return number, ok
}

// errnoName is the inverse of [ErrnoNumber].
func errnoName(number uint32) string { return errno.Name(number) }

// errnoOf returns the number of the error that the result of a function is, if it is one.
//
// Source: MAX_ERRNO in include/linux/err.h.
func errnoOf(result int64) (uint32, bool) {
	if result < -4095 || result >= 0 {
		return 0, false
	}
	return uint32(-result), true
}

// isFailure reports whether an error is a failure. The errors that are not say that there is nothing
// at present, that the operation continues without the caller, or that a signal came first.
func isFailure(number uint32) bool {
	switch errnoName(number) {
	case "EAGAIN", "EINPROGRESS", "EIOCBQUEUED",
		"ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ERESTART_RESTARTBLOCK":
		return false
	}
	return true
}

// errnoAliases has errors that have a second name.
var errnoAliases = map[string]uint32{
	"EDEADLOCK":   35,
	"ENOTSUP":     95,
	"EWOULDBLOCK": 11,
}
