// SPDX-License-Identifier: Apache-2.0

package view

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The lines are those that the scripts printed for known traffic on Linux 6.1 with SystemTap 4.8,
// where these are correct.

func TestNettopIsTheScripts(t *testing.T) {
	f := newFeed()
	f.processes = []fed{ // earlier amounts are not in the table
		{pid: 131, comm: "python3", dev: "v1", amounts: amounts{1000, 1000, 3, 3}},
	}
	got := f.during(t, "/nettop?interval=2s", func() {
		f.processes = []fed{
			{pid: 131, comm: "python3", dev: "v1", amounts: amounts{1000 + 1024, 1000 + 331*1024, 3 + 23, 3 + 27}},
			{pid: 153, comm: "curl", dev: "lo", amounts: amounts{132 * 1024, 132*1024 + 1023, 16, 17}},
			{pid: 132, uid: 33, comm: "python3", dev: "v0", amounts: amounts{20 * 1024, 0, 20, 0}},
		}
	}, func() {
		f.processes[1].amounts[txPackets]++
	})
	want := strings.Join([]string{
		"  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND        ",
		"  131     0 v1                23      27       1     331 python3        ",
		"  153     0 lo                17      17     132     132 curl           ",
		"  132    33 v0                20       0      20       0 python3        ",
		"", "",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
}

func TestNettopFollows(t *testing.T) {
	f := newFeed()
	f.processes = []fed{{pid: 7, comm: "a", dev: "lo"}}
	got := f.during(t, "/nettop?follow&interval=1s",
		func() { f.processes[0].amounts = amounts{2048, 0, 2, 0} },
		func() { f.processes[0].amounts[rxPackets]++ },
		func() { f.Close() },
	)
	want := strings.Join([]string{
		"  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND        ",
		"    7     0 lo                 2       0       2       0 a              ",
		"",
		"  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND        ",
		"    7     0 lo                 0       1       0       0 a              ",
		"",
		"  PID   UID DEV          XMIT_PK RECV_PK XMIT_KB RECV_KB COMMAND        ",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tables differ (-want +got):\n%s", diff)
	}
}

func TestDropwatchIsTheScripts(t *testing.T) {
	f := newFeed()
	f.losses = []loss{{symbol: "tcp_v4_rcv", reason: "no_socket", class: "loss", packets: 5}}
	got := f.during(t, "/dropwatch?interval=4s", func() {
		f.losses = []loss{
			{symbol: "tcp_v4_rcv", reason: "no_socket", class: "loss", packets: 6},
			{symbol: "unix_stream_connect", reason: "not_specified", class: "benign", packets: 6},
			{symbol: "ip6_mc_input", reason: "not_specified", class: "unknown", packets: 1},
			{symbol: "ip6_mc_input", reason: "ip_inhdr", class: "loss", packets: 1},
			{symbol: "", reason: "nettap_listen_overflow", class: "loss", packets: 3},
		}
	}, func() {}, func() {}, func() {})
	want := strings.Join([]string{
		"Monitoring for dropped packets",
		"",
		"Sun Nov 22 21:07:53 2026",
		"6 packets dropped at unix_stream_connect",
		"3 packets dropped at nettap_listen_overflow",
		"2 packets dropped at ip6_mc_input",
		"1 packets dropped at tcp_v4_rcv",
		"Stopping dropped packet monitor",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
}

// The script prints the IPv4 addresses of IPv6 sockets as IPv6. Here they are printed as IPv4.
func TestConnectionsAreTheScripts(t *testing.T) {
	f := newFeed()
	server := fed{pid: 132, comm: "python3"}
	f.accept(fed{pid: 134, comm: "python3"}, "127.0.0.1:8081", "127.0.0.1:40000")
	f.accept(server, "[::1]:8080", "[::1]:40001")
	f.accept(server, "[fd09::1]:8080", "[fd09::2]:40002")
	got := f.during(t, "/tcp_connections")
	want := strings.Join([]string{
		"   UID              CMD    PID   PORT        IP_SOURCE",
		"     0          python3    134   8081        127.0.0.1",
		"     0          python3    132   8080 0000:0000:0000:0000:0000:0000:0000:0001",
		"     0          python3    132   8080 fd09:0000:0000:0000:0000:0000:0000:0002",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
}

func TestConnectionsFollow(t *testing.T) {
	f := newFeed()
	p := fed{pid: 9, uid: 33, comm: "nginx"}
	f.accept(p, "127.0.0.1:80", "127.0.0.1:1")
	got := f.during(t, "/tcp_connections?follow&interval=1s&filter=port:80",
		func() { f.accept(p, "127.0.0.1:80", "127.0.0.2:2"); f.accept(p, "127.0.0.1:81", "127.0.0.3:3") },
		func() { f.Close() },
	)
	want := "   UID              CMD    PID   PORT        IP_SOURCE\n" +
		"    33            nginx      9     80        127.0.0.2\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
}

func TestSocketTraceIsTheScripts(t *testing.T) {
	f := newFeed()
	f.call(fed{pid: 177, comm: "curl"}, "slow", "",
		span{-1, "__x64_sys_socket", 0, 380},
		span{0, "__sys_socket", 84, 373},
		span{1, "__sock_create", 134, 311},
		span{2, "sock_alloc", 158, 245},
		span{3, "sock_alloc_inode", 178, 206},
		span{1, "sock_alloc_file", 322, 365},
		span{5, "off_cpu", 330, 340},
	)
	got := f.during(t, "/socket-trace")
	want := strings.Join([]string{
		"     0 curl(177): -> __x64_sys_socket",
		"    84 curl(177):  -> __sys_socket",
		"   134 curl(177):   -> __sock_create",
		"   158 curl(177):    -> sock_alloc",
		"   178 curl(177):     -> sock_alloc_inode",
		"   206 curl(177):     <- sock_alloc_inode",
		"   245 curl(177):    <- sock_alloc",
		"   311 curl(177):   <- __sock_create",
		"   322 curl(177):   -> sock_alloc_file",
		"   365 curl(177):   <- sock_alloc_file",
		"   373 curl(177):  <- __sys_socket",
		"   380 curl(177): <- __x64_sys_socket",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the tree differs (-want +got):\n%s", diff)
	}
}

// The address of a Unix socket is a path, and has no port.
func TestSocketTraceTellsPaths(t *testing.T) {
	f := newFeed()
	f.callWith(map[string]string{"network.peer.address": "/run/a b.sock", "network.transport": "unix"}, fed{pid: 1, comm: "curl"}, "failed", "ECONNREFUSED", span{-1, "connect", 0, 5})
	got := f.during(t, "/socket-trace?wide")
	if want := " local - peer /run/a_b.sock cpu "; !strings.Contains(got, want) {
		t.Errorf("it is\n%s\nwhich has no %q", got, want)
	}
}

func TestTablesSortAndLimit(t *testing.T) {
	for query, want := range map[string]string{
		"":                         "big many few",
		"sort=bytes":               "big few many",
		"sort=bytes&n=1":           "big",
		"sort=command":             "big few many",
		"filter=process:many":      "many",
		"filter=-process:many":     "big few",
		"filter=iface:eth0":        "few",
		"filter=/^.e/ iface:eth0":  "few",
		"filter=port:80":           "many",
		"filter=peer:10.0.0.0/8":   "many",
		"filter=container:3f2a":    "big",
		"filter=process:3":         "few",
		`filter="ma" -iface:eth0`:  "many",
		"filter=process:/^(b|f)/":  "big few",
		"filter=peer:192.0.2.0/24": "",
	} {
		t.Run(query, func(t *testing.T) {
			f := newFeed()
			f.accept(fed{pid: 2, comm: "many"}, "127.0.0.1:80", "10.1.2.3:5")
			body := f.during(t, "/nettop?interval=1s&"+strings.ReplaceAll(query, " ", "%20"), func() {
				f.processes = []fed{
					{pid: 1, comm: "big", dev: "lo", amounts: amounts{1 << 20, 0, 90, 0}, more: map[string]string{"container.id": "3f2a99"}},
					{pid: 2, comm: "many", dev: "lo", amounts: amounts{0, 100, 40, 40}},
					{pid: 3, comm: "few", dev: "eth0", amounts: amounts{500, 0, 1, 0}},
				}
			})
			var names []string
			for _, line := range strings.Split(body, "\n")[1:] {
				if words := strings.Fields(line); len(words) > 0 {
					names = append(names, words[len(words)-1])
				}
			}
			if got := strings.Join(names, " "); got != want {
				t.Errorf("it shows %q, want %q", got, want)
			}
		})
	}
}

// Further columns come after the script's own columns, whose places do not change.
func TestWideTables(t *testing.T) {
	f := newFeed()
	p := fed{pid: 1, comm: "a b", dev: "lo", more: map[string]string{"container.id": "0123456789abcdef", "service.name": "shop"}}
	f.accept(p, "127.0.0.1:80", "127.0.0.1:4000")
	got := f.during(t, "/tcp_connections?wide")
	want := "   UID              CMD    PID   PORT        IP_SOURCE   PEER                     TIME  QUEUE_MS CONTAINER    SERVICE         VERDICT    TRACE\n" +
		"     0              a b      1     80        127.0.0.1   4000 2026-11-22T21:07:48.000Z         - 0123456789ab shop            -          -\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tcp_connections differs (-want +got):\n%s", diff)
	}
	got = f.during(t, "/dropwatch?wide&interval=1s", func() { f.losses = []loss{{symbol: "f", reason: "no_socket", class: "loss", packets: 2}} })
	if want := "2 packets dropped at f no_socket loss lo - -\n"; !strings.Contains(got, want) {
		t.Errorf("dropwatch says\n%s\nwhich has no %q", got, want)
	}
}

func TestDropwatchSaysWhoLostThePackets(t *testing.T) {
	reader, writer := fed{pid: 7, comm: "a reader", uid: 33}, fed{pid: 8, comm: "writer"}
	losses := []loss{
		{symbol: "f", reason: "socket_rcvbuff", class: "loss", packets: 5, by: &reader},
		{symbol: "g", reason: "socket_rcvbuff", class: "loss", packets: 1, by: &reader, iface: "eth0"},
		{symbol: "h", reason: "neigh_failed", class: "loss", packets: 2, by: &writer},
		{symbol: "i", reason: "no_socket", class: "loss", packets: 9},
	}
	for query, want := range map[string][]string{
		"": {"9 packets dropped at i", "5 packets dropped at f", "2 packets dropped at h", "1 packets dropped at g"},
		"&wide": {
			"9 packets dropped at i no_socket loss lo - -", "5 packets dropped at f socket_rcvbuff loss lo - -",
			"2 packets dropped at h neigh_failed loss lo - -", "1 packets dropped at g socket_rcvbuff loss lo - -",
			"5 packets lost by 7 a_reader socket_rcvbuff loss lo receive socket", "2 packets lost by 8 writer neigh_failed loss lo receive socket",
			"1 packets lost by 7 a_reader socket_rcvbuff loss eth0 receive socket",
		},
		"&wide&filter=process:writer": {"2 packets lost by 8 writer neigh_failed loss lo receive socket"},
		"&wide&n=1":                   {"9 packets dropped at i no_socket loss lo - -", "5 packets lost by 7 a_reader socket_rcvbuff loss lo receive socket"},
	} {
		f := newFeed()
		got := f.during(t, "/dropwatch?interval=1s"+query, func() { f.losses = losses })
		lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
		if diff := cmp.Diff(want, lines[3:len(lines)-1]); diff != "" {
			t.Errorf("with %q the table differs (-want +got):\n%s", query, diff)
		}
	}
}
