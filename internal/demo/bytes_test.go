// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// counted returns the values of demo.io by direction.
func counted(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, metric := range scope.Metrics {
			for _, point := range metric.Data.(metricdata.Sum[int64]).DataPoints {
				direction, _ := point.Attributes.Value("network.io.direction")
				values[direction.AsString()] += point.Value
			}
		}
	}
	return values
}

func TestConnectionsAreCounted(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	bytes, err := newByteCounter(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	connection, err := countedListener{listener, bytes}.Accept()
	if err != nil {
		t.Fatal(err)
	}

	if _, err := io.WriteString(client, "question"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(connection, make([]byte, len("question"))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(connection, "the answer"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int64{"receive": 8, "transmit": 10}, counted(t, reader)); diff != "" {
		t.Errorf("counted bytes differ (-want +got):\n%s", diff)
	}
	if err := connection.(countedConn).reset(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(client); err == nil {
		t.Errorf("the client read %q after the reset, and no error", answer)
	}
}
