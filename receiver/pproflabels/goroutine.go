// SPDX-License-Identifier: Apache-2.0

package pproflabels

import (
	"context"
	"runtime/pprof"
	"unsafe"
)

// getLabels returns the labels of the current goroutine, or nil if it has none.
//
// It needs go:linkname, because package pprof (as of Go 1.26) exports no way to read them:
// [pprof.Label] and [pprof.ForLabels] read those of a context. No context can take their place:
//
//   - A processor gets the parent's context when a span starts. A goroutine may have labels that
//     this does not contain: inherited ones, or some that were set with another context. A span
//     would remove the labels that the program gave its goroutine.
//   - It gets no context when a span ends. It has to know then whether the goroutine still has
//     the labels of this span: it may have those of another span, or not be the goroutine that
//     started the span, and then its labels must stay.
//
// A goroutine profile contains the labels, but stops the whole program. The proposal to export
// them, go.dev/issue/68785, was closed. The runtime keeps this function, with this type, for
// packages that use it by go:linkname: go.dev/issue/67401.
//
//go:linkname getLabels runtime/pprof.runtime_getProfLabel
func getLabels() unsafe.Pointer

// labelled is a context that contains only labels.
type labelled struct {
	context.Context
	labels any // in the form in which package pprof stores them in a context
}

func (l labelled) Value(key any) any {
	if key == labelsKey {
		return l.labels
	}
	return nil
}

// labelsKey is the key under which package pprof stores labels in a context. someLabels is what it
// stores, a pointer to a type of its own.
var (
	labelsKey  = keyOfLabels()
	someLabels = pprof.WithLabels(context.Background(), pprof.Labels("a", "b")).Value(labelsKey)
)

// asked is a context that records the key that it was asked for.
type asked struct {
	context.Context
	key any
}

func (a *asked) Value(key any) any {
	a.key = key
	return nil
}

func keyOfLabels() any {
	a := asked{Context: context.Background()}
	pprof.Label(&a, "a")
	return a.key
}

// goroutineLabels returns a context with the labels of the current goroutine.
func goroutineLabels() context.Context {
	pointer := getLabels()
	if pointer == nil {
		return context.Background()
	}
	labels := someLabels
	// An interface consists of its type and, for a pointer, that pointer.
	(*[2]unsafe.Pointer)(unsafe.Pointer(&labels))[1] = pointer
	return labelled{context.Background(), labels}
}
