// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/calls"
)

func TestCallsOptions(t *testing.T) {
	byDefault := calls.Options{
		MinDuration: time.Millisecond, SampleRatio: 0.01, MaxPerSecond: 100, Waits: true,
		Errors: calls.Errnos{Unexpected: true}, Functions: []string{"net/socket.c"},
		AvoidHooks: []string{},
	}
	for name, test := range map[string]struct {
		yaml string
		want func(*calls.Options)
	}{
		"by default failures that are news are kept, and nothing is filtered": {},
		"every failure": {
			yaml: "{calls: {errors: always}}",
			want: func(o *calls.Options) { o.Errors = calls.Errnos{All: true} },
		},
		"no failures": {
			yaml: "{calls: {errors: never}}",
			want: func(o *calls.Options) { o.Errors = calls.Errnos{} },
		},
		"no waits": {
			yaml: "{calls: {waits: false}}",
			want: func(o *calls.Options) { o.Waits = false },
		},
		"how long waits take, as a metric": {
			yaml: "{calls: {metrics: {nettap.socket.wait.duration: {enabled: true}}}}",
			want: func(o *calls.Options) { o.Durations = true },
		},
		"failures by name": {
			yaml: "{calls: {errors: [ECONNREFUSED, EWOULDBLOCK]}}",
			want: func(o *calls.Options) { o.Errors = calls.Errnos{Numbers: []uint32{111, 11}} },
		},
		"addresses and networks": {
			yaml: `{calls: {filter: {addresses: [10.1.2.3/8, "::ffff:192.0.2.1", "::ffff:192.0.2.0/120", "2001:db8::/32", "::1"], ports: [443]}}}`,
			want: func(o *calls.Options) {
				o.Filter.Ports = []uint16{443}
				for _, text := range []string{"10.0.0.0/8", "192.0.2.1/32", "192.0.2.0/24", "2001:db8::/32", "::1/128"} {
					o.Filter.Prefixes = append(o.Filter.Prefixes, netip.MustParsePrefix(text))
				}
			},
		},
		"what instruments share": {
			yaml: "{avoid_hooks: [fentry], root_path: /host}",
			want: func(o *calls.Options) { o.AvoidHooks, o.RootPath = []string{"fentry"}, "/host" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, want := createDefaultConfig().(*Config), byDefault
			if err := load(t, test.yaml, config); err != nil {
				t.Fatal(err)
			}
			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}
			if test.want != nil {
				test.want(&want)
			}
			if diff := cmp.Diff(want, config.callsOptions(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("options differ (-want +got):\n%s", diff)
			}
		})
	}
}
