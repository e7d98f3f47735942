package e2e

import (
	"testing"
)

func TestDistributionStartsAndStops(t *testing.T) {
	c := Start(t, `
		nettap:
		  traffic: {collection_interval: 200ms, initial_delay: 0s}
	`)
	c.Wait("its own metrics are there", func() bool { return len(c.Own("otelcol_process_uptime")) > 0 })
	c.Stop()
}
