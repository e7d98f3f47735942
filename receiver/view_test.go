// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/stats"
)

// peeked is an instrument that can be peeked at.
type peeked struct {
	*fake[pmetric.Metrics]
	sights []pmetric.Metrics
}

func (p *peeked) Peek(context.Context) (pmetric.Metrics, error) {
	p.note("peek")
	if len(p.sights) == 0 {
		return pmetric.NewMetrics(), nil
	}
	sight := p.sights[0]
	p.sights = p.sights[1:]
	return sight, nil
}

// values returns the values of a batch of points.
func values(metrics pmetric.Metrics) (all []int64) {
	for _, point := range metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().All() {
		all = append(all, point.IntValue())
	}
	return all
}

// lookedAt returns a loop that collects every 10 s and is being watched.
func lookedAt(t *testing.T, p *peeked, taker *pipeline, show func(pmetric.Metrics)) *signalLoop[pmetric.Metrics] {
	t.Helper()
	consumer, err := newMetricsConsumer(receivertest.NewNopSettings(metadata.Type), taker)
	if err != nil {
		t.Fatal(err)
	}
	l := newSignalLoop(configuredInstrument[pmetric.Metrics]{"traffic", InstrumentConfig{CollectionInterval: 10 * time.Second, InitialDelay: time.Second}, new(stats.Recorder), p}, consumer, zap.NewNop())
	l.view.show = show
	return l
}

// TestPipelinesGetTheSameWhileSomebodyLooksOn requires that pipelines get the same whether someone watches
// or not, and that the watcher is shown everything that pipelines get, and more.
func TestPipelinesGetTheSameWhileSomebodyLooksOn(t *testing.T) {
	live := func(t *testing.T, watched bool) (pipelines, deeds []string, shown []int64) {
		synctest.Test(t, func(t *testing.T) {
			p := &peeked{fakeMetrics(points(1), points(3), points(5)), []pmetric.Metrics{points(2), points(2), points(4)}}
			taker := &pipeline{answers: []error{nil, errBusy}}
			var show func(pmetric.Metrics)
			if watched {
				show = func(metrics pmetric.Metrics) { shown = append(shown, values(metrics)...) }
			}
			l := lookedAt(t, p, taker, show)
			if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				time.Sleep(6 * time.Second) // so that it never peeks at the time of a collection
				l.refreshView(t.Context())
			}
			if err := l.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, deed := range p.log {
				if deed != "peek" {
					deeds = append(deeds, deed)
				}
			}
			pipelines = took(taker)
		})
		return pipelines, deeds, shown
	}
	pipelines, deeds, _ := live(t, false)
	sameToPipelines, sameDeeds, shown := live(t, true)
	if diff := cmp.Diff(pipelines, sameToPipelines); diff != "" || len(pipelines) != 2 {
		t.Errorf("pipelines take something else (-unwatched +watched):\n%s", diff)
	}
	if diff := cmp.Diff(deeds, sameDeeds); diff != "" {
		t.Errorf("the instrument is used otherwise (-unwatched +watched):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 2, 4, 5}, shown); diff != "" {
		t.Errorf("what is shown differs (-want +got):\n%s", diff)
	}
}

// TestPartialBatchesAreNotShown requires that the view reads the instrument itself if the pipelines' points
// lack something that distinguishes series.
func TestPartialBatchesAreNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peeked{fakeMetrics(points(1)), []pmetric.Metrics{points(9)}}
		var shown []int64
		l := lookedAt(t, p, &pipeline{}, func(metrics pmetric.Metrics) { shown = append(shown, values(metrics)...) })
		l.view.partial = true
		if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{9}, shown); diff != "" {
			t.Errorf("what is shown differs (-want +got):\n%s", diff)
		}
	})
}

func TestPanicOfTheViewIsNothingToPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		taker, shown := &pipeline{}, 0
		l := lookedAt(t, &peeked{fake: fakeMetrics(points(1), points(2))}, taker, func(pmetric.Metrics) { shown++; panic("oh") })
		if err := errors.Join(l.Start(t.Context()), l.Enable()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if err := l.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := took(taker); len(got) != 2 || shown != 1 {
			t.Errorf("pipelines took %v, and the view was asked %d times; want 2 and once", got, shown)
		}
	})
}

