package drops

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// emit makes one data point of each drop, all on one resource: a packet that
// was dropped belongs to no process.
func emit(builder *metadata.MetricsBuilder, resource pcommon.Resource, now time.Time, drops []drop) pmetric.Metrics {
	timestamp := pcommon.NewTimestampFromTime(now)
	for _, d := range drops {
		builder.RecordNettapPacketDroppedDataPoint(timestamp, int64(d.packets), d.reason, d.class, d.options()...)
	}
	return builder.Emit(metadata.WithResource(resource))
}

// options are the attributes that are left out where they are unknown.
func (s series) options() []metadata.MetricAttributeOption {
	var options []metadata.MetricAttributeOption
	add := func(option func(string) metadata.MetricAttributeOption, value string) {
		if value != "" {
			options = append(options, option(value))
		}
	}
	add(metadata.WithCodeFunctionNameMetricAttribute, s.function)
	add(metadata.WithNetworkInterfaceNameMetricAttribute, s.interfaceName)
	add(metadata.WithNetworkTransportMetricAttribute, s.transport)
	add(metadata.WithNetworkTypeMetricAttribute, s.networkType)
	return options
}
