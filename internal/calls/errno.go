// SPDX-License-Identifier: Apache-2.0

package calls

import "github.com/seed-7756021b/nettap/internal/errno"

// Errnos is a choice of errors.
type Errnos struct {
	All        bool
	Unexpected bool     // all but those that are no news in the call that failed
	Numbers    []uint32 // if neither; none is none
}

// lastErrno is the last error that a system call can end with; functions of the
// kernel give each other more.
const lastErrno = 133

// ErrnoNumber returns the number of an error that a system call can end with, by
// its name: 111 for "ECONNREFUSED". It is that of Linux on x86-64 and arm64,
// wherever this runs.
func ErrnoNumber(name string) (uint32, bool) {
	for number, known := range errno.Names {
		if known == name && number <= lastErrno {
			return number, true
		}
	}
	number, ok := errnoAliases[name]
	return number, ok
}

// errnoName is the inverse.
func errnoName(number uint32) string { return errno.Name(number) }

// errnoOf returns the error that the result of a function says, if it says one.
//
// Source: MAX_ERRNO in include/linux/err.h.
func errnoOf(result int64) (uint32, bool) {
	if result < -4095 || result >= 0 {
		return 0, false
	}
	return uint32(-result), true
}

// isFailure says whether an error is a failure. The others say that there is
// nothing now, that it goes on without the caller, or that a signal came first.
func isFailure(number uint32) bool {
	switch errnoName(number) {
	case "EAGAIN", "EINPROGRESS", "EIOCBQUEUED",
		"ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ERESTART_RESTARTBLOCK":
		return false
	}
	return true
}

// errnoAliases are second names.
var errnoAliases = map[string]uint32{
	"EDEADLOCK":   35,
	"ENOTSUP":     95,
	"EWOULDBLOCK": 11,
}
