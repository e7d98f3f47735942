// SPDX-License-Identifier: Apache-2.0

// Package dashboards has the source of the Grafana dashboards in deploy/grafana, which
// go test -update writes, and the tests of these dashboards and of the rules in deploy/prometheus.
package dashboards

// dashboard is a dashboard of Grafana.
type dashboard struct {
	file, title string
	process     bool // the user can choose processes, of which the panels are
	panels      []panel
}

// panel draws the result of one expression, in which $host and $process are what the user has chosen.
type panel struct {
	title, description string
	expression         string
	legend             string
	unit               string // in Grafana's notation
	kind               string // lines or table; "" means lines
}

const (
	lines = "timeseries"
	table = "table"
)

// needsWaits is part of the descriptions of panels about waits.
const needsWaits = "Needs calls: {metrics: {nettap.socket.wait.duration: {enabled: true}}}."

// dashboards are all dashboards. Their sums over interfaces leave out devices that are above others
// (nettap.interface.stacked), because a packet is counted on each device that it passes.
var dashboards = []dashboard{
	{
		file: "overview", title: "nettap: overview",
		panels: []panel{
			{
				title: "Traffic", unit: "Bps", legend: "{{network_io_direction}} {{network_interface_name}}",
				description: "Only of devices that are not above another one.",
				expression:  `sum by (network_interface_name, network_io_direction) (rate(nettap_interface_io_bytes_total{nettap_interface_stacked="false", host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "Processes with most traffic", unit: "Bps", legend: "{{process_executable_name}} {{process_pid}}",
				expression: `topk(10, sum by (host_id, process_executable_name, process_pid) (rate(process_network_io_bytes_total{host_id=~"$host"}[$__rate_interval])))`,
			},
			{
				title: "Dropped packets by class", unit: "pps", legend: "{{nettap_drop_class}}",
				description: "Class loss means that a packet did not arrive that was sent for a purpose.",
				expression:  `sum by (nettap_drop_class) (rate(nettap_packet_dropped_total{host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "Processes that lose packets", unit: "pps", legend: "{{process_executable_name}} {{process_pid}}: {{nettap_drop_reason}}",
				expression: `topk(10, sum by (host_id, process_executable_name, process_pid, nettap_drop_reason) (rate(nettap_process_packet_dropped_total{nettap_drop_class="loss", host_id=~"$host"}[$__rate_interval])))`,
			},
			{
				title: "Connections that wait for an accept", unit: "percentunit", legend: "{{process_executable_name}} {{network_local_address}}:{{network_local_port}}",
				description: "As a share of what the queue can hold. Needs listeners: {enabled: true}.",
				expression:  `topk(10, nettap_listener_queue_length{host_id=~"$host"} / (nettap_listener_queue_limit{host_id=~"$host"} > 0))`,
			},
			{
				title: "Retransmitted segments", unit: "pps", legend: "{{process_executable_name}} {{process_pid}}",
				description: "Needs connections: {enabled: true}.",
				expression:  `topk(10, sum by (host_id, process_executable_name, process_pid) (rate(nettap_process_tcp_retransmits_total{host_id=~"$host"}[$__rate_interval])))`,
			},
		},
	},
	{
		file: "process", title: "nettap: processes", process: true,
		panels: []panel{
			{
				title: "Bytes by interface", unit: "Bps", legend: "{{process_pid}} {{network_io_direction}} {{network_interface_name}}",
				expression: `sum by (host_id, process_pid, network_io_direction, network_interface_name) (rate(process_network_io_bytes_total{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
			{
				title: "Packets by interface", unit: "pps", legend: "{{process_pid}} {{network_io_direction}} {{network_interface_name}}",
				expression: `sum by (host_id, process_pid, network_io_direction, network_interface_name) (rate(nettap_process_network_packet_count_total{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
			{
				title: "Dropped packets by reason", unit: "pps", legend: "{{process_pid}} {{nettap_drop_reason}} ({{nettap_drop_class}})",
				expression: `sum by (host_id, process_pid, nettap_drop_reason, nettap_drop_class) (rate(nettap_process_packet_dropped_total{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
			{
				title: "Retransmitted segments", unit: "pps", legend: "{{process_pid}}",
				description: "Needs connections: {enabled: true}.",
				expression:  `sum by (host_id, process_pid) (rate(nettap_process_tcp_retransmits_total{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
			{
				title: "Connections that wait for an accept", unit: "short", legend: "{{process_pid}} {{network_local_address}}:{{network_local_port}}",
				description: "Needs listeners: {enabled: true}.",
				expression:  `nettap_listener_queue_length{host_id=~"$host", process_executable_name=~"$process"}`,
			},
		},
	},
	{
		file: "interfaces", title: "nettap: interfaces",
		panels: []panel{
			{
				title: "Bytes by account", unit: "Bps", legend: "{{network_interface_name}} {{network_io_direction}} {{nettap_account}}",
				description: "docs/accounts.md describes the accounts.",
				expression:  `sum by (host_id, network_interface_name, network_io_direction, nettap_account) (rate(nettap_interface_io_bytes_total{host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "Packets by account", unit: "pps", legend: "{{network_interface_name}} {{network_io_direction}} {{nettap_account}}",
				expression: `sum by (host_id, network_interface_name, network_io_direction, nettap_account) (rate(nettap_interface_packet_count_total{host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "Bytes that no account has", unit: "bytes", legend: "{{network_interface_name}} {{network_io_direction}}",
				description: "What the interface's counter has beyond the accounts, since the start.",
				expression:  `nettap_interface_unobserved_io_bytes{host_id=~"$host"}`,
			},
			{
				title: "Packets that no account has", unit: "short", legend: "{{network_interface_name}} {{network_io_direction}}",
				expression: `nettap_interface_unobserved_packet_count{host_id=~"$host"}`,
			},
		},
	},
	{
		file: "drops", title: "nettap: drops",
		panels: []panel{
			{
				title: "By reason", unit: "pps", legend: "{{nettap_drop_reason}} ({{nettap_drop_class}})",
				description: "docs/drop_reasons.md explains each reason.",
				expression:  `sum by (nettap_drop_reason, nettap_drop_class) (rate(nettap_packet_dropped_total{host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "By function of the kernel", unit: "pps", legend: "{{code_function_name}}",
				expression: `topk(10, sum by (code_function_name) (rate(nettap_packet_dropped_total{host_id=~"$host"}[$__rate_interval])))`,
			},
			{
				title: "By interface and protocol", unit: "pps", legend: "{{network_interface_name}} {{network_transport}} {{network_type}}",
				expression: `sum by (network_interface_name, network_transport, network_type) (rate(nettap_packet_dropped_total{host_id=~"$host"}[$__rate_interval]))`,
			},
			{
				title: "Processes that lost packets", kind: table, unit: "short",
				description: "Packets in the chosen time.",
				expression:  `sum by (host_id, process_executable_name, process_pid, nettap_drop_reason, nettap_drop_class) (increase(nettap_process_packet_dropped_total{host_id=~"$host"}[$__range])) > 0`,
			},
			{
				title: "TCP resets", unit: "pps", legend: "{{process_executable_name}} {{process_pid}} {{network_io_direction}} {{nettap_tcp_reset_reason}}",
				description: "Sent and received ones. Needs drops: {metrics: {nettap.tcp.reset: {enabled: true}}}.",
				expression:  `topk(10, sum by (host_id, process_executable_name, process_pid, network_io_direction, nettap_tcp_reset_reason) (rate(nettap_tcp_reset_total{host_id=~"$host"}[$__rate_interval])))`,
			},
			{
				title: "Counted by the kernel and not seen", unit: "short", legend: "{{nettap_drop_counter}}",
				expression: `nettap_drop_unseen{host_id=~"$host"}`,
			},
		},
	},
	{
		file: "accepts", title: "nettap: accepts", process: true,
		panels: []panel{
			{
				title: "Accepted connections", unit: "cps", legend: "{{process_executable_name}} {{network_local_port}}",
				description: "By executable and port. Needs deploy/counts.yaml.",
				expression:  `sum by (host_id, process_executable_name, network_local_port) (rate(nettap_connection_accepted_count_total{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
			{
				title: "Unexpected connections", kind: table, unit: "short",
				description: "Connections that no rule of accepts.policy expects, in the chosen time. The log records have their peers. Needs deploy/counts.yaml and a policy.",
				expression:  `sum by (host_id, process_executable_name, network_local_port) (increase(nettap_connection_accepted_count_total{nettap_policy_verdict="unexpected", host_id=~"$host", process_executable_name=~"$process"}[$__range])) > 0`,
			},
			{
				title: "Time in the accept queue", unit: "s", legend: "{{process_executable_name}} {{network_local_port}}",
				description: "95 % of the connections were accepted faster. Needs deploy/counts.yaml.",
				expression:  `histogram_quantile(0.95, sum by (le, host_id, process_executable_name, network_local_port) (rate(nettap_accept_queue_duration_seconds_bucket{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval])))`,
			},
			{
				title: "How full accept queues are", unit: "percentunit", legend: "{{process_executable_name}} {{process_pid}} {{network_local_address}}:{{network_local_port}}",
				description: "Connections that wait for an accept, as a share of what the queue can hold. Needs listeners: {enabled: true}.",
				expression:  `nettap_listener_queue_length{host_id=~"$host", process_executable_name=~"$process"} / (nettap_listener_queue_limit{host_id=~"$host", process_executable_name=~"$process"} > 0)`,
			},
			{
				title: "Refused attempts", unit: "cps", legend: "{{host_id}} {{network_local_port}} ({{nettap_connection_refused_cause}})",
				description: "On closed ports and full accept queues, of all processes. The log records have their peers. Needs deploy/counts.yaml.",
				expression:  `topk(10, sum by (host_id, network_local_port, nettap_connection_refused_cause) (rate(nettap_connection_refused_count_total{host_id=~"$host"}[$__rate_interval])))`,
			},
			{
				title: "Listeners", kind: table, unit: "short",
				description: "The value is how many connections the accept queue can hold. Needs listeners: {enabled: true}.",
				expression:  `max by (host_id, process_executable_name, process_pid, network_local_address, network_local_port) (nettap_listener_queue_limit{host_id=~"$host", process_executable_name=~"$process"})`,
			},
		},
	},
	{
		file: "waits", title: "nettap: waits", process: true,
		panels: []panel{
			{
				title: "How long peers take to answer", unit: "s", legend: "{{process_executable_name}} {{process_pid}}, port {{network_peer_port}}",
				description: "95 % of the waits were shorter. " + needsWaits,
				expression:  `topk(10, histogram_quantile(0.95, sum by (le, host_id, process_executable_name, process_pid, network_peer_port) (rate(nettap_socket_wait_duration_seconds_bucket{nettap_wait_part="peer", host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))))`,
			},
			{
				title: "How late programs read", unit: "s", legend: "{{process_executable_name}} {{process_pid}}, serves {{network_local_port}}, asks {{network_peer_port}}",
				description: "From the time at which there is something to read until the program reads it. In 95 % of the waits it was shorter. " + needsWaits,
				expression:  `topk(10, histogram_quantile(0.95, sum by (le, host_id, process_executable_name, process_pid, network_local_port, network_peer_port) (rate(nettap_socket_wait_duration_seconds_bucket{nettap_wait_part="local", host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))))`,
			},
			{
				title: "Time spent waiting for answers", unit: "short", legend: "{{process_executable_name}} {{process_pid}}, port {{network_peer_port}}",
				description: "How many waits are in progress on average: seconds of waiting in each second. " + needsWaits,
				expression:  `topk(10, sum by (host_id, process_executable_name, process_pid, network_peer_port) (rate(nettap_socket_wait_duration_seconds_sum{nettap_wait_part="peer", host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval])))`,
			},
			{
				title: "Waits", unit: "ops", legend: "{{process_executable_name}} {{process_pid}}, serves {{network_local_port}}, asks {{network_peer_port}}",
				description: "Answers and requests for which a program waited. " + needsWaits,
				expression:  `topk(10, sum by (host_id, process_executable_name, process_pid, network_local_port, network_peer_port) (rate(nettap_socket_wait_duration_seconds_count{nettap_wait_part="local", host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval])))`,
			},
			{
				title: "Round-trip time of connections", unit: "s", legend: "{{process_executable_name}} {{process_pid}} ({{nettap_connection_role}})",
				description: "Of the connections that ended, 95 % had a shorter one. It shows whether the network makes peers slow. Needs connections: {enabled: true}.",
				expression:  `topk(10, histogram_quantile(0.95, sum by (le, host_id, process_executable_name, process_pid, nettap_connection_role) (rate(nettap_process_tcp_rtt_seconds_bucket{host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))))`,
			},
			{
				title: "Connects that failed", unit: "cps", legend: "{{process_executable_name}} {{process_pid}}: {{error_type}}",
				description: "given_up means that the program closed the socket before there was an answer. Needs connections: {enabled: true}.",
				expression:  `sum by (host_id, process_executable_name, process_pid, error_type) (rate(nettap_process_tcp_connects_total{error_type!="", host_id=~"$host", process_executable_name=~"$process"}[$__rate_interval]))`,
			},
		},
	},
	{
		file: "nettap", title: "nettap: itself",
		panels: []panel{
			{
				title: "Events seen", unit: "eps", legend: "{{instance}} {{instrument}}",
				expression: `sum by (instance, instrument) (rate(otelcol_nettap_events_seen[$__rate_interval]))`,
			},
			{
				title: "Events lost", unit: "eps", legend: "{{instance}} {{instrument}} {{cause}}",
				description: "docs/troubleshooting.md says what to do about each cause.",
				expression:  `sum by (instance, instrument, cause) (rate(otelcol_nettap_events_lost[$__rate_interval]))`,
			},
			{
				title: "CPU time, as a part of the machine", unit: "percentunit", legend: "{{instance}} {{part}}",
				expression: `sum by (instance, part) (otelcol_nettap_cpu_usage)`,
			},
			{
				title: "Step of the limit on itself", unit: "short", legend: "{{instance}}",
				description: "Above 0, calls are left out: see docs/cost.md.",
				expression:  `max by (instance) (otelcol_nettap_limit_step)`,
			},
			{
				title: "How full the kernel's maps are", unit: "percentunit", legend: "{{instance}} {{instrument}} {{map}}",
				expression: `topk(10, otelcol_nettap_map_entries / otelcol_nettap_map_limit)`,
			},
			{
				title: "Hooks that were seen to fire", kind: table, unit: "short",
				expression: `min by (instance, instrument, hook) (otelcol_nettap_hook_active)`,
			},
		},
	},
}
