// SPDX-License-Identifier: Apache-2.0

package pproflabels

// GoroutineLabels is for tests that would take too long if they read a profile.
var GoroutineLabels = goroutineLabels
