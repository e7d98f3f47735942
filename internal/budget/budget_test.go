// SPDX-License-Identifier: Apache-2.0

package budget

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestObserve(t *testing.T) {
	for name, test := range map[string]struct {
		limit    float64
		shares   []float64 // one a minute
		want     Step
		exceeded bool
	}{
		"no limit":                                {0, []float64{1, 1, 1, 1}, Full, false},
		"two in a row are borne":                  {0.02, []float64{0.03, 0.03, 0.02, 0.03, 0.03}, Full, false},
		"three in a row are a step":               {0.02, []float64{0.03, 0.03, 0.03}, NoSampledTrees, false},
		"what goes on is another step":            {0.02, []float64{1, 1, 1, 1, 1, 1}, NoInnerFunctions, false},
		"the last step is kept":                   {0.02, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1}, LongIntervals, false},
		"more than the limit on the last step":    {0.02, []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, LongIntervals, true},
		"between half and all it stays":           {0.02, []float64{1, 1, 1, .015, .015, .015, .015, .015, .015, .015}, NoSampledTrees, false},
		"five minutes below half are a step back": {0.02, []float64{1, 1, 1, 0, 0, 0, 0, 0, 0}, Full, false},
		"less than five are none":                 {0.02, []float64{1, 1, 1, 0, 0, 0, 0, 0}, NoSampledTrees, false},
		"the five are in a row":                   {0.02, []float64{1, 1, 1, 0, 0, 0, 0, .01, 0, 0, 0, 0, 0}, NoSampledTrees, false},
		"each step back takes five":               {0.02, []float64{1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, NoSampledTrees, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, now := Controller{Limit: test.limit}, time.Unix(0, 0)
			got := Full
			for _, share := range test.shares {
				now = now.Add(time.Minute)
				got = c.Observe(share, now)
			}
			if diff := cmp.Diff([]any{test.want, test.exceeded}, []any{got, c.Exceeded()}); diff != "" {
				t.Errorf("step and whether the limit is exceeded differ (-want +got):\n%s", diff)
			}
		})
	}
}

// Steps that leave out nothing here are skipped, in both directions.
func TestObservePassesOver(t *testing.T) {
	for name, test := range map[string]struct {
		changes []Step
		want    []Step // each step that it was on
	}{
		"all change something": {
			[]Step{NoSampledTrees, NoInnerFunctions, NoCalls, LongIntervals},
			[]Step{Full, NoSampledTrees, NoInnerFunctions, NoCalls, LongIntervals, NoCalls, NoInnerFunctions, NoSampledTrees, Full},
		},
		"calls do not run":    {[]Step{LongIntervals}, []Step{Full, LongIntervals, Full}},
		"only calls run":      {[]Step{NoSampledTrees, NoCalls}, []Step{Full, NoSampledTrees, NoCalls, NoSampledTrees, Full}},
		"nothing can be left": {nil, []Step{Full}},
	} {
		t.Run(name, func(t *testing.T) {
			c := Controller{Limit: 0.02, Rest: 3 * time.Minute, Changes: func(s Step) bool { return slices.Contains(test.changes, s) }}
			now, got := time.Unix(0, 0), []Step{Full}
			for i := range 60 {
				share := 1.0
				if i == 30 && !c.Exceeded() {
					t.Error("the limit is not exceeded on the last step")
				}
				if i >= 30 {
					share = 0
				}
				now = now.Add(time.Minute)
				if step := c.Observe(share, now); step != got[len(got)-1] {
					got = append(got, step)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("steps differ (-want +got):\n%s", diff)
			}
		})
	}
}

// Each step has a name of its own, and each except the first tells what is not seen on it.
func TestStepsAreNamed(t *testing.T) {
	names := map[string]bool{}
	for s := Full; s <= LongIntervals; s++ {
		names[s.String()] = true
		if (s.NotSeen() == "") != (s == Full) {
			t.Errorf("of %v it is said that %q is not seen", s, s.NotSeen())
		}
	}
	if len(names) != int(LongIntervals)+1 || names[""] {
		t.Errorf("the names are %v", names)
	}
}

// Whatever the shares are, the step changes by one at a time, forward only above the limit and
// back only below half of it.
func TestObserveGoesOneStepAtATime(t *testing.T) {
	const limit = 0.02
	random := rand.New(rand.NewPCG(1, 2))
	c, now := Controller{Limit: limit, Rest: 3 * time.Second}, time.Unix(0, 0)
	for range 100000 {
		share, before := random.Float64()*random.Float64()*4*limit, c.Step()
		now = now.Add(time.Second)
		after := c.Observe(share, now)
		switch {
		case after == before:
		case after == before+1 && share > limit:
		case after == before-1 && share < limit/2:
		default:
			t.Fatalf("Observe(%v) went from %v to %v", share, before, after)
		}
	}
}
