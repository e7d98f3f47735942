// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Sample is one line of metrics in Prometheus's text format.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// Own returns the samples of one of the Collector's own metrics that have the
// wanted labels, which are names and values in turn:
//
//	c.Own("otelcol_nettap_events_lost", "instrument", "accepts", "cause", "ring_full")
func (c *Collector) Own(name string, labels ...string) []Sample {
	c.t.Helper()
	return choose(c.scrape(c.ownPort), name, labels)
}

// OwnValue returns the sum of the values of [Collector.Own].
func (c *Collector) OwnValue(name string, labels ...string) float64 {
	c.t.Helper()
	var sum float64
	for _, sample := range c.Own(name, labels...) {
		sum += sample.Value
	}
	return sum
}

// fates are what can become of an event that was seen.
var fates = []string{"exported", "aggregated", "sampled_out", "rate_limited", "lost"}

// unaccounted returns how many of the events that each instrument has seen have no fate.
func (c *Collector) unaccounted() map[string]int {
	c.t.Helper()
	samples, rest := c.scrape(c.ownPort), map[string]int{}
	for _, seen := range choose(samples, "otelcol_nettap_events_seen", nil) {
		rest[seen.Labels["instrument"]] += int(seen.Value)
	}
	for _, fate := range fates {
		for _, sample := range choose(samples, "otelcol_nettap_events_"+fate, nil) {
			rest[sample.Labels["instrument"]] -= int(sample.Value)
		}
	}
	return rest
}

// accountsFor reports whether the instrument has seen events, and each of them has a fate.
func (c *Collector) accountsFor(instrument string) bool {
	c.t.Helper()
	return c.unaccounted()[instrument] == 0 && c.OwnValue("otelcol_nettap_events_seen", "instrument", instrument) > 0
}

// Prometheus returns samples of the prometheus exporter, chosen as in [Collector.Own].
func (c *Collector) Prometheus(name string, labels ...string) []Sample {
	c.t.Helper()
	return choose(c.scrape(c.prometheusPort), name, labels)
}

func choose(samples []Sample, name string, labels []string) []Sample {
	var chosen []Sample
	for _, sample := range samples {
		matches := sample.Name == name
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && sample.Labels[labels[i]] == labels[i+1]
		}
		if matches {
			chosen = append(chosen, sample)
		}
	}
	return chosen
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// scrape reads all samples at a port of this machine. While nothing listens there, it returns none.
func (c *Collector) scrape(port int) []Sample {
	c.t.Helper()
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	var samples []Sample
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		found := sampleLine.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		value, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			c.t.Fatalf("read metrics page: %v", err)
		}
		labels := map[string]string{}
		for _, pair := range labelPair.FindAllStringSubmatch(found[2], -1) {
			labels[pair[1]] = strings.ReplaceAll(pair[2], `\"`, `"`)
		}
		samples = append(samples, Sample{Name: found[1], Labels: labels, Value: value})
	}
	return samples
}
