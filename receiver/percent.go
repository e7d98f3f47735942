package nettapreceiver

import (
	"fmt"
	"strconv"
	"strings"
)

// percent is a share of the whole as the configuration has it: "2%", or 2.
type percent float64

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *percent) UnmarshalText(text []byte) error {
	number, ok := strings.CutSuffix(string(text), "%")
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil {
		return fmt.Errorf("max_cpu is %q, and must be a percentage as 2%%, or 0", text)
	}
	*p = percent(value)
	return nil
}

func (p percent) share() float64 { return float64(p) / 100 }

func (p percent) validate(key string) error {
	if !(p >= 0 && p <= 100) { // NaN is neither
		return fmt.Errorf("%s is %v%%, and must be from 0%% (no limit) to 100%%", key, float64(p))
	}
	return nil
}
