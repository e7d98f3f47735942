package nettapreceiver

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want func(*Config)
	}{
		"nothing set gives the defaults": {},
		"every key of every block can be set": {
			yaml: `
traffic: {enabled: false, collection_interval: 5s, initial_delay: 2s, max_processes: 7, namespaces: all}
drops: {enabled: false, collection_interval: 6s, initial_delay: 0s}
accepts: {enabled: false, collection_interval: 100ms, initial_delay: 3s, max_per_second: 9}
on_unsupported: warn
avoid_hooks: [fentry, tp_btf/sock_send_length]
root_path: /host
`,
			want: func(c *Config) {
				c.Traffic.Enabled, c.Traffic.CollectionInterval, c.Traffic.InitialDelay = false, 5*time.Second, 2*time.Second
				c.Traffic.MaxProcesses, c.Traffic.Namespaces = 7, namespacesAll
				c.Drops.Enabled, c.Drops.CollectionInterval, c.Drops.InitialDelay = false, 6*time.Second, 0
				c.Accepts.Enabled, c.Accepts.CollectionInterval, c.Accepts.InitialDelay = false, 100*time.Millisecond, 3*time.Second
				c.Accepts.MaxPerSecond = 9
				c.OnUnsupported, c.RootPath = onUnsupportedWarn, "/host"
				c.AvoidHooks = []string{"fentry", "tp_btf/sock_send_length"}
			},
		},
		"metrics, events and resource attributes are set in the block of their instrument": {
			yaml: `
traffic:
  metrics:
    nettap.interface.io: {enabled: false}
    process.network.io: {attributes: [network.io.direction, network.transport]}
  resource_attributes: {process.command_line: {enabled: true}}
drops:
  metrics: {nettap.packet.dropped: {enabled: false}}
accepts:
  events: {nettap.connection.accepted: {enabled: false}}
  resource_attributes: {container.id: {enabled: false}}
`,
			want: func(c *Config) {
				c.Traffic.Metrics.InterfaceIO.Enabled = false
				c.Traffic.Metrics.ProcessNetworkIO.EnabledAttributes = []metadata.ProcessNetworkIoMetricAttributeKey{
					"network.io.direction", "network.transport",
				}
				c.Traffic.ResourceAttributes.ProcessCommandLine.Enabled = true
				c.Drops.Metrics.PacketDropped.Enabled = false
				c.Accepts.Events.NettapConnectionAccepted.Enabled = false
				c.Accepts.ResourceAttributes.ContainerID.Enabled = false
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := createDefaultConfig().(*Config)
			if test.want != nil {
				test.want(want)
			}
			got := createDefaultConfig().(*Config)
			if err := load(t, test.yaml, got); err != nil {
				t.Fatalf("Unmarshal: %v", err)
			}
			if diff := cmp.Diff(want, got, configOptions...); diff != "" {
				t.Errorf("configuration differs (-want +got):\n%s", diff)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}

func TestConfigMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want []string // each in the error
	}{
		"a key that does not exist": {
			yaml: "{trafic: {}}",
			want: []string{"invalid keys: trafic"},
		},
		"a key that does not exist in a block": {
			yaml: "{traffic: {interval: 5s}}",
			want: []string{"traffic", "invalid keys: interval"},
		},
		"an instrument that does not exist yet": {
			yaml: "{calls: {min_duration: 1ms}}",
			want: []string{"invalid keys: calls"},
		},
		"a metric of another instrument": {
			yaml: "{traffic: {metrics: {nettap.packet.dropped: {enabled: false}}}}",
			want: []string{"traffic.metrics", "invalid keys: nettap.packet.dropped"},
		},
		"a key that does not exist in a metric": {
			yaml: "{drops: {metrics: {nettap.packet.dropped: {enable: false}}}}",
			want: []string{"invalid keys: enable"},
		},
		"an event that does not exist": {
			yaml: "{accepts: {events: {nettap.connection.closed: {enabled: true}}}}",
			want: []string{"accepts.events", "invalid keys: nettap.connection.closed"},
		},
		"a resource attribute that does not exist": {
			yaml: "{accepts: {resource_attributes: {process.name: {enabled: true}}}}",
			want: []string{"accepts.resource_attributes", "invalid keys: process.name"},
		},
		"a duration without a unit": {
			yaml: "{drops: {collection_interval: 5}}",
			want: []string{"drops.collection_interval is 5ns, and must be at least 10ms"},
		},
		"a duration that is none": {
			yaml: "{drops: {collection_interval: soon}}",
			want: []string{"drops.collection_interval", "invalid duration"},
		},
		"all at once": {
			yaml: `
traffic: {collection_interval: -1s, initial_delay: -1s, max_processes: 0, namespaces: none}
drops: {collection_interval: 0s}
accepts: {collection_interval: 0s, max_per_second: -1}
on_unsupported: ignore
avoid_hooks: [fentry, uprobe, kprobe/]
root_path: host
`,
			want: []string{
				"traffic.collection_interval is -1s, and must be at least 10ms",
				"traffic.initial_delay is -1s, and must be 0s or more",
				"traffic.max_processes is 0, and must be from 1 to 262144",
				`traffic.namespaces is "none", and must be "host" or "all"`,
				"drops.collection_interval is 0s, and must be at least 10ms",
				"accepts.collection_interval is 0s, and must be at least 10ms",
				"accepts.max_per_second is -1, and must be 0 (no limit) or more",
				`on_unsupported is "ignore", and must be "error" or "warn"`,
				`avoid_hooks[1]: "uprobe" is no hook`,
				`avoid_hooks[2]: "kprobe/" is no hook`,
				`root_path is "host", and must be an absolute path`,
			},
		},
		"more processes than the kernel's maps may hold": {
			yaml: "{traffic: {max_processes: 262145}}",
			want: []string{"traffic.max_processes is 262145, and must be from 1 to 262144"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := createDefaultConfig().(*Config)
			err := load(t, test.yaml, config)
			if err == nil {
				err = config.Validate()
			}
			if err == nil {
				t.Fatal("there is no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
		})
	}
}

// TestReadmeDefaults holds the configuration block of the README against the
// defaults: an operator reads there what happens if nothing is set.
func TestReadmeDefaults(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\nreceivers:\n  nettap:\n(.*?)```").FindSubmatch(readme)
	if block == nil {
		t.Fatal("README.md has no block that begins with receivers: nettap:")
	}
	want := createDefaultConfig().(*Config)
	got := &Config{}
	got.Traffic.Metrics, got.Traffic.ResourceAttributes = want.Traffic.Metrics, want.Traffic.ResourceAttributes
	got.Drops.Metrics, got.Drops.ResourceAttributes = want.Drops.Metrics, want.Drops.ResourceAttributes
	got.Accepts.Events, got.Accepts.ResourceAttributes = want.Accepts.Events, want.Accepts.ResourceAttributes
	if err := load(t, string(block[1]), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, configOptions...); diff != "" {
		t.Errorf("README.md differs from the defaults (-default +README):\n%s", diff)
	}
}

// configOptions compare configurations but for what mdatagen keeps to itself.
var configOptions = cmp.Options{
	cmpopts.IgnoreUnexported(
		Config{}, metadata.EventConfig{}, metadata.ResourceAttributeConfig{},
		metadata.NettapInterfaceIoMetricConfig{}, metadata.NettapInterfacePacketCountMetricConfig{},
		metadata.NettapInterfaceUnobservedIoMetricConfig{}, metadata.NettapInterfaceUnobservedPacketCountMetricConfig{},
		metadata.NettapPacketDroppedMetricConfig{}, metadata.NettapProcessNetworkPacketCountMetricConfig{},
		metadata.ProcessNetworkIoMetricConfig{},
	),
}

func load(t *testing.T, text string, config *Config) error {
	t.Helper()
	var values map[string]any
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	return confmap.NewFromStringMap(values).Unmarshal(config)
}
