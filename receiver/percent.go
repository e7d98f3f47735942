// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"fmt"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// percent is a percentage in the form of the configuration: "2%", or 0.
type percent float64

// percentOf converts a part from 0 to 1 to a percentage.
func percentOf(share float64) percent { return percent(100 * share) }

func (p percent) share() float64 { return float64(p) / 100 }

// String formats it as "2%", with three digits.
func (p percent) String() string { return strconv.FormatFloat(float64(p), 'g', 3, 64) + "%" }

// MarshalText implements [encoding.TextMarshaler].
func (p percent) MarshalText() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(p), 'f', -1, 64) + "%"), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *percent) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(strings.TrimSpace(string(text)), "%")
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || !ok && value != 0 {
		return fmt.Errorf("%q must be a percentage as 2%%, or 0", text)
	}
	*p = percent(value)
	return nil
}

func (p percent) validate(key string) error {
	if !(p >= 0 && p <= 100) { // false for NaN
		return fmt.Errorf("%s is %v, and must be from 0%% (no limit) to 100%%", key, p)
	}
	return nil
}

// Unmarshal implements [confmap.Unmarshaler]. It refuses a number without %, because 2 could mean
// 2% or twice the machine.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	const key = "max_cpu"
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	c.maxCPUIsSet = conf.IsSet(key)
	if _, isText := conf.Get(key).(string); c.maxCPUIsSet && !isText && c.MaxCPU != 0 {
		return fmt.Errorf("%s is %v, and must be a percentage as 2%%, or 0", key, conf.Get(key))
	}
	return nil
}
