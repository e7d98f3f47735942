// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// troubled is merged over observing. It has room for few processes, a low limit on what nettap takes, and a
// backend for log records that this test takes away. All peers are expected but those in 127.64.0.0/10.
const troubled = `
receivers:
  nettap:
    max_cpu: 3%%
    traffic: {max_processes: %d}
    accepts:
      collection_interval: 200ms
      policy:
        expect:
          - peers: [0.0.0.0/2, 64.0.0.0/3, 96.0.0.0/4, 112.0.0.0/5, 120.0.0.0/6, 124.0.0.0/7, 126.0.0.0/8, 127.0.0.0/10, 128.0.0.0/1, "::/0"]
exporters:
  otlp_http/records:
    logs_endpoint: %s
    retry_on_failure: {initial_interval: 1s, max_interval: 1s}
    sending_queue: {queue_size: 100, num_consumers: 1}
service:
  pipelines:
    logs: {exporters: [otlp_http/records, signal_to_metrics/accepts]}
`

// room is how many processes have series of their own.
const room = 300

// A minute of the rules is a second here: the durations in an expression and in the for clause are divided by this.
// Rates, sizes and shares, with which the expressions compare, are as in the rules.
const compression = 60

// compressed is an alert in this test's time.
type compressed struct {
	expression string
	lasts      time.Duration // the for clause
}

func compress(t *testing.T, alert rulefmt.Rule) compressed {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(alert.Expr)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.MatrixSelector:
			node.Range /= compression
		case *parser.VectorSelector:
			node.OriginalOffset /= compression
		case *parser.SubqueryExpr:
			t.Fatalf("%s has a subquery, which is not compressed", alert.Alert)
		}
		return nil
	})
	return compressed{parsed.String(), time.Duration(alert.For) / compression}
}

// fires returns the labels of the series that the expression has as its result for as long as the for clause says, at some
// time from begin to end.
func (b backend) fires(alert compressed, begin, end time.Time) (found []labels) {
	b.t.Helper()
	for _, series := range b.between(alert.expression, begin, end) {
		if series.longest() >= alert.lasts {
			found = append(found, series.Metric)
		}
	}
	return found
}

type labels = map[string]string

// timed is a series that is the result of an expression, with the seconds in which it is and its values.
type timed struct {
	Metric labels
	Values [][2]any
}

// longest returns how long the series is there at most, without a second in which it is not.
func (s timed) longest() (longest time.Duration) {
	since := s.Values[0][0].(float64)
	for i, value := range s.Values {
		at := value[0].(float64)
		if i > 0 && at > s.Values[i-1][0].(float64)+1 {
			since = at
		}
		longest = max(longest, time.Duration(at-since)*time.Second)
	}
	return longest
}

// between returns the series that the expression has as its result in any second from begin to end.
func (b backend) between(expression string, begin, end time.Time) []timed {
	b.t.Helper()
	content := b.get("/api/v1/query_range", url.Values{
		"query": {expression}, "start": {strconv.FormatInt(begin.Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)}, "step": {"1s"}, "nocache": {"1"},
	})
	var answer struct{ Data struct{ Result []timed } }
	if err := json.Unmarshal(content, &answer); err != nil {
		b.t.Fatalf("%v: %s", err, content)
	}
	return answer.Data.Result
}

// unprovoked says of alerts on which occasion they fire that cannot be had here. They fire on series that were made up, in
// [TestAlertsFireOnTheirOccasions].
var unprovoked = map[string]string{
	"NettapHookIsInactive": "the kernel or the machine must keep hooks from firing in a way that the start does not refuse; any other process that fires them ends it",
}

// TestAlertsFireWhenProvoked has the distribution observe a network without trouble, and requires that no alert fires. Then it
// makes the trouble of each alert, and requires that it fires for as long as its for clause says, for those who have the trouble.
func TestAlertsFireWhenProvoked(t *testing.T) {
	var away atomic.Bool
	records := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _ = io.Copy(io.Discard, r.Body); away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer records.Close()
	b, _ := observe(t, fmt.Sprintf(troubled, room, records.URL))
	provocations := prepare(t)
	provocations["NettapQueueIsNearlyFull"] = provocation{labels{"exporter": "otlp_http/records", "data_type": "logs"}, func() { away.Store(true) }}

	begin := time.Now()
	all, rules := map[string]compressed{}, map[string]rulefmt.Rule{}
	for _, alert := range alerts(t) {
		all[alert.Alert], rules[alert.Alert] = compress(t, alert), alert
	}
	const enough = 15 * time.Second // is the longest time that an expression looks back
	time.Sleep(2 * enough)
	b.flush()
	calm := time.Now()
	for name, alert := range all {
		alert.lasts = min(alert.lasts, enough) // what is so at the end of the calm may last longer
		for _, of := range b.fires(alert, begin, calm) {
			t.Errorf("%s fires for %v though nothing happens", name, of)
		}
		if !slices.ContainsFunc(selectors(t, alert.expression), func(s *parser.VectorSelector) bool { return len(b.query(s.String(), calm)) > 0 }) {
			t.Errorf("%s is quiet because no series is there that it looks at: %s", name, alert.expression)
		}
	}

	for _, name := range slices.Sorted(maps.Keys(provocations)) {
		provocations[name].provoke()
	}
	for name, reason := range unprovoked {
		t.Logf("%s is not provoked: %s", name, reason)
		delete(all, name)
	}
	for deadline := time.Now().Add(2 * time.Minute); len(all) > 0 && time.Now().Before(deadline); time.Sleep(time.Second) {
		b.flush()
		now := time.Now()
		maps.DeleteFunc(all, func(name string, alert compressed) bool {
			of := b.fires(alert, calm, now)
			i := slices.IndexFunc(of, provocations[name].concerns)
			if i < 0 {
				return false
			}
			t.Logf("%s fires after %v for %v", name, now.Sub(calm).Round(time.Second), of[i])
			requireNamed(t, rules[name], of[i])
			return true
		})
	}
	for name, alert := range all {
		t.Errorf("%s does not fire for %v: %s\nis %v", name, provocations[name].of, alert.expression, b.between(alert.expression, calm, time.Now()))
	}
}

// inAnnotations matches the names of labels in an annotation.
var inAnnotations = regexp.MustCompile(`\$labels\.(\w+)`)

// requireNamed requires that an alert that fires has the labels that its annotations name. A machine without an id has no host.id.
func requireNamed(t *testing.T, alert rulefmt.Rule, of labels) {
	t.Helper()
	for _, annotation := range alert.Annotations {
		for _, name := range inAnnotations.FindAllStringSubmatch(annotation, -1) {
			if of[name[1]] == "" && name[1] != "host_id" {
				t.Errorf("%s names the label %s, which is not among %v", alert.Alert, name[1], of)
			}
		}
	}
}

// provocation is what makes an alert fire, and of which labels at least.
type provocation struct {
	of      labels
	provoke func()
}

func (p provocation) concerns(found labels) bool {
	for name, value := range p.of {
		if found[name] != value {
			return false
		}
	}
	return p.provoke != nil
}
