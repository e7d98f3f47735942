// SPDX-License-Identifier: Apache-2.0

package dashboards

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// series is a series that begins at level and grows by slope in each second.
type series struct {
	name, labels string
	level, slope float64
}

// occasion has series that make an alert fire, and similar series that must not. The series in begun
// have begun five minutes ago and make it fire, too.
type occasion struct {
	firing, quiet, begun []series
}

// occasions has an occasion for each alert.
var occasions = map[string]occasion{
	"PacketsAreLost": {
		firing: []series{{"nettap_packet_dropped_total", `nettap_drop_class="loss",nettap_drop_reason="netfilter_drop"`, 0, 20}},
		quiet: []series{
			{"nettap_packet_dropped_total", `nettap_drop_class="loss",nettap_drop_reason="netfilter_drop"`, 1000, 5},
			{"nettap_packet_dropped_total", `nettap_drop_class="benign",nettap_drop_reason="queue_purge"`, 0, 1000},
		},
	},
	"ProcessLosesPackets": {
		firing: []series{{"nettap_process_packet_dropped_total", `nettap_drop_class="loss",process_pid="7"`, 0, 2}},
		quiet:  []series{{"nettap_process_packet_dropped_total", `nettap_drop_class="loss",process_pid="7"`, 1000, 0}},
	},
	"ConnectionsAreUnexpected": {
		firing: []series{{"nettap_connection_accepted_count_total", `nettap_policy_verdict="unexpected",network_local_port="22"`, 1, 0.01}},
		quiet: []series{
			{"nettap_connection_accepted_count_total", `nettap_policy_verdict="unexpected",network_local_port="22"`, 3, 0},
			{"nettap_connection_accepted_count_total", `nettap_policy_verdict="expected",network_local_port="80"`, 0, 100},
		},
		begun: []series{{"nettap_connection_accepted_count_total", `nettap_policy_verdict="unexpected",network_local_port="23"`, 1, 0}},
	},
	"AcceptQueueNearLimit": {
		firing: []series{{"nettap_listener_queue_length", `network_local_port="80"`, 110, 0}, {"nettap_listener_queue_limit", `network_local_port="80"`, 128, 0}},
		quiet: []series{
			{"nettap_listener_queue_length", `network_local_port="80"`, 90, 0}, {"nettap_listener_queue_limit", `network_local_port="80"`, 128, 0},
			{"nettap_listener_queue_length", `network_local_port="81"`, 1, 0}, {"nettap_listener_queue_limit", `network_local_port="81"`, 0, 0},
		},
	},
	"SegmentsAreSentAgain": {
		firing: []series{
			{"nettap_process_tcp_retransmits_total", `process_pid="7"`, 0, 10},
			{"nettap_process_network_packet_count_total", `process_pid="7",network_io_direction="transmit"`, 0, 100},
		},
		quiet: []series{
			{"nettap_process_tcp_retransmits_total", `process_pid="7"`, 0, 1},
			{"nettap_process_network_packet_count_total", `process_pid="7",network_io_direction="transmit"`, 0, 100},
		},
	},
	"TrafficIsUnobserved": {
		firing: []series{
			{"nettap_interface_unobserved_io_bytes", `nettap_interface_stacked="false",network_interface_name="eth0"`, 0, -1e4},
			{"nettap_interface_io_bytes_total", `nettap_interface_stacked="false",network_interface_name="eth0"`, 0, 1e5},
		},
		quiet: []series{
			{"nettap_interface_unobserved_io_bytes", `nettap_interface_stacked="false",network_interface_name="eth0"`, 1e9, 10},
			{"nettap_interface_io_bytes_total", `nettap_interface_stacked="false",network_interface_name="eth0"`, 0, 1e5},
			{"nettap_interface_unobserved_io_bytes", `nettap_interface_stacked="false",network_interface_name="idle"`, 0, 1},
			{"nettap_interface_io_bytes_total", `nettap_interface_stacked="false",network_interface_name="idle"`, 0, 1},
		},
	},
	"NettapLosesEvents": {
		firing: []series{{"otelcol_nettap_events_lost", `cause="ring_full"`, 0, 1}},
		quiet:  []series{{"otelcol_nettap_events_lost", `cause="ring_full"`, 12, 0}},
	},
	"NettapHookIsInactive": {
		firing: []series{{"otelcol_nettap_hook_active", `hook="tp_btf/kfree_skb",awaited="false"`, 0, 0}},
		quiet: []series{
			{"otelcol_nettap_hook_active", `hook="tp_btf/kfree_skb",awaited="false"`, 1, 0},
			{"otelcol_nettap_hook_active", `hook="tp_btf/sched_process_exec",awaited="true"`, 0, 0},
		},
	},
	"NettapIsOverBudget": {
		firing: []series{{"otelcol_nettap_limit_step", `receiver="nettap"`, 1, 0}},
		quiet:  []series{{"otelcol_nettap_limit_step", `receiver="nettap"`, 0, 0}},
	},
	"NettapMapIsNearlyFull": {
		firing: []series{{"otelcol_nettap_map_entries", `map="drops"`, 95, 0}, {"otelcol_nettap_map_limit", `map="drops"`, 100, 0}},
		quiet:  []series{{"otelcol_nettap_map_entries", `map="drops"`, 80, 0}, {"otelcol_nettap_map_limit", `map="drops"`, 100, 0}},
	},
	"NettapQueueIsNearlyFull": {
		firing: []series{{"otelcol_exporter_queue_size", `data_type="logs"`, 6e7, 0}, {"otelcol_exporter_queue_capacity", `data_type="logs"`, 1e8, 0}},
		quiet:  []series{{"otelcol_exporter_queue_size", `data_type="logs"`, 1e6, 0}, {"otelcol_exporter_queue_capacity", `data_type="logs"`, 1e8, 0}},
	},
}

