// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The queues of deploy/service.yaml and deploy/gateway.yaml, each for one signal.
const (
	agentQueue   = 100 << 20
	gatewayQueue = 1 << 30
)

// fleetSizes are the rows that are computed from one node.
var fleetSizes = []int{1, 10, 1000, 10000}

// gatewayNodes is how many nodes send to the gateway of the table of queues.
const gatewayNodes = 1000

const day = 24 * time.Hour

// markdown returns the tables of a document.
func (s sizing) markdown() string {
	var b strings.Builder
	line := func(cells ...string) {
		row(&b, cells...)
		b.WriteString("|\n")
	}
	fmt.Fprintf(&b, "Measured on Linux %s with %d programs, which made %v connections a second:\n\n", release(s.Kernel), s.Programs, s.Accepted)
	line("", "from one node", "bytes of each")
	line("---", "---", "---")
	line("points of metrics", fmt.Sprintf("%s every %d s", thousands(s.Points), s.Interval), fmt.Sprint(s.Each.Metrics))
	line("log records", fmt.Sprintf("%v a second", s.Records), fmt.Sprint(s.Each.Logs))
	line("spans", fmt.Sprintf("%v a second", s.Spans), fmt.Sprint(s.Each.Traces))

	b.WriteString("\nComputed from these:\n\n")
	line("nodes", "series at a time", "points a second", "metrics", "log records", "spans", "all")
	line("---", "---", "---", "---", "---", "---", "---")
	points := s.Points / float64(s.Interval)
	metrics, logs, traces := points*s.Each.Metrics, s.Records*s.Each.Logs, s.Spans*s.Each.Traces
	for _, nodes := range fleetSizes {
		n := float64(nodes)
		all := n * (metrics + logs + traces)
		line(thousands(n), thousands(n*s.Points), thousands(n*points), speed(n*metrics), speed(n*logs), speed(n*traces),
			fmt.Sprintf("%s, %s a day", speed(all), size(all*day.Seconds())))
	}

	b.WriteString("\nWhat a queue takes while its receiver is away, and how long one that is empty then has room:\n\n")
	line("", "into an agent's queue", "100 MiB of an agent last", fmt.Sprintf("1 GiB of a gateway for %s nodes lasts", thousands(gatewayNodes)))
	line("---", "---", "---", "---")
	for _, queue := range []struct {
		of    string
		rate  float64
		holds bool // the gateway has a queue for it
	}{{"metrics", s.Queued.Metrics, true}, {"log records", s.Queued.Logs, false}, {"spans", s.Queued.Traces, true}} {
		gateway := "has none: they are written to a file"
		if queue.holds {
			gateway = lasting(gatewayQueue / (gatewayNodes * queue.rate))
		}
		line(queue.of, speed(queue.rate), lasting(agentQueue/queue.rate), gateway)
	}
	return b.String()
}

// speed formats bytes a second as "9.1 KB/s".
func speed(bytes float64) string { return size(bytes) + "/s" }

// size formats bytes as "9.1 KB".
func size(bytes float64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	for len(units) > 1 && twoDigits(bytes) >= 1000 {
		bytes /= 1000
		units = units[1:]
	}
	return short(bytes) + " " + units[0]
}

// lasting formats seconds as "3.4 hours".
func lasting(seconds float64) string {
	switch length := time.Duration(seconds * float64(time.Second)); {
	case length >= 2*day:
		return short(seconds/day.Seconds()) + " days"
	case length >= 2*time.Hour:
		return short(length.Hours()) + " hours"
	case length >= 2*time.Minute:
		return short(length.Minutes()) + " minutes"
	default:
		return short(seconds) + " seconds"
	}
}

// short formats a number by its first two digits, and a larger one as the integer that they make.
func short(x float64) string { return strconv.FormatFloat(twoDigits(x), 'f', -1, 64) }

func twoDigits(x float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', 1, 64), 64)
	if err != nil {
		return math.NaN()
	}
	return rounded
}
