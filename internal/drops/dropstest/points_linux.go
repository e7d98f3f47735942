// SPDX-License-Identifier: Apache-2.0

package dropstest

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Point is a data point of nettap.packet.dropped.
type Point struct {
	Drop
	Interface string
	Start     time.Time
	Time      time.Time
	Ended     bool // NoRecordedValue
}

// Points returns every data point of nettap.packet.dropped, with functions named as in
// [KnownFunction].
func Points(metrics pmetric.Metrics) []Point {
	var points []Point
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != "nettap.packet.dropped" {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					points = append(points, pointOf(point))
				}
			}
		}
	}
	return points
}

// Loss is a data point of nettap.process.packet.dropped.
type Loss struct {
	PID                                         int
	Reason, Class, Victim, Direction, Interface string
	Packets                                     int
	Ended                                       bool // NoRecordedValue
}

// Losses returns every data point of nettap.process.packet.dropped.
func Losses(metrics pmetric.Metrics) []Loss {
	var losses []Loss
	for _, resource := range metrics.ResourceMetrics().All() {
		pid, _ := resource.Resource().Attributes().Get("process.pid")
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != "nettap.process.packet.dropped" {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					losses = append(losses, lossOf(int(pid.Int()), point))
				}
			}
		}
	}
	return losses
}

func lossOf(pid int, point pmetric.NumberDataPoint) Loss {
	text := textsOf(point)
	return Loss{
		PID: pid, Reason: text("nettap.drop.reason"), Class: text("nettap.drop.class"), Victim: text("nettap.drop.victim"),
		Direction: text("network.io.direction"), Interface: text("network.interface.name"),
		Packets: int(point.IntValue()), Ended: point.Flags().NoRecordedValue(),
	}
}

// textsOf returns a function that returns the attributes of a point by their names, or "" if the
// point does not have one.
func textsOf(point pmetric.NumberDataPoint) func(name string) string {
	return func(name string) string {
		value, ok := point.Attributes().Get(name)
		if !ok {
			return ""
		}
		return value.Str()
	}
}

func pointOf(point pmetric.NumberDataPoint) Point {
	text := textsOf(point)
	return Point{
		Drop: Drop{
			Function:  KnownFunction(text("code.function.name")),
			Reason:    text("nettap.drop.reason"),
			Class:     text("nettap.drop.class"),
			Type:      text("network.type"),
			Transport: text("network.transport"),
			Packets:   int(point.IntValue()),
		},
		Interface: text("network.interface.name"),
		Start:     point.StartTimestamp().AsTime(),
		Time:      point.Timestamp().AsTime(),
		Ended:     point.Flags().NoRecordedValue(),
	}
}

// Unseen returns every data point of nettap.drop.unseen, by its counter.
func Unseen(metrics pmetric.Metrics) map[string]int {
	all := map[string]int{}
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if metric.Name() != "nettap.drop.unseen" {
					continue
				}
				for _, point := range metric.Sum().DataPoints().All() {
					all[textsOf(point)("nettap.drop.counter")] = int(point.IntValue())
				}
			}
		}
	}
	return all
}
