// SPDX-License-Identifier: Apache-2.0

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

// viewServer is the view of one configured receiver: it is there while all its signals run.
// A nil one does nothing.
type viewServer struct {
	shared    *sharedReceiver
	directory *process.Directory // of its own: it must not describe a process for the pipelines

	mu        sync.Mutex
	view      *view.View
	expected  []*signalReceiver // signals with a pipeline
	running   []*signalReceiver // those of them that run
	viewOnly  []*signalReceiver // signals without one, whose instruments run for the view
	watched   []*signalReceiver // all, while the view is open
	server    *http.Server
	listening net.Addr
	stop      context.CancelFunc // of what it does beside answering
	stopped   sync.WaitGroup
}

// readingInterval is how often instruments are read while somebody watches.
const readingInterval = time.Second

func newViewServer(shared *sharedReceiver) *viewServer {
	v := &viewServer{shared: shared, directory: process.NewDirectory(shared.config.RootPath, shared.clock)}
	v.directory.ReadCommandLines = shared.config.View.CommandLines
	host, _ := os.Hostname()
	v.view = view.New(view.Options{
		Instance: uuid.NewString(), Host: host, TraceURL: shared.config.View.TraceURL, CommandLines: shared.config.View.CommandLines,
		Now: time.Now, Health: v.health, Cost: processCost, Explain: drops.Explain,
	})
	return v
}

// consumers take what instruments deliver, by their name.
func (v *viewServer) consumers() map[string]any {
	return map[string]any{"traffic": v.view.Traffic, "drops": v.view.Drops, "accepts": v.view.Accepts, "calls": v.view.Calls}
}

// expect notes that a signal has a pipeline.
func (v *viewServer) expect(r *signalReceiver) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expected = append(v.expected, r)
}

// open notes that a signal runs. With the last one the view begins: then it is known which
// instruments no pipeline has.
func (v *viewServer) open(ctx context.Context, r *signalReceiver, host component.Host) error {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.running = append(v.running, r)
	if len(v.running) < len(v.expected) || r.viewOnly {
		return nil
	}
	v.view.Open(r.id.String())
	listener, err := v.listen(ctx, r, host)
	if err != nil {
		return fmt.Errorf("start view: %w", err)
	}
	v.startViewOnly(ctx, r)
	v.watched = slices.Concat(v.running, v.viewOnly)
	running, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.stopped.Go(func() { v.refreshWhileWatched(running) })
	if c := v.shared.config.View; c.Print > 0 {
		v.stopped.Go(func() { v.view.Print(running, os.Stdout, c.Print, v.address(listener)) })
	}
	if listener != nil {
		server := v.server
		v.stopped.Go(func() {
			if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				r.logger.Warn("the view has ended", zap.Error(err))
			}
		})
	}
	return nil
}

// listen returns nil where the view has no endpoint.
func (v *viewServer) listen(ctx context.Context, r *signalReceiver, host component.Host) (net.Listener, error) {
	c := &v.shared.config.View
	if c.NetAddr.Endpoint == "" {
		return nil, nil
	}
	listener, err := c.ToListener(ctx)
	if err != nil {
		return nil, fmt.Errorf("view.endpoint: %w", err)
	}
	v.listening = listener.Addr()
	v.server, err = c.ToServer(ctx, host.GetExtensions(), r.settings, v.view.Handler(listener.Addr(), c.AllowedHosts))
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if !view.IsLoopback(listener.Addr()) && !c.TLS.HasValue() && !c.Auth.HasValue() {
		r.logger.Warn("the view can be read by whoever reaches its endpoint: set view.tls or view.auth, or an endpoint on loopback",
			zap.String("endpoint", c.NetAddr.Endpoint))
	}
	return listener, nil
}

func (v *viewServer) address(listener net.Listener) string {
	if listener == nil {
		return ""
	}
	return listener.Addr().String()
}

// startViewOnly starts the instruments of signals that have no pipeline. One that cannot run
// is missing in the view, and in nothing else.
func (v *viewServer) startViewOnly(ctx context.Context, like *signalReceiver) {
	v.makeViewOnly(like)
	for _, r := range v.viewOnly {
		if err := r.startLoops(ctx); err != nil {
			r.logger.Warn("the view lacks an instrument that no pipeline has", zap.Error(err))
		}
		for _, l := range r.running {
			l.namedStats().log(r.logger)
		}
	}
}

// loadViewOnly loads what [viewServer.startViewOnly] starts.
func (v *viewServer) loadViewOnly(ctx context.Context, like *signalReceiver) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.makeViewOnly(like)
	for _, r := range v.viewOnly {
		r.load(ctx)
	}
}

func (v *viewServer) makeViewOnly(like *signalReceiver) {
	if v.viewOnly != nil {
		return
	}
	guest := v.shared.forView()
	settings := receiver.Settings{ID: like.id, TelemetrySettings: like.settings, BuildInfo: like.build}
	all := []struct {
		signal string
		make   func() *signalReceiver
	}{
		{signalMetrics, func() *signalReceiver { return newViewOnlyReceiver(guest, settings, metricsInstruments) }},
		{signalLogs, func() *signalReceiver { return newViewOnlyReceiver(guest, settings, logsInstruments) }},
		{signalTraces, func() *signalReceiver { return newViewOnlyReceiver(guest, settings, tracesInstruments) }},
	}
	for _, one := range all {
		if slices.ContainsFunc(v.expected, func(r *signalReceiver) bool { return r.signal == one.signal }) {
			continue
		}
		r := one.make()
		r.requireHost = like.requireHost
		v.viewOnly = append(v.viewOnly, r)
	}
}

// refreshWhileWatched has the instruments looked at each second while somebody watches.
func (v *viewServer) refreshWhileWatched(ctx context.Context) {
	for v.view.AwaitWatcher(ctx) {
		ticker := time.NewTicker(readingInterval)
		for v.view.IsWatched() {
			v.refresh(ctx)
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

func (v *viewServer) refresh(ctx context.Context) {
	began := time.Now()
	v.shared.limit.measureWork(func() {
		for _, r := range v.all() {
			for _, l := range r.running {
				l.refreshView(ctx)
			}
		}
		v.view.Tick(time.Since(began))
	})
}

// all returns the signals that run, of pipelines and for the view.
func (v *viewServer) all() []*signalReceiver {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.watched
}

// close notes that a signal ends, and the view with the first.
func (v *viewServer) close(ctx context.Context, r *signalReceiver) error {
	if v == nil || r.viewOnly {
		return nil
	}
	v.mu.Lock()
	v.running = slices.DeleteFunc(v.running, func(other *signalReceiver) bool { return other == r })
	stop, server, alone := v.stop, v.server, v.viewOnly
	v.stop, v.server, v.viewOnly, v.watched = nil, nil, nil, nil
	v.mu.Unlock()
	var errs error
	if stop == nil { // it was not open; what it needs may be loaded
		for _, guest := range slices.Backward(alone) {
			errs = errors.Join(errs, guest.stopLoops(ctx))
		}
		return errs
	}
	stop()
	v.view.Close()
	if server != nil {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if server.Shutdown(short) != nil {
			errs = server.Close()
		}
	}
	v.stopped.Wait()
	for _, guest := range slices.Backward(alone) {
		errs = errors.Join(errs, guest.stopLoops(ctx))
	}
	return errs
}
