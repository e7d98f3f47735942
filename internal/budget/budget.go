// SPDX-License-Identifier: Apache-2.0

// Package budget decides what nettap leaves out when it takes more of the machine
// than it may. It is pure: shares and times come from outside.
package budget

import "time"

// Step is how much is left out. Each leaves out what the one before does, too.
type Step int

// The steps. None touches what is counted of traffic, drops and accepts.
const (
	Full             Step = iota // everything is seen
	NoSampledTrees               // calls are not sampled; failed and slow ones are reported
	NoInnerFunctions             // a tree is its root
	NoCalls                      // calls are not seen
	LongIntervals                // the counts of traffic and drops are read less often
)

// steps is what is said of each step: its name, and what is not seen on it.
var steps = [...]struct{ name, notSeen string }{
	Full:             {"full", ""},
	NoSampledTrees:   {"no_sampled_trees", "calls that neither failed nor took long"},
	NoInnerFunctions: {"no_inner_functions", "calls that neither failed nor took long, and the functions and waits inside of all calls"},
	NoCalls:          {"no_calls", "all calls"},
	LongIntervals:    {"long_intervals", "all calls, and of traffic and drops what came between two readings, which are further apart"},
}

// String returns the step's name, as "no_calls".
func (s Step) String() string { return steps[s].name }

// NotSeen says what is not seen on the step; empty is nothing.
func (s Step) NotSeen() string { return steps[s].notSeen }

const (
	// patience is how many shares in a row are above the limit before the next step.
	patience = 3

	// DefaultRest is how long all shares are below half of the limit before a step back.
	DefaultRest = 5 * time.Minute
)

// Controller holds the step. Its zero value has no limit.
type Controller struct {
	Limit   float64         // share of the machine's CPU time, from 0 to 1; 0 is no limit
	Rest    time.Duration   // how long it is quiet before a step back; 0 is [DefaultRest]
	Changes func(Step) bool // whether a step leaves out anything here: others are passed over; nil is all

	step  Step
	above int       // shares above the limit in a row
	quiet time.Time // since when shares are below half; zero: the last one was not
}

// Step returns the step that it is on.
func (c *Controller) Step() Step { return c.step }

// Exceeded says whether the limit is not kept on the last step either: what remains
// takes more, and is never left out.
func (c *Controller) Exceeded() bool { return c.above >= patience && c.next(1) == c.step }

// Observe takes the share of the machine that nettap took until now, and returns the
// step to be on.
func (c *Controller) Observe(share float64, now time.Time) Step {
	if c.Limit <= 0 {
		return Full
	}
	if share > c.Limit {
		c.above++
	} else {
		c.above = 0
	}
	if share >= c.Limit/2 {
		c.quiet = time.Time{}
	} else if c.quiet.IsZero() {
		c.quiet = now
	}
	switch {
	case c.above >= patience && c.next(1) != c.step:
		c.step = c.next(1)
		c.above = 0
	case c.step > Full && !c.quiet.IsZero() && now.Sub(c.quiet) >= c.rest():
		c.step = c.next(-1)
		c.quiet = now
	}
	return c.step
}

// next returns the nearest step that way which changes anything, and the present one if
// there is none. Full always is one.
func (c *Controller) next(way Step) Step {
	for s := c.step + way; s >= Full && s <= LongIntervals; s += way {
		if s == Full || c.Changes == nil || c.Changes(s) {
			return s
		}
	}
	return c.step
}

func (c *Controller) rest() time.Duration {
	if c.Rest == 0 {
		return DefaultRest
	}
	return c.Rest
}
