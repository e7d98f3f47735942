// SPDX-License-Identifier: Apache-2.0

package calls

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// randomness is how many values the low 56 bits of a trace id can have. A trace is sampled if this
// value is at least the threshold of its sampling.
//
// Source: OpenTelemetry's specification "TraceState: Probability Sampling".
const randomness = 1 << 56

// ids makes the ids of traces and spans.
type ids struct{ random *rand.Rand }

// newIDs returns ids that cannot be predicted.
func newIDs() ids {
	var seed [32]byte
	_, _ = cryptorand.Read(seed[:]) // it never returns an error
	return ids{rand.New(rand.NewChaCha8(seed))}
}

// trace returns a new id whose randomness is at least threshold.
func (i ids) trace(threshold uint64) pcommon.TraceID {
	var id pcommon.TraceID
	high, low := i.random.Uint64(), threshold+i.random.Uint64N(randomness-threshold)
	binary.BigEndian.PutUint64(id[:8], high|1) // so that the id is never zero, which is invalid
	binary.BigEndian.PutUint64(id[8:], i.random.Uint64()<<56|low)
	return id
}

// span returns a new id.
func (i ids) span() pcommon.SpanID {
	var id pcommon.SpanID
	binary.BigEndian.PutUint64(id[:], 1+i.random.Uint64N(1<<64-1)) // zero is invalid
	return id
}

// thresholdOf returns the threshold that the given share of all trace ids, from 0 to 1, reaches.
func thresholdOf(ratio float64) uint64 {
	return min(uint64((1-ratio)*randomness), randomness-1)
}

// traceState returns the W3C tracestate for the threshold with which a trace was sampled: "ot=th:8"
// for a half.
func traceState(threshold uint64) string {
	digits := strings.TrimRight(fmt.Sprintf("%014x", threshold), "0")
	return "ot=th:" + max(digits, "0")
}
