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

// viewServer is the view of one configured receiver. It is open while all signals of that receiver run. A
// nil viewServer does nothing.
type viewServer struct {
	shared    *sharedReceiver
	directory *process.Directory // separate, so that it does not describe processes for the pipelines

	mu        sync.Mutex
	view      *view.View
	expected  []*signalReceiver // the signals that have a pipeline
	running   []*signalReceiver // those of them that run
	viewOnly  []*signalReceiver // the signals without a pipeline, whose instruments run for the view
	watched   []*signalReceiver // all signals, while the view is open
	server    *http.Server
	listening net.Addr
	stop      context.CancelFunc // stops its goroutines
	stopped   sync.WaitGroup
}

// readingInterval is how often instruments are read while someone watches.
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

// consumers returns the functions that take the deliveries of instruments, by the instruments' names.
func (v *viewServer) consumers() map[string]any {
	return map[string]any{
		"traffic": v.view.Traffic, "drops": v.view.Drops, "accepts": v.view.Accepts, "calls": v.view.Calls,
		"drop_records": v.view.Accepts, "listeners": v.view.Queues, "connections": v.view.Connections, "wait_durations": v.view.WaitDurations,
	}
}

// expect records that a signal has a pipeline.
func (v *viewServer) expect(r *signalReceiver) {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expected = append(v.expected, r)
}

// open records that a signal runs. The view begins with the last signal, as it is only then known
// which instruments have no pipeline.
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

// listen returns nil if the view has no endpoint.
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

// startViewOnly starts the instruments of signals that have no pipeline. If one cannot run, only
// the view lacks it.
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

// loadViewOnly loads the instruments that [viewServer.startViewOnly] starts.
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

// refreshWhileWatched reads the instruments each second while someone watches.
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

// all returns the running signals, both those of pipelines and those for the view.
func (v *viewServer) all() []*signalReceiver {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.watched
}

// close records that a signal ends. The view ends with the first one.
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
	if stop == nil { // it was not open, but its instruments may be loaded
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
