// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/policy"
)

func TestKernelSaysWhatIsUnexpectedAndLearnsIt(t *testing.T) {
	ours, address := listen(t, "127.0.0.1:0")
	theirs, other := listen(t, "127.0.0.1:0")
	own, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "learned.yaml")
	o := observe(t, func(a *Accepts) {
		a.options.Learn = file
		a.policy = policy.New([]policy.Rule{{Ports: []uint16{address.Port()}, Executables: []string{own}, Users: []uint32{0}}})
	})
	startServer(t, "blocking", ours, 0)
	startServer(t, "blocking", theirs, 0)
	connect(t, address)
	connect(t, other)
	o.expectVerdicts(t, address.Port(), expected)
	o.expectVerdicts(t, other.Port(), unexpected)
	if err := o.accepts.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The rules that were learned expect all of these accepts, and no others.
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var learned struct{ Expect []policy.Rule }
	if err := yaml.Unmarshal(content, &learned); err != nil {
		t.Fatal(err)
	}
	o.records, o.accepts.policy = nil, policy.New(learned.Expect)
	if err := errors.Join(o.accepts.Start(t.Context()), o.accepts.Enable()); err != nil {
		t.Fatal(err)
	}
	stranger, strange := listen(t, "127.0.0.1:0")
	startServer(t, "blocking", stranger, nobody)
	connect(t, address)
	connect(t, other)
	connect(t, strange)
	o.expectVerdicts(t, address.Port(), expected)
	o.expectVerdicts(t, other.Port(), expected)
	o.expectVerdicts(t, strange.Port(), unexpected)
}

// expectVerdicts compares the verdicts on the accepts of a port.
func (o *fixture) expectVerdicts(t *testing.T, port uint16, want ...string) {
	t.Helper()
	got := o.on(t, port)
	if len(got) != len(want) {
		t.Errorf("%d accepts on %d, want %d", len(got), port, len(want))
		return
	}
	for i, s := range got {
		if s.verdict != want[i] {
			t.Errorf("%q is %s, want %s", s.Body, s.verdict, want[i])
		}
	}
}

func TestKernelReportsRefusedAttemptsAndBalances(t *testing.T) {
	kerneltest.NeedDroppers(t)
	o := observe(t, func(a *Accepts) { a.options.Refused = true })
	listener, address := listen(t, "127.0.0.1:0")
	listener.Close()
	for range 3 {
		if _, err := net.Dial("tcp", address.String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	o.accepts.Finish()
	o.balanced(t)
	var counts []int64
	for _, record := range o.others {
		port, _ := record.Attributes().Get("network.local.port")
		if count, ok := record.Attributes().Get("nettap.connection.refused.count"); ok && port.Int() == int64(address.Port()) {
			counts = append(counts, count.Int())
		}
	}
	if len(counts) != 1 || counts[0] != 3 {
		t.Errorf("refused attempts are %v, want 3 once", counts)
	}
}
