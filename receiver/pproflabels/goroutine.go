// SPDX-License-Identifier: Apache-2.0

package pproflabels

import (
	"context"
	"runtime/pprof"
	"unsafe"
)

// getLabels returns the labels of the current goroutine, nil if it has none.
//
// Package pprof exports no way to read them. It reads the labels of a context, and a
// goroutine has labels that no context knows: those that it inherited, or that were set
// with another context. Without them a span would take the labels away that the program
// gave its goroutine. The runtime keeps this function, with this type, for packages that
// need it: go.dev/issue/67401.
//
//go:linkname getLabels runtime/pprof.runtime_getProfLabel
func getLabels() unsafe.Pointer

// labelled is a context that has labels and nothing else.
type labelled struct {
	context.Context
	labels any // as package pprof puts them into a context
}

func (l labelled) Value(key any) any {
	if key == labelsKey {
		return l.labels
	}
	return nil
}

// labelsKey is where in a context package pprof puts labels, and someLabels is
// what it puts there: a pointer of a type that is its own.
var (
	labelsKey  = keyOfLabels()
	someLabels = pprof.WithLabels(context.Background(), pprof.Labels("a", "b")).Value(labelsKey)
)

// asked is a context that notes for which key it was asked.
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
	// An interface is the type and, for a pointer, the pointer.
	(*[2]unsafe.Pointer)(unsafe.Pointer(&labels))[1] = pointer
	return labelled{context.Background(), labels}
}
