package calls

import (
	"errors"
	"fmt"

	"github.com/seed-7756021b/nettap/internal/budget"
)

// Reduce leaves out what the step says, from the next call on. Nothing is attached or
// detached: the programs' own flags are set, and without calls they only see that they
// are not armed. It may be called after [Calls.Begin], while Collect runs.
func (c *Calls) Reduce(step budget.Step) error {
	o := c.options
	threshold := uint64(o.SampleRatio * (1 << 32))
	if step >= budget.NoSampledTrees {
		threshold = 0
	}
	whole := step < budget.NoInnerFunctions
	var errs error
	for name, value := range map[string]any{
		"sample_threshold": threshold,
		"follows_all":      whole && (o.FollowAll || o.MinDuration == 0),
		"with_off_cpu":     whole && o.OffCPU,
		"armed":            step < budget.NoCalls,
	} {
		if err := c.object.Variables[name].Set(value); err != nil {
			errs = errors.Join(errs, fmt.Errorf("set %s: %w", name, err))
		}
	}
	return errs
}
