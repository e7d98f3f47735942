// SPDX-License-Identifier: Apache-2.0

package nettapreceiver

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
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
accepts:
  enabled: false
  collection_interval: 100ms
  initial_delay: 3s
  max_per_second: 9
  policy:
    expect:
    - ports: [22]
      executables: [/usr/sbin/sshd]
      commands: [sshd]
      users: [0]
      containers: ["", 4f5a]
      peers: [10.0.0.0/8]
    learn: /var/lib/nettap/learned.yaml
listeners: {enabled: true, collection_interval: 7s, initial_delay: 5s}
connections: {enabled: true, collection_interval: 8s, initial_delay: 6s, metrics: {nettap.process.tcp.rtt: {enabled: false}}}
calls:
  enabled: false
  collection_interval: 200ms
  initial_delay: 4s
  min_duration: 10ms
  sample_ratio: 0.5
  max_per_second: 0
  idle_waits: true
  errors: [ECONNREFUSED, ETIMEDOUT]
  off_cpu: true
  metrics: {nettap.socket.wait.duration: {enabled: true}}
  functions: [net/socket.c, tcp_*]
  filter:
    pids: [71]
    commands: [nginx]
    users: [0, 33]
    cgroups: [/system.slice/nginx.service]
    containers: [4f5a]
    syscalls: [connect, sendto]
    addresses: [10.0.0.0/8, "::1"]
    ports: [443]
trace_context:
  sources: [otel_thread]
  inbound: parent
  outbound: link
  unsampled: keep
  late_bind: 1s
  http: {head_bytes: 4096}
  go_labels: {trace_id_key: trace, span_id_key: span}
  obi: {map: /obi}
  socket: {ttl: 1m}
  filter: {pids: [71], commands: [nginx]}
view:
  endpoint: 127.0.0.1:8777
  allowed_hosts: [nettap.example]
  trace_url: "http://jaeger.example/trace/{trace_id}"
  command_lines: true
  print: 5s
