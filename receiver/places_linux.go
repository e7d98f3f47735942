// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"

	"github.com/seed-7756021b/nettap/internal/accepts"
	"github.com/seed-7756021b/nettap/internal/calls"
	"github.com/seed-7756021b/nettap/internal/instrument"
	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/places"
)

// newPlaces returns the places that the instruments of a configuration share.
func newPlaces(config *Config) *places.Places {
	return places.New(config.sharedTracepoints)
}

// withPlaces makes an instrument depend on the places that it shares with others.
func withPlaces[T instrument.Telemetry](shared *sharedReceiver, i instrument.Instrument[T]) instrument.Instrument[T] {
	return dependent[T]{shared.places, i}
}

// sharedTracepoints returns the tracepoints at which two of the instruments that are enabled have a program each, on this kernel.
// Before Linux 6.3 there are none, as not every kernel lets a program that has functions of its own jump to another one.
func (c *Config) sharedTracepoints() ([]string, error) {
	if err := kernel.Avoiding(c.AvoidHooks, kernel.Probe)(places.Send); errors.Is(err, kernel.ErrUnsupported) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var shared []string
	owners := c.Traffic.Enabled || c.Drops.Enabled || c.Connections.Enabled
	contexts := (c.Drops.Enabled || c.Accepts.Enabled || c.Calls.Enabled) && c.traceContextOptions().SeesMessages()
	if owners && contexts {
		shared = append(shared, places.Send, places.Receive)
	}
	if !c.Calls.Enabled || !(c.Traffic.Enabled || c.Accepts.Enabled) {
		return shared, nil
	}
	inside, err := calls.SeesSystemCalls(c.AvoidHooks)
	if err != nil || !inside {
		return shared, err
	}
	if c.Traffic.Enabled {
		shared = append(shared, places.Transmit, places.Arrival)
	}
	if !c.Accepts.Enabled {
		return shared, nil
	}
	returns, err := accepts.SeesSystemCalls(c.AvoidHooks)
	if returns {
		shared = append(shared, places.Exit)
	}
	return shared, err
}
