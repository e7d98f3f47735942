// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"
)

// step records its calls in a log that several steps share, and returns the errors that a test gives it.
type step struct {
	plain
	name string
	log  *[]string
	errs map[string]error // by the call that returns them
}

func (s step) note(deed string) error {
	*s.log = append(*s.log, deed+" "+s.name)
	return s.errs[deed]
}

func (s step) Start(context.Context) error    { return s.note("start") }
func (s step) Enable() error                  { return s.note("enable") }
func (s step) Shutdown(context.Context) error { return s.note("shutdown") }

// plain is an instrument without optional methods.
type plain struct{}

func (plain) Collect(context.Context) (plog.Logs, error) { return plog.NewLogs(), nil }

// able is an instrument with all optional methods.
type able struct{ step }

func (a able) Delivered()   { _ = a.note("delivered to") }
func (a able) Audit() error { return a.note("audit") }
func (a able) Finish()      { _ = a.note("finish") }
func (a able) Peek(context.Context) (plog.Logs, error) {
	return records("seen"), a.note("peek")
}

func TestDependentRunsWithinItsDependency(t *testing.T) {
	failure := errors.New("no")
	for name, test := range map[string]struct {
		dependency, instrument map[string]error
		want                   []string
		fails                  bool
	}{
		"all is well": {
			want: []string{"start dependency", "start instrument", "enable dependency", "enable instrument", "shutdown instrument", "shutdown dependency"},
		},
		"the dependency does not start": {
			dependency: map[string]error{"start": failure},
			want:       []string{"start dependency"},
			fails:      true,
		},
		"the instrument does not start, so the dependency is shut down": {
			instrument: map[string]error{"start": failure},
			want:       []string{"start dependency", "start instrument", "shutdown dependency"},
			fails:      true,
		},
		"the dependency is not enabled": {
			dependency: map[string]error{"enable": failure},
			want:       []string{"start dependency", "start instrument", "enable dependency", "shutdown instrument", "shutdown dependency"},
			fails:      true,
		},
		"the instrument does not shut down, and the dependency does": {
			instrument: map[string]error{"shutdown": failure},
			want:       []string{"start dependency", "start instrument", "enable dependency", "enable instrument", "shutdown instrument", "shutdown dependency"},
			fails:      true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log []string
			both := dependent[plog.Logs]{
				step{name: "dependency", log: &log, errs: test.dependency}, step{name: "instrument", log: &log, errs: test.instrument},
			}
			err := both.Start(t.Context())
			if err == nil {
				err = errors.Join(both.Enable(), both.Shutdown(t.Context()))
			}
			if errors.Is(err, failure) != test.fails {
				t.Errorf("error is %v", err)
			}
			if diff := cmp.Diff(test.want, log); diff != "" {
				t.Errorf("what was done differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDependentHandsOnWhatItsInstrumentCanDo requires that the optional methods of the instrument inside
// are called, and that nothing happens if it has none.
func TestDependentHandsOnWhatItsInstrumentCanDo(t *testing.T) {
	var log []string
	dependency := step{name: "dependency", log: &log}
	whole := dependent[plog.Logs]{dependency, dependent[plog.Logs]{dependency, able{step{name: "instrument", log: &log}}}}
	whole.Delivered()
	whole.Finish()
	seen, err := whole.Peek(t.Context())
	if err := errors.Join(err, whole.Audit()); err != nil || seen.LogRecordCount() != 1 {
		t.Errorf("it returned %d records and error %v", seen.LogRecordCount(), err)
	}
	if diff := cmp.Diff([]string{"delivered to instrument", "finish instrument", "peek instrument", "audit instrument"}, log); diff != "" {
		t.Errorf("what was done differs (-want +got):\n%s", diff)
	}

	less := dependent[plog.Logs]{dependency, step{name: "instrument", log: &log}}
	log = nil
	less.Delivered()
	less.Finish()
	if err := less.Audit(); err != nil {
		t.Error(err)
	}
	if _, err := less.Peek(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a look at what cannot be looked at: %v", err)
	}
	if log != nil {
		t.Errorf("an instrument was asked for what it cannot do: %v", log)
	}
}
