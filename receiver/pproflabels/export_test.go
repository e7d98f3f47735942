// SPDX-License-Identifier: Apache-2.0

package pproflabels

// GoroutineLabels is for tests that have no time to read a profile.
var GoroutineLabels = goroutineLabels
