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

// status tells the Collector how a receiver works: it reports a recoverable error while some of
// its instruments are off or cannot be read completely, and that all is well when they can be read
// again. A status that is not open reports nothing.
type status struct {
	mu      sync.Mutex
	host    component.Host   // nil: not open
	off     bool             // an instrument is off, until the receiver stops
	failing map[string]error // the error of the last read, by instrument
}

// open begins to report to a host.
func (s *status) open(host component.Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host, s.off, s.failing = host, false, map[string]error{}
}

// close ends the reports. An error of a shutdown is returned by the shutdown itself.
func (s *status) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = nil
}

// leaveOff reports that instruments are off because of err. If no instrument runs the receiver is
// useless, which nothing that happens later can change.
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

// read reports the result of an instrument's last read if it has changed, as often as the log
// does.
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

// reportRest reports what remains when an instrument can be read again.
func (s *status) reportRest() {
	switch {
	case len(s.failing) > 0:
		s.report(componentstatus.NewRecoverableErrorEvent(errors.Join(slices.Collect(maps.Values(s.failing))...)))
	case !s.off:
		s.report(componentstatus.NewEvent(componentstatus.StatusOK))
	default: // what was reported when instruments were left off still holds
	}
}

// report reports an event. The caller holds the lock.
func (s *status) report(event *componentstatus.Event) {
	if s.host != nil {
		componentstatus.ReportStatus(s.host, event)
	}
}
