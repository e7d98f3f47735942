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

// peeking is what a Peek has for itself: it must not describe a process that nobody has
// described yet in the name of Collect.
type peeking struct {
	builder   *metadata.MetricsBuilder
	processes *process.Directory
	roster    *roster
	arrived   []uint64 // packets on each CPU, at the last Peek
}

// PeekWith lets the instrument be peeked at, from the next Start on. What Peek returns is
// made by builder, of processes as directory describes them.
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

// Peek implements [instrument.Peeker]. It enters what the kernel side has counted into a
// copy of the ledger, and surveys nothing: a survey settles what waits for its owner.
func (t *Traffic) Peek(context.Context) (pmetric.Metrics, error) {
	if t.peeking == nil || t.ledger == nil {
		return pmetric.NewMetrics(), errors.ErrUnsupported
	}
	p := t.peeking
	cpus, err := t.readArrivals()
	if err != nil {
		return pmetric.NewMetrics(), err
	}
	since := p.arrived // whoever claims what had arrived by then has done so
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