// withView returns a receiver of metrics with a view. It runs on any machine.
func withView(t *testing.T, endpoint, onUnsupported string, instrument *fake[pmetric.Metrics]) *signalReceiver {
	t.Helper()
	config := createDefaultConfig().(*Config)
	config.View.NetAddr.Endpoint, config.OnUnsupported = endpoint, onUnsupported
	config.Accepts.Enabled, config.Calls.Enabled = false, false
	settings := receivertest.NewNopSettings(metadata.Type)
	consumer, err := newMetricsConsumer(settings, &pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	r := newSignalReceiver(&sharedReceivers{}, config, settings, consumer, func(*sharedReceiver, receiver.Settings) []configuredInstrument[pmetric.Metrics] {
		config := InstrumentConfig{Enabled: true, CollectionInterval: time.Second, InitialDelay: time.Hour}
		return []configuredInstrument[pmetric.Metrics]{
			{"traffic", config, new(stats.Recorder), instrument},
			{"listeners", config, new(stats.Recorder), fakeMetrics()},
		}
	})
	r.requireHost = func(string) error { return nil }
	return r
}

func TestViewAnswersWhileTheReceiverRuns(t *testing.T) {
	r := withView(t, "127.0.0.1:0", onUnsupportedError, fakeMetrics())
	for range 2 { // it may be started again
		if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		address := r.shared.viewServer.listening.String()
		var state struct {
			Receiver string
			Health   struct {
				Instruments []struct{ Name, State, For, Why string }
			}
		}
		if err := json.Unmarshal([]byte(get(t, "http://"+address+"/api/v1/state")), &state); err != nil {
			t.Fatal(err)
		}
		var health []string
		for _, i := range state.Health.Instruments {
			health = append(health, strings.Join([]string{i.Name, i.State, i.For, i.Why}, " "))
		}
		want := []string{
			// the test's receiver has none
			"traffic running pipeline ", "drops off  no signal has it",
			"accepts off  accepts.enabled is false", "calls off  calls.enabled is false",
			"listeners running pipeline ",
		}
		if diff := cmp.Diff(want, health); diff != "" || !strings.HasPrefix(state.Receiver, "nettap") {
			t.Errorf("health of %q differs (-want +got):\n%s", state.Receiver, diff)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if connection, err := net.Dial("tcp", address); err == nil {
			connection.Close()
			t.Error("it answers after the shutdown")
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestViewsPortIsInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	instrument := fakeMetrics()
	err = withView(t, taken.Addr().String(), onUnsupportedError, instrument).Start(t.Context(), componenttest.NewNopHost())
	want := "start view: view.endpoint: listen tcp " + taken.Addr().String() + ": bind: address already in use"
	if err == nil || err.Error() != want {
		t.Errorf("error: %v, want %s", err, want)
	}
	if instrument.count("shutdown") != 1 {
		t.Errorf("the instrument was used %v, and not shut down", instrument.log)
	}

	r := withView(t, taken.Addr().String(), onUnsupportedWarn, fakeMetrics())
	if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
		t.Errorf("under warn: %v", err)
	}
	if len(r.running) != 2 {
		t.Error("under warn the instruments do not run")
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenViewIsWarnedOf(t *testing.T) {
	for endpoint, want := range map[string]int{"127.0.0.1:0": 0, "[::1]:0": 0, "0.0.0.0:0": 1} {
		r := withView(t, endpoint, onUnsupportedError, fakeMetrics())
		core, logged := observer.New(zap.WarnLevel)
		r.logger = zap.New(core)
		if err := r.Start(t.Context(), componenttest.NewNopHost()); err != nil {
			t.Fatal(err)
		}
		if got := logged.FilterMessageSnippet("the view can be read by whoever reaches its endpoint").Len(); got != want {
			t.Errorf("at %s there are %d warnings, want %d", endpoint, got, want)
		}
		if err := r.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestViewShowsAllIfThePipelinesDoNot(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want []string // instruments whose points are partial
	}{
		"the defaults are whole":               {"", nil},
		"more is whole":                        {"traffic: {metrics: {process.network.io: {attributes: [network.io.direction, network.interface.name, network.transport]}}}", nil},
		"a process without its pid":            {"traffic: {resource_attributes: {process.pid: {enabled: false}}}", []string{"traffic"}},
		"series that lack the interface":       {"traffic: {metrics: {process.network.io: {attributes: [network.io.direction]}}}", []string{"traffic"}},
		"a metric that is off":                 {"traffic: {metrics: {nettap.interface.io: {enabled: false}}}", []string{"traffic"}},
		"losses of processes that are off":     {"drops: {metrics: {nettap.process.packet.dropped: {enabled: false}}}", []string{"drops"}},
		"losses of processes without a pid":    {"drops: {resource_attributes: {process.pid: {enabled: false}}}", []string{"drops"}},
		"drops that no pipeline wants to have": {"drops: {metrics: {nettap.packet.dropped: {enabled: false}}}", []string{"drops"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			if err := load(t, test.yaml, config); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, instrument := range []string{"traffic", "drops", "accepts", "calls"} {
				if config.isPartial(instrument) {
					got = append(got, instrument)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("partial instruments differ (-want +got):\n%s", diff)
			}
			all := config.forView()
			for _, instrument := range []string{"traffic", "drops"} {
				if all.isPartial(instrument) {
					t.Errorf("%s is partial for the view too", instrument)
				}
			}
		})
	}
}

// TestViewShowsWhatIsTurnedOn requires that an instrument that runs for the view alone reports what
// is off by default if the configuration turns it on, and what is on if pipelines should not get it.
func TestViewShowsWhatIsTurnedOn(t *testing.T) {
	config := createDefaultConfig().(*Config)
	if err := load(t, `
drops: {metrics: {nettap.tcp.reset: {enabled: true}, nettap.drop.unseen: {enabled: false}, nettap.packet.dropped: {enabled: false}}}
accepts: {events: {nettap.connection.closed: {enabled: true}, nettap.connection.refused: {enabled: false}}}
connections: {enabled: true, resource_attributes: {process.pid: {enabled: false}}}
`, config); err != nil {
		t.Fatal(err)
	}
	all := config.forView()
	got := map[string]bool{
		"resets": all.Drops.Metrics.TCPReset.Enabled, "unseen": all.Drops.Metrics.DropUnseen.Enabled, "drops": all.Drops.Metrics.PacketDropped.Enabled,
		"closed": all.Accepts.Events.NettapConnectionClosed.Enabled, "refused": all.Accepts.Events.NettapConnectionRefused.Enabled,
		"pids of connections": all.Connections.ResourceAttributes.ProcessPid.Enabled,
	}
	want := map[string]bool{"resets": true, "unseen": true, "drops": true, "closed": true, "refused": true, "pids of connections": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the view shows differs (-want +got):\n%s", diff)
	}
}
