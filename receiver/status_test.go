// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/plog"
)

func TestStatusFollowsTheReadings(t *testing.T) {
	const (
		ok          = componentstatus.StatusOK
		recoverable = componentstatus.StatusRecoverableError
		permanent   = componentstatus.StatusPermanentError
	)
	full, gone := errors.New("full"), errors.New("gone")
	for name, test := range map[string]struct {
		tell func(*status)
		want []componentstatus.Status
	}{
		"nothing fails": {
			tell: func(s *status) { s.read("traffic", nil) },
		},
		"a reading fails, again, otherwise, and no longer": {
			tell: func(s *status) {
				for _, err := range []error{full, errors.New("full"), gone, nil, nil} {
					s.read("traffic", err)
				}
			},
			want: []componentstatus.Status{recoverable, recoverable, ok},
		},
		"all is well when the last of two is": {
			tell: func(s *status) {
				s.read("traffic", full)
				s.read("drops", gone)
				s.read("traffic", nil)
				s.read("drops", nil)
			},
			want: []componentstatus.Status{recoverable, recoverable, recoverable, ok},
		},
		"one that is off stays so": {
			tell: func(s *status) {
				s.leaveOff(gone, true)
				s.read("traffic", full)
				s.read("traffic", nil)
			},
			want: []componentstatus.Status{recoverable, recoverable},
		},
		"none runs": {
			tell: func(s *status) { s.leaveOff(gone, false) },
			want: []componentstatus.Status{permanent},
		},
		"what fails in a shutdown is not told": {
			tell: func(s *status) {
				s.close()
				s.read("traffic", full)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := &fakeHost{Host: componenttest.NewNopHost()}
			var s status
			s.open(h)
			test.tell(&s)
			if diff := cmp.Diff(test.want, h.statuses()); diff != "" {
				t.Errorf("reported status differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReceiverTellsWhenItCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := fakeLogs(), fakeLogs()
		first.errs = []error{nil, errors.New("full"), errors.New("full"), nil}
		r := twoInstruments(t, onUnsupportedError, first, second)
		for _, l := range r.loops {
			l.(*signalLoop[plog.Logs]).config = InstrumentConfig{Enabled: true, CollectionInterval: 10 * time.Second}
		}
		h := &fakeHost{Host: componenttest.NewNopHost()}
		if err := r.Start(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := []componentstatus.Status{componentstatus.StatusRecoverableError, componentstatus.StatusOK}
		if diff := cmp.Diff(want, h.statuses()); diff != "" {
			t.Errorf("reported status differs (-want +got):\n%s", diff)
		}
	})
}
