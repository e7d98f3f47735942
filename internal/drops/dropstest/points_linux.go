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

// Points returns every data point of nettap.packet.dropped, with functions as
// in [KnownFunction].
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

func pointOf(point pmetric.NumberDataPoint) Point {
	text := func(name string) string {
		value, ok := point.Attributes().Get(name)
		if !ok {
			return ""
		}
		return value.Str()
	}
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
