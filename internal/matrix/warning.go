// SPDX-License-Identifier: Apache-2.0

package main

import "regexp"

// warnings are what a guest prints that is wrong with the guest itself: its kernel
// finds a fault in itself, or a module is not loaded. What says that something is slow,
// as a stalled RCU or a soft lockup does, is none: guests are emulated, and wait for
// each other.
type warnings struct {
	warned []warning
	open   bool   // the last one's head is still to come
	half   string // the begin of a line, into which the kernel has spoken
}

// warning is what the kernel says of a fault, and during which test; "" is none.
type warning struct {
	test string
	said []string
}

// A fault has a head, as "WARNING: CPU: 1 PID: 7 at net/core/dev.c:10 f+0x1/0x2". What
// the place itself says of it comes before, behind a line to cut at.
var (
	kernelSays = regexp.MustCompile(`\[ *\d+\.\d{6}\] `)
	cutHere    = regexp.MustCompile(`^-+\[ cut here \]-+$`)
	faultHead  = regexp.MustCompile(`^(?:WARNING: |BUG: |kernel BUG at |UBSAN: |Internal error: |Oops: )`)
	slowHead   = regexp.MustCompile(`^BUG: (?:workqueue|soft) lockup`)
	notLoaded  = regexp.MustCompile(`^insmod: `)
)

// mostSaid is how many lines the head of a fault is waited for.
const mostSaid = 4

// read takes a line that is printed while a test runs. It returns the next one of the
// programs' own, if it is whole: what the kernel says may be in the middle of one.
func (w *warnings) read(line, test string) (own string, whole bool) {
	if at := kernelSays.FindStringIndex(line); at != nil {
		w.half += line[:at[0]]
		w.hear(line[at[1]:], test)
		return "", false
	}
	own, w.half = w.half+line, ""
	if notLoaded.MatchString(own) {
		w.warned = append(w.warned, warning{test: test, said: []string{own}})
	}
	return own, true
}

func (w *warnings) hear(text, test string) {
	isHead := faultHead.MatchString(text) && !slowHead.MatchString(text)
	switch {
	case cutHere.MatchString(text):
		w.warned = append(w.warned, warning{test: test})
		w.open = true
	case w.open:
		last := &w.warned[len(w.warned)-1]
		last.said = append(last.said, text)
		w.open = !isHead && len(last.said) < mostSaid
	case isHead:
		w.warned = append(w.warned, warning{test: test, said: []string{text}})
	}
}

// take returns what was warned of since the last take.
func (w *warnings) take() []warning {
	taken := w.warned
	w.warned, w.open = nil, false
	return taken
}
