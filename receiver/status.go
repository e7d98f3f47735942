// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
)

// status is what the Collector is told of how a receiver does: a recoverable error while
// some of its instruments are off or cannot be read as a whole, and that all is well when
// they can be again. A status that is not open tells nobody.
type status struct {
	mu      sync.Mutex
	host    component.Host   // nil: not open
	off     bool             // an instrument is, for as long as the receiver runs
	failing map[string]error // the last reading, by instrument
}

// open begins to tell a host.
func (s *status) open(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host, s.off, s.failing = host, false, map[string]error{}
}

// close ends that. What fails in a shutdown is the error of the shutdown.
func (s *status) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = nil
}

// leaveOff tells that instruments are off, for err. Where none runs the receiver is of no use,
// and nothing that happens later changes that.
func (s *status) leaveOff(err error, someRun bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
	if someRun {
		s.report(componentstatus.NewRecoverableErrorEvent(err))
	} else {
		s.report(componentstatus.NewPermanentErrorEvent(err))
	}
}

// read tells how the last reading of an instrument went, if that changes anything: as often
// as the log does.
func (s *status) read(instrument string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.host == nil {
		return
	}
	before := s.failing[instrument]
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		s.failing[instrument] = err
		s.report(componentstatus.NewRecoverableErrorEvent(err))
	case err == nil && before != nil:
		delete(s.failing, instrument)
		s.reportRest()
	}
}

// reportRest tells what is left when an instrument can be read again.
func (s *status) reportRest() {
	switch {
	case len(s.failing) > 0:
		s.report(componentstatus.NewRecoverableErrorEvent(errors.Join(slices.Collect(maps.Values(s.failing))...)))
	case !s.off:
		s.report(componentstatus.NewEvent(componentstatus.StatusOK))
	default: // as it was told when that was left off
	}
}

// report is for those who hold the lock.
func (s *status) report(event *componentstatus.Event) {
	if s.host != nil {
		componentstatus.ReportStatus(s.host, event)
	}
}
