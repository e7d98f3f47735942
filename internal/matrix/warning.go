// SPDX-License-Identifier: Apache-2.0

package main

import "regexp"

// warnings collects messages about faults of the guest itself: its kernel detects an error in
// itself, or a module is not loaded. Messages that something is slow, such as a stalled RCU or a
// soft lockup, are ignored: guests are emulated, and wait for each other.
type warnings struct {
	warned []warning
	open   bool   // the head of the last warning is still to come
	half   string // the beginning of a line that a message of the kernel has interrupted
}

// warning is a message of the kernel about a fault, and the test that was running; "" if none was.
type warning struct {
	test string
	said []string
}

// A fault has a head, such as "WARNING: CPU: 1 PID: 7 at net/core/dev.c:10 f+0x1/0x2". The message
// of the code that found it comes before, after a line that says "cut here".
var (
	kernelSays = regexp.MustCompile(`\[ *\d+\.\d{6}\] `)
	cutHere    = regexp.MustCompile(`^-+\[ cut here \]-+$`)
	faultHead  = regexp.MustCompile(`^(?:WARNING: |BUG: |kernel BUG at |UBSAN: |Internal error: |Oops: )`)
	slowHead   = regexp.MustCompile(`^BUG: (?:workqueue|soft) lockup`)
	notLoaded  = regexp.MustCompile(`^insmod: `)
)

// mostSaid is for how many lines the head of a fault is awaited.
const mostSaid = 4

// read takes a line that is printed while a test runs. It returns the next line that a program
// wrote, if it is complete: a message of the kernel may be in the middle of one.
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

// take returns the warnings since the previous call.
func (w *warnings) take() []warning {
	taken := w.warned
	w.warned, w.open = nil, false
	return taken
}
