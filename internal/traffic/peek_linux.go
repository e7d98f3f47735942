// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/process"
)

var _ instrument.Peeker[pmetric.Metrics] = (*Traffic)(nil)

// peeking is the state of Peek. It has a directory of its own, because it must not fix the
// description of a process before Collect does.
type peeking struct {
	builder   *metadata.MetricsBuilder
	processes *process.Directory
	roster    *roster
	arrived   []uint64 // packets that had arrived on each CPU at the last Peek
}

// PeekWith enables Peek, from the next Start on. builder makes its result, and directory describes
// its processes.
func (t *Traffic) PeekWith(builder *metadata.MetricsBuilder, directory *process.Directory) {
	t.peeking = &peeking{builder: builder, processes: directory}
}

func (p *peeking) begin() {
	if p != nil {
		p.roster, p.arrived = newRoster(p.processes, p.builder), nil
	}
}

func (p *peeking) end() {
	if p != nil && p.roster != nil {
		p.roster.close()
	}
}

// Peek implements [instrument.Peeker]. It enters what the kernel side has counted into a copy of
// the ledger. It makes no survey, because a survey credits what waits for an owner.
func (t *Traffic) Peek(context.Context) (pmetric.Metrics, error) {
	if t.peeking == nil || t.ledger == nil {
		return pmetric.NewMetrics(), errors.ErrUnsupported
	}
	p := t.peeking
	cpus, err := t.readArrivals()
	if err != nil {
		return pmetric.NewMetrics(), err
	}
	since := p.arrived // what had arrived by then has been claimed, if at all
	p.arrived = numbersOf(cpus)
	s, err := t.readMaps(since)
	if s == nil {
		return pmetric.NewMetrics(), err
	}
	p.roster.meet(s.processes)
	report := t.ledger.copy(p.roster.identityOf).post(s, nil)
	e := t.emitter
	e.builder, e.speak = p.builder, p.roster.speak
	metrics := e.emit(t.clock.Now(), report)
	p.roster.dismiss()
	return metrics, err
}
