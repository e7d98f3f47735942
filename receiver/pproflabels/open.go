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
	enclosing trace.SpanID    // the id of the span in these labels; not valid if there is none
	during    unsafe.Pointer  // to the labels that the span was given
}

// openSpans has the spans that are open. It never grows: if there are too many, a new one replaces
// an old one, which is assumed never to end.
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

// remove removes and returns the span with this id, or nil if it is not known.
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

// places returns the places where a span may be. Ids are random, or differ in their last bytes.
func (o *openSpans) places(id trace.SpanID) *[8]atomic.Pointer[openSpan] {
	return &o[binary.BigEndian.Uint64(id[:])%uint64(len(o))]
}
