// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

// ViewConfig is the block "view": a server that shows what the instruments observe. It is off
// unless it has an endpoint.
type ViewConfig struct {
	// ServerConfig has the Collector's settings for HTTP servers.
	confighttp.ServerConfig `mapstructure:",squash"`

	// AllowedHosts are names by which the server may be called in addition to localhost and
	// addresses. A request with another Host header is refused.
	AllowedHosts []string `mapstructure:"allowed_hosts"`

	// TraceURL is the address of a trace in a tracing backend, with {trace_id} in place of its id.
	TraceURL string `mapstructure:"trace_url"`

	// CommandLines shows the command lines of processes. Values after --password, token= and
	// similar words are hidden.
	CommandLines bool `mapstructure:"command_lines"`

	// Print is how often a short table is printed to the standard output; 0 means never.
	Print time.Duration `mapstructure:"print"`
}

// traceIDPlace stands for the id in view.trace_url.
const traceIDPlace = "{trace_id}"

func defaultViewConfig() ViewConfig {
	return ViewConfig{ServerConfig: confighttp.NewDefaultServerConfig()}
}

func (c *ViewConfig) isOn() bool { return c.NetAddr.Endpoint != "" || c.Print > 0 }

func (c *ViewConfig) validate() error {
	var errs error
	if c.Print < 0 || c.Print%time.Second != 0 {
		errs = errors.Join(errs, fmt.Errorf("view.print is %v, and must be whole seconds, or 0s for never", c.Print))
	}
	if c.TraceURL != "" {
		u, err := url.Parse(strings.ReplaceAll(c.TraceURL, traceIDPlace, "0"))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !strings.Contains(c.TraceURL, traceIDPlace) {
			errs = errors.Join(errs, fmt.Errorf("view.trace_url is %q, and must be a URL of http or https with %s in it", c.TraceURL, traceIDPlace))
		}
	}
	return errors.Join(errs, each("view.allowed_hosts", c.AllowedHosts, func(name string) error {
		if name == "" || strings.ContainsAny(name, ":/*@ ") {
			return fmt.Errorf("%q is no name of a host: want one without a port, as nettap.example", name)
		}
		return nil
	}))
}

// forView returns the configuration of instruments that run only for the view, with everything
// that it shows.
func (c *Config) forView() *Config {
	all := *c
	defaults := createDefaultConfig().(*Config)
	for _, i := range []*InstrumentConfig{
		&all.Traffic.InstrumentConfig, &all.Drops.InstrumentConfig, &all.Accepts.InstrumentConfig, &all.Calls.InstrumentConfig,
		&all.Connections.InstrumentConfig, &all.Listeners.InstrumentConfig,
	} {
		i.ResourceAttributes = c.viewResourceAttributes()
	}
	all.Traffic.Metrics, all.Drops.Metrics, all.Accepts.Events = defaults.Traffic.Metrics, defaults.Drops.Metrics, defaults.Accepts.Events
	all.Calls.Metrics = defaults.Calls.Metrics
	// What is off unless someone turns it on is shown if it is on.
	all.Drops.Metrics.TCPReset.Enabled = c.Drops.Metrics.TCPReset.Enabled
	all.Accepts.Events.NettapConnectionClosed.Enabled = c.Accepts.Events.NettapConnectionClosed.Enabled
	return &all
}

// viewResourceAttributes are the resource attributes that the view shows.
func (c *Config) viewResourceAttributes() metadata.ResourceAttributesConfig {
	attributes := metadata.DefaultResourceAttributesConfig()
	attributes.ProcessCommandLine.Enabled = c.View.CommandLines
	return attributes
}

// isPartial reports whether the pipelines' metrics of an instrument lack something that the view
// shows or distinguishes series by.
func (c *Config) isPartial(instrument string) bool {
	defaults := createDefaultConfig().(*Config)
	switch instrument {
	case "traffic":
		r, m, all := c.Traffic.ResourceAttributes, c.Traffic.Metrics, defaults.Traffic.Metrics
		return !isIdentity(r) || !m.ProcessNetworkIO.Enabled || !m.ProcessNetworkPacketCount.Enabled ||
			!m.InterfaceIO.Enabled || !m.InterfacePacketCount.Enabled || !m.InterfaceUnobservedIO.Enabled || !m.InterfaceUnobservedPacketCount.Enabled ||
			lacks(m.ProcessNetworkIO.EnabledAttributes, all.ProcessNetworkIO.EnabledAttributes) ||
			lacks(m.ProcessNetworkPacketCount.EnabledAttributes, all.ProcessNetworkPacketCount.EnabledAttributes)
	case "drops":
		m := c.Drops.Metrics
		return !isIdentity(c.Drops.ResourceAttributes) || !m.PacketDropped.Enabled || !m.ProcessPacketDropped.Enabled
	default:
		return false
	}
}

// isIdentity reports whether resources have everything by which the view identifies a process.
func isIdentity(r metadata.ResourceAttributesConfig) bool {
	return r.ProcessPid.Enabled && r.ProcessCreationTime.Enabled && r.ProcessExecutableName.Enabled &&
		r.NettapProcessComm.Enabled && r.ProcessUserID.Enabled && r.ProcessRealUserID.Enabled && r.ContainerID.Enabled
}

// lacks reports whether one of the wanted elements is missing.
func lacks[T comparable](have, wanted []T) bool {
	return slices.ContainsFunc(wanted, func(one T) bool { return !slices.Contains(have, one) })
}