on_unsupported: warn
avoid_hooks: [fentry, tp_btf/sock_send_length]
root_path: /host
`,
			want: func(c *Config) {
				c.Traffic.Enabled, c.Traffic.CollectionInterval, c.Traffic.InitialDelay = false, 5*time.Second, 2*time.Second
				c.Traffic.MaxProcesses, c.Traffic.Namespaces = 7, namespacesAll
				c.Drops.Enabled, c.Drops.CollectionInterval, c.Drops.InitialDelay = false, 6*time.Second, 0
				c.Listeners.Enabled, c.Listeners.CollectionInterval, c.Listeners.InitialDelay = true, 7*time.Second, 5*time.Second
				c.Connections.Enabled, c.Connections.CollectionInterval, c.Connections.InitialDelay = true, 8*time.Second, 6*time.Second
				c.Connections.Metrics.ProcessTCPRtt.Enabled = false
				c.Accepts.Enabled, c.Accepts.CollectionInterval, c.Accepts.InitialDelay = false, 100*time.Millisecond, 3*time.Second
				c.Accepts.MaxPerSecond = 9
				c.Accepts.Policy = PolicyConfig{
					Expect: []ExpectConfig{{
						Ports: []int{22}, Executables: []string{"/usr/sbin/sshd"}, Commands: []string{"sshd"},
						Users: []int{0}, Containers: []string{"", "4f5a"}, Peers: []string{"10.0.0.0/8"},
					}},
					Learn: "/var/lib/nettap/learned.yaml",
				}
				c.Calls.Enabled, c.Calls.CollectionInterval, c.Calls.InitialDelay = false, 200*time.Millisecond, 4*time.Second
				c.Calls.MinDuration, c.Calls.SampleRatio, c.Calls.MaxPerSecond = 10*time.Millisecond, 0.5, 0
				c.Calls.IdleWaits, c.Calls.OffCPU, c.Calls.Metrics.SocketWaitDuration.Enabled = true, true, true
				c.Calls.Errors = []string{"ECONNREFUSED", "ETIMEDOUT"}
				c.Calls.Functions = []string{"net/socket.c", "tcp_*"}
				c.Calls.Filter = CallsFilterConfig{
					PIDs: []int{71}, Commands: []string{"nginx"}, Users: []int{0, 33}, Cgroups: []string{"/system.slice/nginx.service"},
					Containers: []string{"4f5a"}, Syscalls: []string{"connect", "sendto"}, Addresses: []string{"10.0.0.0/8", "::1"}, Ports: []int{443},
				}
				c.TraceContext = TraceContextConfig{
					Sources: []string{"otel_thread"}, Inbound: inboundParent, Outbound: outboundLink, Unsampled: unsampledKeep, LateBind: time.Second,
					HTTP: HTTPContextConfig{HeadBytes: 4096}, GoLabels: GoLabelsContextConfig{TraceIDKey: "trace", SpanIDKey: "span"},
					OBI: OBIContextConfig{Map: "/obi"}, Socket: SocketContextConfig{TTL: time.Minute},
					Filter: TraceContextFilterConfig{PIDs: []int{71}, Commands: []string{"nginx"}},
				}
				c.View.NetAddr.Endpoint, c.View.AllowedHosts = "127.0.0.1:8777", []string{"nettap.example"}
				c.View.TraceURL, c.View.CommandLines, c.View.Print = "http://jaeger.example/trace/{trace_id}", true, 5*time.Second
				c.OnUnsupported, c.RootPath = onUnsupportedWarn, "/host"
				c.AvoidHooks = []string{"fentry", "tp_btf/sock_send_length"}
			},
		},
		"errors may be one word": {
			yaml: "{calls: {errors: never}}",
			want: func(c *Config) { c.Calls.Errors = []string{errorsNever} },
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
calls:
  resource_attributes: {service.name: {enabled: false}}
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
				c.Calls.ResourceAttributes.ServiceName.Enabled = false
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
		want []string // each is contained in the error
	}{
		"a key that does not exist": {
			yaml: "{trafic: {}}",
			want: []string{"invalid keys: trafic"},
		},
		"a key that does not exist in a block": {
			yaml: "{traffic: {interval: 5s}}",
			want: []string{"traffic", "invalid keys: interval"},
		},
		"a key that does not exist in the filter": {
			yaml: "{calls: {filter: {pid: [1]}}}",
			want: []string{"calls.filter", "invalid keys: pid"},
		},
		"a metric of another instrument": {
			yaml: "{traffic: {metrics: {nettap.packet.dropped: {enabled: false}}}}",
			want: []string{"traffic.metrics", "invalid keys: nettap.packet.dropped"},
		},
		"a key that does not exist in a metric": {
			yaml: "{drops: {metrics: {nettap.packet.dropped: {enable: false}}}}",
			want: []string{"invalid keys: enable"},
		},
		"a key that does not exist in a rule": {
			yaml: "{accepts: {policy: {expect: [{port: [22]}]}}}",
			want: []string{"accepts.policy.expect[0]", "invalid keys: port"},
		},
		"mistakes in rules": {
			yaml: `
accepts:
  policy:
    expect:
    - {ports: [0]}
    - {}
    - {ports: [22, 65536], executables: [sshd, /usr/sbin/../sshd], commands: [""], users: [-1], containers: [a/b], peers: [10.0.0.0/33]}
    learn: learned.yaml
