// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"strings"
	"testing"

	"go.opentelemetry.io/collector/confmap"
)

func TestMaxCPU(t *testing.T) {
	for name, test := range map[string]struct {
		value any
		want  percent
		err   string
	}{
		"a percentage":       {"2%", 2, ""},
		"a part of one":      {"0.01%", 0.01, ""},
		"0 turns it off":     {0, 0, ""},
		"more than there is": {"101%", 0, "max_cpu is 101%"},
		"less than nothing":  {"-1%", 0, "max_cpu is -1%"},
		"no number":          {"NaN%", 0, "max_cpu is NaN%"},
		"words":              {"little", 0, `'max_cpu' "little" must be`},
		"no % in text":       {"2", 0, `'max_cpu' "2" must be`},
		"0 as text":          {"0", 0, ""},
		"0 in percent":       {"0%", 0, ""},
		"no %":               {2, 0, "max_cpu is 2,"},
		"a share":            {0.02, 0, "max_cpu is 0.02,"},
		"a negative number":  {-1, 0, "max_cpu is -1,"},
		"a list":             {[]any{"2%"}, 0, "max_cpu"},
		"the whole machine":  {"100%", 100, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			err := confmap.NewFromStringMap(map[string]any{"max_cpu": test.value}).Unmarshal(config)
			if err == nil {
				err = config.Validate()
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error is %v, want one with %q", err, test.err)
				}
				return
			}
			if err != nil || config.MaxCPU != test.want || !config.maxCPUIsSet {
				t.Errorf("MaxCPU is %v, error %v; want %v", config.MaxCPU, err, test.want)
			}
		})
	}
}
