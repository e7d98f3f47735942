// SPDX-License-Identifier: Apache-2.0

package view

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// params are the parameters of a request.
type params struct {
	follow, wide bool
	interval     int // seconds
	sort         string
	n            int // 0: the usual number
	filter       filter
	scale        scale
}

// The interval of the scripts and its bounds, in seconds.
const (
	usualInterval   = 5
	longestInterval = 3600
)

const mostLines = 100_000

// badParam is an invalid parameter.
type badParam struct {
	name string
	what string
}

func (e *badParam) Error() string { return fmt.Sprintf("parameter %s: %s", e.name, e.what) }

// parseParams parses a query, in which only the allowed parameters may be. sorts are the valid
// values of the parameter sort.
func parseParams(query string, allowed []string, sorts []string) (params, error) {
	p := params{interval: usualInterval, scale: coarse}
	if len(sorts) > 0 {
		p.sort = sorts[0]
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return p, &badParam{"?", "the query cannot be read"}
	}
	for _, name := range sortedNames(values) {
		if !slices.Contains(allowed, name) {
			return p, &badParam{quoted(name), "there is none here; there are " + strings.Join(allowed, ", ")}
		}
		if len(values[name]) != 1 {
			return p, &badParam{name, "it is given more than once"}
		}
		if err := p.set(name, values[name][0], sorts); err != nil {
			return p, err
		}
	}
	return p, nil
}

func sortedNames(values url.Values) []string {
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p *params) set(name, value string, sorts []string) (err error) {
	bad := func(what string) error { return &badParam{name, quoted(value) + " " + what} }
	switch name {
	case "follow":
		return setFlag(name, value, &p.follow)
	case "wide":
		return setFlag(name, value, &p.wide)
	case "interval":
		d, err := time.ParseDuration(value)
		if err != nil || d%time.Second != 0 || d < time.Second || d > longestInterval*time.Second {
			return bad("is no whole number of seconds from 1s to 1h")
		}
		p.interval = int(d / time.Second)
	case "sort":
		if p.sort = value; !slices.Contains(sorts, value) {
			return bad("is none of " + strings.Join(sorts, ", "))
		}
	case "n":
		if p.n, err = strconv.Atoi(value); err != nil || p.n < 1 || p.n > mostLines {
			return bad(fmt.Sprintf("is no number from 1 to %d", mostLines))
		}
	case "filter":
		if p.filter, err = parseFilter(value); err != nil {
			return &badParam{name, clean(err.Error())}
		}
	case "range":
		switch value {
		case "1m":
			p.scale = fine
		case "15m":
			p.scale = coarse
		default:
			return bad("is none of 1m, 15m")
		}
	}
	return nil
}

func setFlag(name, value string, flag *bool) error {
	switch value {
	case "", "true", "1":
		*flag = true
	case "false", "0":
	default:
		return &badParam{name, quoted(value) + " is none of true, false"}
	}
	return nil
}

// quoted returns a value that someone sent so that it can be shown; a long one is cut.
func quoted(value string) string {
	if len(value) > 60 {
		value = value[:60] + "..."
	}
	return `"` + clean(value) + `"`
}
