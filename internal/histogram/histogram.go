// SPDX-License-Identifier: Apache-2.0

// Package histogram completes points of histograms that count durations, which the generated
// builder of metrics makes of single values.
package histogram

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
)

// Fill makes a point that of durations: their sum, and how many are in each range. Bounds are the
// upper ends of the ranges; the last range has none.
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

// End makes a point the end of its series.
func End(point pmetric.HistogramDataPoint) {
	point.RemoveSum()
	point.SetFlags(point.Flags().WithNoRecordedValue(true))
}
