// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"math"

	"github.com/seed-7756021b/nettap/internal/budget"
	"github.com/seed-7756021b/nettap/internal/kernel"
)

// Reduces reports whether a step leaves out anything that the options ask for.
func (c *Calls) Reduces(step budget.Step) bool {
	o := c.options
	switch step {
	case budget.NoSampledTrees:
		return o.SampleRatio > 0 && o.MinDuration > 0
	case budget.NoInnerFunctions:
		return o.followsAll() || o.OffCPU
	case budget.NoCalls:
		return true
	}
	return false
}

// Reduce leaves out what the step says, from the next call on. Nothing is attached or
// detached: it sets flags of the programs, and if no calls are observed, the programs only
// check that they are not enabled. It may be called between [Calls.Enable] and
// [Calls.Shutdown], while Collect runs.
func (c *Calls) Reduce(step budget.Step) error {
	var enabled bool
	if err := c.object.Variables[bpfVarEnabled].Get(&enabled); err != nil {
		return fmt.Errorf("see whether calls are looked at: %w", err)
	}
	if !enabled && step < budget.NoCalls {
		// The calls that had begun when calls were last observed have ended, or are about to.
		if err := kernel.RunIterator(c.object.Programs[bpfProgForgetCalls]); err != nil {
			return fmt.Errorf("forget former calls: %w", err)
		}
	}
	flags := c.flags(step)
	if !enabled && step < budget.NoCalls {
		flags[bpfVarWaitsSinceNs] = c.bootNow()
	}
	flags[bpfVarEnabled] = step < budget.NoCalls
	return c.setVariables(flags)
}

// flags returns the values of the programs' variables that a step changes.
func (c *Calls) flags(step budget.Step) map[string]any {
	o := c.options
	threshold := uint64(o.SampleRatio * (1 << 32))
	if step >= budget.NoSampledTrees {
		threshold = 0
	}
	whole := step < budget.NoInnerFunctions
	followsAll := whole && o.followsAll()
	return map[string]any{
		bpfVarSampleThreshold: threshold,
		bpfVarFollowsAll:      followsAll,
		bpfVarUsualVersion:    c.usualVersion(followsAll),
		bpfVarWithOffCpu:      whole && o.OffCPU,
	}
}

// usualVersion returns the version of the filters of those threads whose calls are not to be looked at more closely when
// they begin.
func (c *Calls) usualVersion(followsAll bool) uint32 {
	if followsAll {
		return math.MaxUint32 // no thread has it
	}
	return c.filters
}

func (c *Calls) setVariables(values map[string]any) error {
	var errs error
	for name, value := range values {
		if err := c.object.Variables[name].Set(value); err != nil {
			errs = errors.Join(errs, fmt.Errorf("set %s: %w", name, err))
		}
	}
	return errs
}
