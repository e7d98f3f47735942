// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
	"github.com/seed-7756021b/nettap/internal/owner"
)

// TestKernelBalancesAnInterfaceThatNeverRests has traffic that began before the receiver and never pauses. All of it is seen, so nothing may be
// unobserved.
func TestKernelBalancesAnInterfaceThatNeverRests(t *testing.T) {
	const entered = "in namespaces that a process enters"
	for name, enter := range map[string]func(t *testing.T, w *wire, looks func()){
		"in namespaces that have a process": func(t *testing.T, w *wire, looks func()) {
			inhabit(t, w)
			w.lab = observe(t, owner.Options{MaxProcesses: 4096})
			looks()
		},
		entered: func(t *testing.T, w *wire, looks func()) {
			w.lab = observe(t, owner.Options{MaxProcesses: 4096})
			looks()
			for _, n := range []kerneltest.Namespace{w.near, w.far} {
				if got := w.lab.collect(t).unobserved(in(t, n.Name, n.Device)); got != nil {
					t.Errorf("%s has no process, but %v are unobserved", n.Name, got)
				}
			}
			inhabit(t, w)
			looks()
		},
		"in namespaces that have no process for a while": func(t *testing.T, w *wire, looks func()) {
			leave := inhabit(t, w)
			w.lab = observe(t, owner.Options{MaxProcesses: 4096})
			looks()
			leave()
			looks()
			inhabit(t, w)
			looks()
		},
	} {
		if testing.Short() && name != entered {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w := lay(t)
			rest := w.stream(t)
			enter(t, w, func() { w.look(t) })
			rest()
			eventually(t, "nothing is unobserved", func() string {
				published := w.lab.collect(t)
				for _, n := range []kerneltest.Namespace{w.near, w.far} {
					if diff := cmp.Diff([]int64{0, 0, 0, 0}, published.unobserved(in(t, n.Name, n.Device))); diff != "" {
						return fmt.Sprintf("%s: %s", n.Device, diff)
					}
				}
				return ""
			})
		})
	}
}

// inhabit starts a process at each end. They end with the test, unless leave was called before.
func inhabit(t *testing.T, w *wire) (leave func()) {
	t.Helper()
	leaveNear, leaveFar := kerneltest.Inhabit(t, w.near.Name), kerneltest.Inhabit(t, w.far.Name)
	return func() { leaveNear(); leaveFar() }
}

// look collects until the far end's counter has changed several times.
func (w *wire) look(t *testing.T) {
	t.Helper()
	for range 5 {
		before := counterOf(t, w.far.Name, w.far.Device)
		w.lab.collect(t)
		eventually(t, "the stream goes on", func() string {
			if counterOf(t, w.far.Name, w.far.Device) == before {
				return "nothing has arrived"
			}
			return ""
		})
	}
}

// stream sends datagrams to the far end as fast as it can until rest is called.
func (w *wire) stream(t *testing.T) (rest func()) {
	t.Helper()
	var from, to *net.UDPConn
	w.inFar(func() { to = datagrams(t, w.far.IPv4, 0) })
	w.inNear(func() { from = datagrams(t, w.near.IPv4, 0) })
	stop := make(chan struct{})
	var streams sync.WaitGroup
	streams.Go(func() {
		for datagram := make([]byte, 1400); ; {
			select {
			case <-stop:
				return
			default:
				from.WriteTo(datagram, to.LocalAddr()) //nolint:errcheck // a datagram that is not sent is not counted
			}
		}
	})
	rest = sync.OnceFunc(func() { close(stop); streams.Wait() })
	t.Cleanup(rest)
	return rest
}
