// SPDX-License-Identifier: Apache-2.0

// Package budget decides what nettap leaves out when it takes more of the machine than it may. It
// takes shares and times as arguments, and measures nothing itself.
package budget

import "time"

// Step is how much is left out. Each step also leaves out what the previous one does.
type Step int

// The steps. None of them changes what is counted of traffic, drops and accepts.
const (
	Full             Step = iota // everything is observed
	NoSampledTrees               // calls are not sampled; failed and slow ones are reported
	NoInnerFunctions             // a tree is only its root
	NoCalls                      // calls are not observed
	LongIntervals                // the counts of traffic and drops are read less often
)

// steps has the name of each step, and what is not seen on it.
var steps = [...]struct{ name, notSeen string }{
	Full:             {"full", ""},
	NoSampledTrees:   {"no_sampled_trees", "calls that neither failed nor took long"},
	NoInnerFunctions: {"no_inner_functions", "calls that neither failed nor took long, and the functions and waits inside of all calls"},
	NoCalls:          {"no_calls", "all calls"},
	LongIntervals:    {"long_intervals", "all calls, and of traffic and drops what came between two readings, which are further apart"},
}

// String returns the step's name, such as "no_calls".
func (s Step) String() string { return steps[s].name }

// NotSeen returns what is not seen on the step; empty if everything is.
func (s Step) NotSeen() string { return steps[s].notSeen }

const (
	// patience is how many shares in a row must be above the limit before the next step.
	patience = 3

	// DefaultRest is how long all shares must be below half of the limit before a step back.
	DefaultRest = 5 * time.Minute
)

// Controller has the present step. Its zero value has no limit.
type Controller struct {
	Limit float64       // share of the machine's CPU time, from 0 to 1; 0 means no limit
	Rest  time.Duration // how long shares must be low before a step back; 0 means [DefaultRest]
	// Changes reports whether a step leaves out anything here. Other steps are skipped; nil means
	// that all do.
	Changes func(Step) bool

	step  Step
	above int       // number of shares in a row above the limit
	quiet time.Time // since when shares are below half; zero if the last one was not
}

// Step returns the present step.
func (c *Controller) Step() Step { return c.step }

// Exceeded reports whether the limit is exceeded even on the last step: what remains takes more,
// and is never left out.
func (c *Controller) Exceeded() bool { return c.above >= patience && c.next(1) == c.step }

// Observe takes the share of the machine that nettap has taken since the previous call, and
// returns the step to apply.
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

// next returns the nearest step in a direction that changes anything, or the present one if there
// is none. Full always counts as such a step.
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
