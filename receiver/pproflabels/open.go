// SPDX-License-Identifier: Apache-2.0

package pproflabels

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"go.opentelemetry.io/otel/trace"
)

// openSpan is what is known of a span that has started and not ended.
type openSpan struct {
	id        trace.SpanID
	before    context.Context // the labels of the goroutine that started it
	enclosing trace.SpanID    // in them; not valid if there is none
	during    unsafe.Pointer  // to the labels that the span was given
}

// openSpans knows the spans that are open. It never grows: where many are open,
// a new one is taken for an old one that never ends.
type openSpans [1024][8]atomic.Pointer[openSpan]

func (o *openSpans) add(span *openSpan) {
	places := o.places(span.id)
	for i := range places {
		if places[i].CompareAndSwap(nil, span) {
			return
		}
	}
	places[int(span.id[0])%len(places)].Store(span)
}

// remove returns the span with this id, nil if it is not known.
func (o *openSpans) remove(id trace.SpanID) *openSpan {
	places := o.places(id)
	for i := range places {
		if span := places[i].Load(); span != nil && span.id == id && places[i].CompareAndSwap(span, nil) {
			return span
		}
	}
	return nil
}

func (o *openSpans) has(id trace.SpanID) bool {
	places := o.places(id)
	for i := range places {
		if span := places[i].Load(); span != nil && span.id == id {
			return true
		}
	}
	return false
}

// places are where a span may be. Ids are random, or count in their last bytes.
func (o *openSpans) places(id trace.SpanID) *[8]atomic.Pointer[openSpan] {
	return &o[binary.BigEndian.Uint64(id[:])%uint64(len(o))]
}
