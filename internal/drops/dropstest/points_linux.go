package dropstest

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Point is a data point of nettap.packet.dropped.
type Point struct {
	Drop
	Interface string
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
					points = append(points, pointOf(point.Attributes(), int(point.IntValue())))
				}
			}
		}
	}
	return points
}

func pointOf(attributes pcommon.Map, packets int) Point {
	text := func(name string) string {
		value, ok := attributes.Get(name)
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
			Packets:   packets,
		},
		Interface: text("network.interface.name"),
	}
}
