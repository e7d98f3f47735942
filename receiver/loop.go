// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.uber.org/zap"

	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// configuredInstrument is an instrument with its name in the configuration, its configuration, and
// the place where it counts its work.
type configuredInstrument[T instrument.Telemetry] struct {
	name       string
	config     InstrumentConfig
	recorder   *stats.Recorder
	instrument instrument.Instrument[T]
}

// signalLoop reads one instrument at its interval and delivers what was read. While a batch is not
// delivered nothing more is read; the kernel's ring is the queue.
type signalLoop[T instrument.Telemetry] struct {
	configuredInstrument[T]
	consumer  signalConsumer[T]
	logger    *zap.Logger
	stop      context.CancelFunc
	stopped   chan struct{}
	last      context.Context // of the last delivery; set before stop is called
	lastError string          // the last error of Collect, which is logged when it changes
	view      viewTap[T]      // for the view
	limit     *limit          // of what the loop takes; nil if there is none
	status    *status         // receives the results of reads
}

// lastDelivery bounds the time that a Shutdown spends on a consumer that does not take the last
// batch.
const lastDelivery = 5 * time.Second

func newSignalLoop[T instrument.Telemetry](configured configuredInstrument[T], consumer signalConsumer[T], logger *zap.Logger) *signalLoop[T] {
	return &signalLoop[T]{configuredInstrument: configured, consumer: consumer, logger: logger.With(zap.String("instrument", configured.name)), status: new(status)}
}

// Start starts the instrument. ctx is only for the start.
func (l *signalLoop[T]) Start(ctx context.Context) error { return l.instrument.Start(ctx) }

// Enable lets the instrument report, and starts the loop.
func (l *signalLoop[T]) Enable() error {
	if err := l.instrument.Enable(); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.Background())
	l.stop, l.stopped = stop, make(chan struct{})
	if !l.consumer.events {
		l.limit.count(1)
	}
	go l.run(running)
	return nil
}

// Shutdown delivers what was observed until now, and stops the instrument.
func (l *signalLoop[T]) Shutdown(ctx context.Context) error {
	if l.stop == nil {
		return l.instrument.Shutdown(ctx)
	}
	last, cancel := context.WithTimeout(ctx, lastDelivery)
	defer cancel()
	l.last = last
	l.stop()
	<-l.stopped
	l.stop = nil
	if !l.consumer.events {
		l.limit.count(-1)
	}
	return l.instrument.Shutdown(ctx)
}

// withLimit counts the CPU time of the loop for a limit, which may make it read less often.
func (l *signalLoop[T]) withLimit(limit *limit) *signalLoop[T] {
	l.limit = limit
	return l
}

// interval returns the time to the next read. Events are always read at their interval, since
// their ring would overflow otherwise.
func (l *signalLoop[T]) interval() time.Duration {
	if l.consumer.events {
		return l.config.CollectionInterval
	}
	return l.limit.interval(l.config.CollectionInterval)
}

func (l *signalLoop[T]) run(ctx context.Context) {
	defer close(l.stopped)
	if sleep(ctx, l.config.InitialDelay) {
		interval := l.config.CollectionInterval
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for more := true; more; {
			l.round(ctx)
			if wanted := l.interval(); wanted != interval {
				interval = wanted
				ticker.Reset(interval)
			}
			select {
			case <-ctx.Done():
				more = false
			case <-ticker.C:
			}
		}
	}
	if i, ok := l.instrument.(finisher); ok {
		i.Finish()
	}
	l.round(l.last)
}

