package traffic

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// pair is a server at the far end of a wire and a client at the near end, each a
// process of its own.
type pair struct {
	*wire
	client, server *helper
}

func converse(t *testing.T, l *lab) *pair {
	t.Helper()
	w := connect(t, l)
	return &pair{wire: w, client: start(t, w.near.Name), server: start(t, w.far.Name)}
}

// open connects the client to the server, which has accepted when it returns.
func (p *pair) open(kind string, address netip.Addr) {
	p.t.Helper()
	p.client.do("dial %s %s", kind, p.server.do("listen %s %v", kind, address))
	p.server.do("accept")
}

// pump sends bytes over the connection and waits until they have been received.
func pump(from, to *helper, bytes int) {
	from.t.Helper()
	from.begin("send %d", bytes)
	to.do("receive %d", bytes)
	from.end()
}

// What one process sent is what the other one received, and both are what the
// interfaces between them counted.
func TestKernelGivesBothProcessesWhatTheWireCarried(t *testing.T) {
	l := observe(t, Options{AllNamespaces: true})
	for name, test := range map[string]struct {
		kind string
		six  bool
	}{
		"TCP":             {kind: "tcp"},
		"TCP over IPv6":   {kind: "tcp", six: true},
		"MPTCP":           {kind: "mptcp"},
		"MPTCP over IPv6": {kind: "mptcp", six: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := converse(t, l)
			address := p.far.IPv4
			if test.six {
				address = p.far.IPv6
			}
			p.open(test.kind, address)
			pump(p.client, p.server, 3_000_000)
			pump(p.server, p.client, 2_000_000)

			near, far := p.moved()
			sent, received := near["transmit process"], far["transmit process"]
			if sent.bytes < 3_000_000 || received.bytes < 2_000_000 {
				t.Errorf("the process accounts have less than was sent: %+v, %+v", near, far)
			}
			p.requireUsage(t, p.client, p.near, map[string]quantity{"transmit": sent, "receive": received})
			p.requireUsage(t, p.server, p.far, map[string]quantity{"transmit": received, "receive": sent})
			want := map[string]quantity{"transmit process": sent, "receive process": received}
			if diff := cmp.Diff(want, near, cmp.AllowUnexported(quantity{})); diff != "" {
				t.Errorf("something on the near end is on another account (-want +got):\n%s", diff)
			}
		})
	}
}

// requireUsage waits until what a process moved through n's device is as wanted.
func (w *wire) requireUsage(t *testing.T, h *helper, n kerneltest.Namespace, want map[string]quantity) {
	t.Helper()
	eventually(t, "the usage is right", func() string {
		return cmp.Diff(want, w.lab.collect(t).usage(h.pid(), n.Device), cmp.AllowUnexported(quantity{}))
	})
}