// TestAlertsFireOnTheirOccasions requires that each alert fires on its occasion, for at least as long as
// its for clause says, and not on the similar series.
func TestAlertsFireOnTheirOccasions(t *testing.T) {
	b := startBackend(t, freePort(t))
	now := time.Now().Truncate(time.Second)
	for name, occasion := range occasions {
		b.put(samples(name+" fires", occasion.firing, now.Add(-2*time.Hour), now) +
			samples(name+" fires soon", occasion.begun, now.Add(-5*time.Minute), now) +
			samples(name+" is quiet", occasion.quiet, now.Add(-2*time.Hour), now))
	}
	b.flush()
	for _, alert := range alerts(t) {
		want := []string{alert.Alert + " fires"}
		if len(occasions[alert.Alert].begun) > 0 {
			want = append(want, alert.Alert+" fires soon")
		}
		for _, at := range []time.Time{now, now.Add(-time.Duration(alert.For))} {
			got := map[string]bool{}
			for _, labels := range b.query(alert.Expr, at) {
				got[labels["host_id"]+labels["instance"]] = true
			}
			for _, host := range want {
				if !got[host] {
					t.Errorf("%s: %v before the end it does not", host, now.Sub(at))
				}
			}
			if got[alert.Alert+" is quiet"] {
				t.Errorf("%s fires though nothing happens", alert.Alert)
			}
		}
		if _, known := occasions[alert.Alert]; !known {
			t.Errorf("%s has no occasion here", alert.Alert)
		}
	}
}

// samples returns the samples from begin to end, as text for [backend.put]. host is the label host_id, or
// for the Collector's own metrics, which are scraped, the label instance.
func samples(host string, all []series, begin, end time.Time) string {
	var lines strings.Builder
	const step = 15 * time.Second
	for _, s := range all {
		label := "host_id"
		if strings.HasPrefix(s.name, "otelcol_") {
			label = "instance"
		}
		for at := begin; !at.After(end); at = at.Add(step) {
			fmt.Fprintf(&lines, "%s{%s=%q,%s} %f %d\n", s.name, label, host, s.labels, s.level+s.slope*at.Sub(begin).Seconds(), at.UnixMilli())
		}
	}
	return lines.String()
}