`,
			want: []string{
				"accepts.policy.expect[0].ports[0]: 0 is not from 1 to 65535",
				"accepts.policy.expect[1] is empty, and would expect everything",
				"accepts.policy.expect[2].ports[1]: 65536 is not from 1 to 65535",
				`accepts.policy.expect[2].executables[0]: "sshd" is no absolute path of a file`,
				`accepts.policy.expect[2].executables[1]: "/usr/sbin/../sshd" is no absolute path of a file`,
				`accepts.policy.expect[2].commands[0]: "" is no command`,
				"accepts.policy.expect[2].users[0]: -1 is not from 0 to 4294967294",
				`accepts.policy.expect[2].containers[0]: "a/b" is no id of a container`,
				`accepts.policy.expect[2].peers[0]: "10.0.0.0/33" is no address`,
				`accepts.policy.learn is "learned.yaml", and must be an absolute path`,
			},
		},
		"an event that does not exist": {
			yaml: "{accepts: {events: {nettap.connection.opened: {enabled: true}}}}",
			want: []string{"accepts.events", "invalid keys: nettap.connection.opened"},
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
drops: {collection_interval: 0s, record_interval: -1s, max_records_per_second: 501}
accepts: {collection_interval: 0s, max_per_second: -1}
calls:
  collection_interval: 1ms
  min_duration: -1s
  sample_ratio: 1.5
  max_per_second: -1
  errors: [ECONNREFUSED, always, EREFUSED]
  waits: false
  metrics: {nettap.socket.wait.duration: {enabled: true}}
  functions: [net/socket.c, net/ipv4/tcp.c]
  filter:
    pids: [1, 0]
    commands: [sixteen-letters-]
    users: [-1]
    cgroups: [system.slice]
    containers: [a/b]
    syscalls: [sys_read]
    addresses: [10.0.0.0/33, localhost]
    ports: [0, 65536]
trace_context:
  sources: [http, w3c]
  inbound: both
  outbound: both
  unsampled: ignore
  late_bind: 2m
  http: {head_bytes: 5000}
  go_labels: {trace_id_key: "", span_id_key: seventeen-letters}
  obi: {map: otel/traces_ctx_v1}
  socket: {ttl: 0s}
  filter: {pids: [0], commands: [sixteen-letters-]}
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
				"drops.record_interval is -1s, and must be 0s or more",
				"drops.max_records_per_second is 501, and must be from 1 to 500",
				"accepts.collection_interval is 0s, and must be at least 10ms",
				"accepts.max_per_second is -1, and must be 0 (no limit) or more",
				`trace_context.sources[1]: "w3c" is no source of trace contexts: there are ["http" "otel_thread" "go_labels" "obi" "socket"]`,
				`trace_context.inbound is "both", and must be "link" or "parent"`,
				`trace_context.outbound is "both", and must be "parent" or "link"`,
				`trace_context.unsampled is "ignore", and must be "drop" or "keep"`,
				"trace_context.late_bind is 2m0s, and must be from 0s to 1m0s",
				"trace_context.http.head_bytes is 5000, and must be from 128 to 4096",
				`trace_context.go_labels.trace_id_key is "", and must have from 1 to 16 bytes`,
				`trace_context.go_labels.span_id_key is "seventeen-letters", and must have from 1 to 16 bytes`,
				`trace_context.obi.map is "otel/traces_ctx_v1", and must be an absolute path`,
				"trace_context.socket.ttl is 0s, and must be above 0s",
				"trace_context.filter.pids[0]: 0 is not from 1 to",
				`trace_context.filter.commands[0]: "sixteen-letters-" is no command`,
				"calls.collection_interval is 1ms, and must be at least 10ms",
				"calls.min_duration is -1s, and must be 0s or more",
				"calls.sample_ratio is 1.5, and must be from 0 to 1",
				"calls.max_per_second is -1, and must be 0 (no limit) or more",
				`calls.errors[1]: "always" is no name of an error: want names as ECONNREFUSED, or "unexpected", "always" or "never" alone`,
				`calls.errors[2]: "EREFUSED" is no name of an error`,
				"calls.metrics.nettap.socket.wait.duration is enabled, and needs calls.waits",
				`calls.functions[1]: "net/ipv4/tcp.c"`,
				"calls.filter.pids[1]: 0 is not from 1 to 2147483647",
				`calls.filter.commands[0]: "sixteen-letters-" is no command: the kernel has 1 to 15 bytes of it`,
				"calls.filter.users[0]: -1 is not from 0 to 4294967294",
				`calls.filter.cgroups[0]: "system.slice" is no path below the root of cgroup2, as /system.slice`,
				`calls.filter.containers[0]: "a/b" is no id of a container`,
				`calls.filter.syscalls[0]: "sys_read" is no system call`,
				`calls.filter.addresses[0]: "10.0.0.0/33" is no address`,
				`calls.filter.addresses[1]: "localhost" is no address`,
				"calls.filter.ports[0]: 0 is not from 1 to 65535",
				"calls.filter.ports[1]: 65536 is not from 1 to 65535",
				`on_unsupported is "ignore", and must be "error" or "warn"`,
				`avoid_hooks[1]: "uprobe" is no hook`,
				`avoid_hooks[2]: "kprobe/" is no hook`,
				`root_path is "host", and must be an absolute path`,
			},
		},
		"nothing to choose from": {
			yaml: "{calls: {errors: [], functions: [], sample_ratio: .nan}}",
			want: []string{
				`calls.errors is empty, and must be "unexpected", "always", "never" or names of errors`,
				"calls.functions is empty, and must name functions",
				"calls.sample_ratio is NaN, and must be from 0 to 1",
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

// The defaults in the documentation are a valid configuration, and set the same as an empty one.
// So an operator can rely on them.
func TestDocumentedDefaults(t *testing.T) {
	documented, err := os.ReadFile(configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```yaml\nreceivers:\n  nettap:\n(.*?)```").FindSubmatch(documented)
	if block == nil {
		t.Fatal("docs/configuration.md has no block that begins with receivers: nettap:")
	}
	want := createDefaultConfig().(*Config)
	got := &Config{}
	got.Traffic.Metrics, got.Traffic.ResourceAttributes = want.Traffic.Metrics, want.Traffic.ResourceAttributes
	got.Drops.Metrics, got.Drops.ResourceAttributes = want.Drops.Metrics, want.Drops.ResourceAttributes
	got.Accepts.Events, got.Accepts.ResourceAttributes = want.Accepts.Events, want.Accepts.ResourceAttributes
	got.Listeners.Metrics, got.Listeners.ResourceAttributes = want.Listeners.Metrics, want.Listeners.ResourceAttributes
	got.Connections.Metrics, got.Connections.ResourceAttributes = want.Connections.Metrics, want.Connections.ResourceAttributes
	got.Calls.ResourceAttributes = want.Calls.ResourceAttributes
	got.View.ServerConfig = want.View.ServerConfig
	if err := load(t, string(block[1]), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, configOptions...); diff != "" {
		t.Errorf("docs/configuration.md differs from the defaults (-default +documented):\n%s", diff)
	}
}

// configOptions compare configurations except for what mdatagen does not export. A nil list equals
// an empty one.
var configOptions = cmp.Options{
	cmpopts.EquateEmpty(),
	cmpopts.IgnoreUnexported(
		Config{}, confighttp.ServerConfig{}, confignet.AddrConfig{}, confignet.DialerConfig{},
		configoptional.Optional[configtls.ServerConfig]{}, configoptional.Optional[confighttp.CORSConfig]{},
		configoptional.Optional[confighttp.AuthConfig]{}, metadata.EventConfig{}, metadata.ResourceAttributeConfig{},
		metadata.NettapInterfaceIoMetricConfig{}, metadata.NettapInterfacePacketCountMetricConfig{},
		metadata.NettapInterfaceUnobservedIoMetricConfig{}, metadata.NettapInterfaceUnobservedPacketCountMetricConfig{},
		metadata.NettapListenerQueueLengthMetricConfig{}, metadata.NettapListenerQueueLimitMetricConfig{}, metadata.NettapPacketDroppedMetricConfig{}, metadata.NettapProcessPacketDroppedMetricConfig{}, metadata.NettapProcessNetworkPacketCountMetricConfig{}, metadata.NettapDropUnseenMetricConfig{}, metadata.NettapTCPResetMetricConfig{}, metadata.NettapSocketWaitDurationMetricConfig{},
		metadata.ProcessNetworkIoMetricConfig{},
		metadata.NettapProcessTCPConnectsMetricConfig{}, metadata.NettapProcessTCPRetransmitsMetricConfig{}, metadata.NettapProcessTCPRttMetricConfig{},
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
