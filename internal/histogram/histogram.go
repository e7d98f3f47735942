// SPDX-License-Identifier: Apache-2.0

// Package histogram completes the points of histograms of durations. The generated builder of metrics
// makes such a point from a single value, but nettap's points come from distributions that are counted
// in the kernel.
package histogram

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Fill sets the sum, the count and the buckets of a point, in seconds. bounds are the upper bounds of
// all ranges but the last, which has none. So ranges, the number of durations in each range, must have
// one element more than bounds.
func Fill(point pmetric.HistogramDataPoint, sum time.Duration, bounds []time.Duration, ranges []uint64) {
	var count uint64
	for _, n := range ranges {
		count += n
	}
	point.SetCount(count)
	point.SetSum(sum.Seconds())
	for _, bound := range bounds {
		point.ExplicitBounds().Append(bound.Seconds())
	}
	point.BucketCounts().FromRaw(ranges)
}

// End makes a point without a value, which is the end of its series.
func End(point pmetric.HistogramDataPoint) {
	point.RemoveSum()
	point.SetFlags(point.Flags().WithNoRecordedValue(true))
}
