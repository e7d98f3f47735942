// SPDX-License-Identifier: Apache-2.0

// Package otlptest helps tests to look for what was delivered.
package otlptest

import (
	"maps"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Attributes are the attributes of a resource together with those of its point, record or span.
// Numbers are int64 or float64, as in pdata.
type Attributes map[string]any

// Join returns the attributes of a resource and the own ones of what belongs to it.
func Join(resource, own pcommon.Map) Attributes {
	all := Attributes(resource.AsRaw())
	maps.Copy(all, own.AsRaw())
	return all
}

// Has reports whether a has each of the wanted attributes. An int in want counts as int64, and
// nil means that the attribute must be absent.
func (a Attributes) Has(want Attributes) bool {
	for key, value := range want {
		if n, ok := value.(int); ok {
			value = int64(n)
		}
		if a[key] != value {
			return false
		}
	}
	return true
}
