// Package clock turns the kernel's time since boot into wall time.
package clock
