package nettapreceiver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/drops"
	"github.com/seed-7756021b/nettap/internal/process"
	"github.com/seed-7756021b/nettap/internal/view"
)

// viewing is the view of one configured receiver: it is there while all its signals run.
// A nil one does nothing.
type viewing struct {
	house     *house
	directory *process.Directory // of its own: it must not describe a process for the pipelines

	mu        sync.Mutex
	view      *view.View
	expected  []*nettap // signals with a pipeline
	running   []*nettap // those of them that run
	alone     []*nettap // signals without one, whose instruments run for the view
	watched   []*nettap // all, while the view is open
	server    *http.Server
	listening net.Addr
	stop      context.CancelFunc // of what it does beside answering
	stopped   sync.WaitGroup
}

// readingInterval is how often instruments are read while somebody watches.
const readingInterval = time.Second

func newViewing(h *house) *viewing {
	v := &viewing{house: h, directory: process.NewDirectory(h.config.RootPath, h.clock)}
	v.directory.ReadCommandLines = h.config.View.CommandLines
	host, _ := os.Hostname()
	v.view = view.New(view.Options{
		Instance: uuid.NewString(), Host: host, TraceURL: h.config.View.TraceURL, CommandLines: h.config.View.CommandLines,
		Now: time.Now, Health: v.health, Cost: processCost, Explain: drops.Explain,
	})
	return v
}

// takers take what instruments deliver, by their name.
func (v *viewing) takers() map[string]any {
	return map[string]any{"traffic": v.view.Traffic, "drops": v.view.Drops, "accepts": v.view.Accepts, "calls": v.view.Calls}
}

// expect notes that a signal has a pipeline.
func (v *viewing) expect(n *nettap) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expected = append(v.expected, n)
}

// open notes that a signal runs. With the last one the view begins: then it is known which
// instruments no pipeline has.
func (v *viewing) open(ctx context.Context, n *nettap, host component.Host) error {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running = append(v.running, n)
	if len(v.running) < len(v.expected) || n.alone {
		return nil
	}
	v.view.Open(n.id.String())
	listener, err := v.listen(ctx, n, host)
	if err != nil {
		return fmt.Errorf("start view: %w", err)
	}
	v.startAlone(ctx, n)
	v.watched = slices.Concat(v.running, v.alone)
	running, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.stopped.Go(func() { v.read(running) })
	if c := v.house.config.View; c.Print > 0 {
		v.stopped.Go(func() { v.view.Print(running, os.Stdout, c.Print, v.address(listener)) })
	}
	if listener != nil {
		server := v.server
		v.stopped.Go(func() {
			if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				n.logger.Warn("the view has ended", zap.Error(err))
			}
		})
	}
	return nil
}

// listen returns nil where the view has no endpoint.
func (v *viewing) listen(ctx context.Context, n *nettap, host component.Host) (net.Listener, error) {
	c := &v.house.config.View
	if c.NetAddr.Endpoint == "" {
		return nil, nil
	}
	listener, err := c.ToListener(ctx)
	if err != nil {
		return nil, fmt.Errorf("view.endpoint: %w", err)
	}
	v.listening = listener.Addr()
	v.server, err = c.ToServer(ctx, host.GetExtensions(), n.settings, v.view.Handler(listener.Addr(), c.AllowedHosts))
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if !view.IsLoopback(listener.Addr()) && !c.TLS.HasValue() && !c.Auth.HasValue() {
		n.logger.Warn("the view can be read by whoever reaches its endpoint: set view.tls or view.auth, or an endpoint on loopback",
			zap.String("endpoint", c.NetAddr.Endpoint))
	}
	return listener, nil
}

func (v *viewing) address(listener net.Listener) string {
	if listener == nil {
		return ""
	}
	return listener.Addr().String()
}

// startAlone starts the instruments of signals that have no pipeline. One that cannot run
// is missing in the view, and in nothing else.
func (v *viewing) startAlone(ctx context.Context, like *nettap) {
	guest := v.house.forView()
	settings := receiver.Settings{ID: like.id, TelemetrySettings: like.settings, BuildInfo: like.build}
	all := []struct {
		signal string
		make   func() *nettap
	}{
		{signalMetrics, func() *nettap { return newGuest(guest, settings, metricsTasks) }},
		{signalLogs, func() *nettap { return newGuest(guest, settings, logsTasks) }},
		{signalTraces, func() *nettap { return newGuest(guest, settings, tracesTasks) }},
	}
	for _, one := range all {
		if slices.ContainsFunc(v.expected, func(n *nettap) bool { return n.signal == one.signal }) {
			continue
		}
		n := one.make()
		n.requireHost = like.requireHost
		if err := n.startWorkers(ctx); err != nil {
			n.logger.Warn("the view lacks an instrument that no pipeline has", zap.Error(err))
		}
		for _, w := range n.running {
			w.ledger().log(n.logger)
		}
		v.alone = append(v.alone, n)
	}
}

// read has the instruments looked at each second while somebody watches.
func (v *viewing) read(ctx context.Context) {
	for v.view.AwaitWatcher(ctx) {
		ticker := time.NewTicker(readingInterval)
		for v.view.IsWatched() {
			v.look(ctx)
			select {
			case <-ctx.Done():
				ticker.Stop()
				return
			case <-ticker.C:
			}
		}
		ticker.Stop()
	}
}

func (v *viewing) look(ctx context.Context) {
	began := time.Now()
	v.house.limit.take(func() {
		for _, n := range v.all() {
			for _, w := range n.running {
				w.look(ctx)
			}
		}
		v.view.Tick(time.Since(began))
	})
}

// all returns the signals that run, of pipelines and for the view.
func (v *viewing) all() []*nettap {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.watched
}

// close notes that a signal ends, and the view with the first.
func (v *viewing) close(ctx context.Context, n *nettap) error {
	if v == nil || n.alone {
		return nil
	}
	v.mu.Lock()
	v.running = slices.DeleteFunc(v.running, func(other *nettap) bool { return other == n })
	stop, server, alone := v.stop, v.server, v.alone
	v.stop, v.server, v.alone, v.watched = nil, nil, nil, nil
	v.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	v.view.Close()
	var errs error
	if server != nil {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if server.Shutdown(short) != nil {
			errs = server.Close()
		}
	}
	v.stopped.Wait()
	for _, guest := range slices.Backward(alone) {
		errs = errors.Join(errs, guest.stopWorkers(ctx))
	}
	return errs
}