// round reads the instrument once and delivers the result.
func (l *signalLoop[T]) round(ctx context.Context) {
	var batch T
	var err error
	l.limit.measureWork(func() { batch, err = l.collect(ctx) })
	l.logReading(err)
	whole := l.consumer.size(batch)
	if !l.consumer.events {
		l.recorder.Update(func(totals *stats.Totals) {
			totals.Scraped += uint64(whole.items)
			totals.Errored += countErrors(err)
		})
	}
	if whole.items == 0 {
		return
	}
	ctx = l.consumer.startOp(ctx)
	refused, err := l.offer(ctx, batch)
	if refused.items < whole.items {
		l.consumer.endOp(ctx, whole.items-refused.items, nil)
	}
	if i, ok := l.instrument.(instrument.Deliverer); ok && refused.items == 0 {
		l.delivered(i)
	}
	if refused.items > 0 {
		l.logger.Warn("the pipeline refused a batch", zap.Int("items", refused.items), zap.Error(err))
		l.consumer.endOp(ctx, refused.items, err)
	}
	if l.consumer.events {
		l.recorder.Update(func(totals *stats.Totals) { recordDelivery(totals, whole.events-refused.events, refused.events) })
	}
}

// offer passes the batch to the pipeline, and returns how much of it was refused permanently.
// Events are offered until they are taken, or until the receiver is shut down and a last attempt
// has failed. Points are offered once.
func (l *signalLoop[T]) offer(ctx context.Context, batch T) (size, error) {
	if !l.consumer.events {
		if err := l.consumer.consume(ctx, batch); err != nil {
			return l.consumer.size(batch), err
		}
		return size{}, nil
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 100*time.Millisecond, 5*time.Second
	for last := false; ; {
		// A pipeline may change what it is given, and a second offer must have the
		// original.
		err := l.consumer.consume(ctx, l.consumer.clone(batch))
		if err == nil {
			return size{}, nil
		}
		batch = l.consumer.remainder(batch, err)
		if consumererror.IsPermanent(err) {
			return l.consumer.size(batch), err
		}
		l.audit()
		if sleep(ctx, pause.NextBackOff()) {
			continue
		}
		if last {
			return l.consumer.size(batch), err
		}
		ctx, last = l.last, true
	}
}

// auditor is an instrument that can update its counts without reading events. While a batch waits,
// the counts then show what the ring loses meanwhile.
type auditor interface{ Audit() error }

// finisher is an instrument that has to know that the next Collect is the last one.
type finisher interface{ Finish() }

func (l *signalLoop[T]) audit() {
	if auditor, ok := l.instrument.(auditor); ok {
		l.logReading(auditor.Audit())
	}
}

// countErrors returns how many errors were joined. An instrument joins one error for each thing
// that it could not read.
func countErrors(err error) (count uint64) {
	switch e := err.(type) { //nolint:errorlint // wrapped errors are examined below
	case nil:
		return 0
	case interface{ Unwrap() []error }:
		for _, part := range e.Unwrap() {
			count += countErrors(part)
		}
		return count
	case interface{ Unwrap() error }:
		return max(1, countErrors(e.Unwrap()))
	default:
		return 1
	}
}

// recordDelivery counts delivered events by the result.
func recordDelivery(totals *stats.Totals, exported, refused int) {
	totals.Exported += uint64(exported)
	if refused == 0 {
		return
	}
	if totals.Lost == nil {
		totals.Lost = map[string]uint64{}
	}
	totals.Lost["refused"] += uint64(refused)
}

// logReading counts an error of Collect and reports it to the status. It logs the error once, and
// again only when it has changed or gone.
func (l *signalLoop[T]) logReading(err error) {
	var text string
	if err != nil {
		text = err.Error()
		l.recorder.Update(func(totals *stats.Totals) { totals.CollectErrors++ })
	}
	if text != "" && text != l.lastError {
		l.logger.Warn("reading is incomplete", zap.Error(err))
	}
	l.lastError = text
	l.status.read(l.name, err)
}

// withStatus lets the loop report the results of reads.
func (l *signalLoop[T]) withStatus(status *status) *signalLoop[T] {
	l.status = status
	return l
}

func (l *signalLoop[T]) namedStats() namedStats {
	return namedStats{name: l.name, totals: l.recorder.Read()}
}

// sleep waits for d, and reports whether it did. It ends early if ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
