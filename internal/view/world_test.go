// SPDX-License-Identifier: Apache-2.0

package view

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// world is an invented machine whose seconds are real ones, and which has already run for 15
// minutes.
type world struct {
	*feed
	past    atomic.Int64 // ms since 1970 while those 15 minutes pass; afterwards 0
	rates   []float64    // of each process, in bytes sent per second
	answers []float64    // and received
	drops   []dropped
	ports   []visited
	scans   bool // someone tries a closed port each minute, which is reset, and what is off by default is measured, too
	calls   []called
	seconds int
	until   time.Time // what happened is known until then
}

type dropped struct {
	symbol, reason, class, iface, transport string
	every                                   int // seconds from one to the next
	packets                                 int64
	so                                      int64
	// index of the process that lost them, plus 1; 0 if it is not known
	by int
}

type visited struct {
	process     int
	local, peer string
	each        float64 // connections per second
	queueMS     float64
	verdict     string
}

type called struct {
	process    int
	every      int
	kept       string
	failure    string
	local      string
	peer       string
	attributes map[string]any
	nodes      []step
}

// step is a function of a call, with its begin and end in µs after the begin of the call.
type step struct {
	parent      int
	name        string
	from, until int
	attributes  map[string]string
	event       string
}

func newWorld(instance, host string) *world {
	w := &world{feed: &feed{}}
	w.View = New(Options{
		Instance: instance, Host: host, Now: w.time, CommandLines: true, TraceURL: "http://127.0.0.1:16686/trace/{trace_id}",
		Health: func() Health {
			return Health{
				Instruments: madeUpHealth(w.time()),
				Limit:       &Limit{MaxPercent: 5, ProgramsPercent: 0.81, LoopsPercent: 0.07, Step: "full"},
				NotSeen: []string{
					"traffic: packets that AF_XDP sockets send.",
					"calls: functions inside of calls that are not in the sample.",
				},
			}
		},
		Cost: func() (time.Duration, int64) {
			return time.Duration(float64(time.Now().UnixNano()) * 0.013), 148_000_000
		},
		Explain: func(reason, _, _ string) (why, advice string) {
			if reason == "socket_rcvbuff" {
				advice = "Let the application read faster."
			}
			return madeUpWhy[reason], advice
		},
	})
	w.Open("nettap")
	w.until = time.Now()
	return w
}

var madeUpWhy = map[string]string{
	"nettap_listen_overflow": "the listener's accept queue is full: the client tries again or gives up",
	"no_socket":              "nobody listens; the sender may get a reset or an ICMP error",
	"socket_rcvbuff":         "the application reads too slowly",
	"netfilter_drop":         "a firewall rule",
	"tcp_old_data":           "a second copy of what has arrived already",
	"socket_close":           "unread when its reader closed",
}

func (w *world) time() time.Time {
	if past := w.past.Load(); past != 0 {
		return time.UnixMilli(past)
	}
	return time.Now()
}

// add adds a process that moves so many bytes per second on an interface.
func (w *world) add(pid, uid int64, comm, dev string, sent, received float64, more ...string) int {
	p := fed{pid: pid, uid: uid, comm: comm, dev: dev, more: map[string]string{"process.creation.time": "2026-11-29T01:02:03.000Z"}}
	for i := 0; i+1 < len(more); i += 2 {
		p.more[more[i]] = more[i+1]
	}
	w.processes = append(w.processes, p)
	w.rates, w.answers = append(w.rates, sent), append(w.answers, received)
	return len(w.processes) - 1
}

// pass lets seconds pass, in which processes move something, packets are dropped, connections come
// in, and calls take long.
func (w *world) pass(seconds int) {
	w.now = w.time()
	for range seconds {
		w.seconds++
		w.moveOn()
	}
	w.Traffic(w.traffic())
	w.Drops(w.dropPoints())
	if w.scans {
		w.measure()
	}
}

// measure delivers what the instruments that are off by default measure.
func (w *world) measure() {
	of := map[string]*fed{}
	for i := range w.processes {
		of[w.processes[i].comm] = &w.processes[i]
	}
	n := int64(w.seconds)
	metrics := pmetric.NewMetrics()
	for comm, rate := range map[string]int64{"node": 3, "java": 1, "curl": 20, "prometheus": 15} { // a connect in so many seconds
		putCount(metrics, of[comm], "nettap.process.tcp.connects", n/rate, nil)
	}
	putCount(metrics, of["curl"], "nettap.process.tcp.connects", n/37, map[string]string{"error.type": "ECONNREFUSED"})
	putCount(metrics, of["node"], "nettap.process.tcp.connects", n/61, map[string]string{"error.type": "ETIMEDOUT"})
	putCount(metrics, of["node"], "nettap.process.tcp.connects", n/200, map[string]string{"error.type": "given_up"})
	putCount(metrics, of["nginx"], "nettap.process.tcp.retransmits", n/2, nil)
	putCount(metrics, of["node"], "nettap.process.tcp.retransmits", n/9, nil)
	putDurations(metrics, of["nginx"], "nettap.process.tcp.rtt", float64(n)*0.2, []uint64{0, uint64(12 * n), uint64(3 * n)}, map[string]any{"nettap.connection.role": "server"})
	putDurations(metrics, of["java"], "nettap.process.tcp.rtt", float64(n)*0.0002, []uint64{uint64(n), 0, 0}, map[string]any{"nettap.connection.role": "client"})
	w.Connections(metrics)

	metrics = pmetric.NewMetrics()
	putQueue(metrics, of["nginx"], "0.0.0.0", 443, 71, 400+n%112, 511)
	putQueue(metrics, of["redis-server"], "127.0.0.1", 6379, 72, 0, 511)
	putQueue(metrics, of["postgres"], "172.17.0.3", 5432, 73, n%9, 200)
	putQueue(metrics, of["sshd"], "::", 22, 74, 0, 128)
	w.Queues(metrics)

	metrics = pmetric.NewMetrics()
	for part, seconds := range map[string]float64{"peer": 0.0042, "local": 0.0003} {
		putDurations(metrics, of["node"], "nettap.socket.wait.duration", float64(n)*seconds*14, []uint64{uint64(2 * n), uint64(12 * n), 0}, map[string]any{"nettap.wait.part": part, "network.peer.port": 5432})
	}
	putDurations(metrics, of["nginx"], "nettap.socket.wait.duration", float64(n)*0.0009, []uint64{uint64(9 * n), 0, 0}, map[string]any{"nettap.wait.part": "local", "network.local.port": 443})
	w.WaitDurations(metrics)

	if n%100 == 0 {
		logs := plog.NewLogs()
		putPacket(logs, w.now, "no_socket: udp 10.0.0.9:5000 to 10.0.0.5:9, 61 bytes on eth0, dropped by __udp4_lib_rcv", "10.0.0.9", 9)
		w.Accepts(logs)
	}
}

func (w *world) moveOn() {
	at := float64(w.seconds)
	sums := map[string]*amounts{}
	for i := range w.processes {
		p := &w.processes[i]
		sway := 1 + 0.55*math.Sin(at/(23+float64(i%7)*9)+float64(i)) + 0.25*math.Sin(at/3.1+float64(i*i))
		if i%5 == 3 { // in bursts
			sway *= 2.2 * max(0, math.Sin(at/41+float64(i)))
		}
		sent, received := uint64(max(0, w.rates[i]*sway)), uint64(max(0, w.answers[i]*sway))
		moved := amounts{sent, received, (sent + 999) / 1000, (received + 999) / 1000}
		p.amounts.add(moved)
		if sums[p.dev] == nil {
			sums[p.dev] = &amounts{}
		}
		sums[p.dev].add(moved)
	}
	for dev, sum := range sums {
		w.count(dev, "process", "transmit", int64(sum[txBytes]), int64(sum[txPackets]))
		w.count(dev, "process", "receive", int64(sum[rxBytes]), int64(sum[rxPackets]))
		w.count(dev, "kernel", "transmit", int64(sum[txBytes]/50), int64(sum[txPackets]/50))
		w.count(dev, unobservedAccount, "receive", 0, 0)
		switch dev {
		case "eth0":
			w.count(dev, "forwarded", "transmit", 260_000, 300)
			w.count(dev, "forwarded", "receive", 330_000, 350)
			w.count(dev, "unclaimed", "receive", int64(sum[rxBytes]/14), 40)
			w.count(dev, "request", "transmit", 6000, 80)
			w.count(dev, unobservedAccount, "transmit", 34_000, 30)
		case "wg0":
			w.count(dev, unobservedAccount, "transmit", -1200, -1)
		default:
			w.count(dev, unobservedAccount, "transmit", 0, 0)
		}
	}
	for i := range w.drops {
		if d := &w.drops[i]; w.seconds%d.every == 0 {
			d.so += d.packets + int64(w.seconds/7%3)
		}
	}
}

func (w *world) count(name, account, direction string, bytes, packets int64) {
	for i := range w.accounts {
		if b := &w.accounts[i]; b.name == name && b.account == account && b.direction == direction {
			b.bytes, b.packets = b.bytes+bytes, b.packets+packets
			return
		}
	}
	w.accounts = append(w.accounts, accountPoint{name, account, direction, bytes, packets})
}

func (w *world) dropPoints() pmetric.Metrics {
	metrics := pmetric.NewMetrics()
	scope := metrics.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	for _, d := range w.drops {
		if d.so == 0 {
			continue
		}
		point := sumOf(scope, "nettap.packet.dropped").AppendEmpty()
		point.SetIntValue(d.so)
		if d.by != 0 {
			putLoss(metrics, w.processes[d.by-1], loss{reason: d.reason, class: d.class, packets: d.so, iface: d.iface})
		}
		for name, value := range map[string]string{
			"code.function.name": d.symbol, "nettap.drop.reason": d.reason, "nettap.drop.class": d.class,
			"network.interface.name": d.iface, "network.transport": d.transport, "network.type": "ipv4",
		} {
			if value != "" {
				point.Attributes().PutStr(name, value)
			}
		}
	}
	if w.scans {
		putCount(metrics, nil, "nettap.tcp.reset", int64(w.seconds/60), map[string]string{"network.io.direction": "transmit", "nettap.tcp.reset.reason": "no_socket"})
		putCount(metrics, &w.processes[0], "nettap.tcp.reset", int64(w.seconds), map[string]string{"network.io.direction": "receive"})
		putCount(metrics, nil, "nettap.drop.unseen", int64(w.seconds), map[string]string{"nettap.drop.counter": "TcpExtListenDrops"})
	}
	return metrics
}

// visit adds accepted connections in some seconds.
func (w *world) visit(seconds int) {
	w.now = w.time()
	logs := plog.NewLogs()
	for i, v := range w.ports {
		n := int(v.each * float64(seconds))
		if v.each*float64(seconds) < 1 && (w.seconds+7*i)%int(1/v.each) < seconds {
			n = 1
		}
		for k := range n {
			w.connection(logs, w.processes[v.process], v.local, fmt.Sprintf("%s:%d", v.peer, 40_000+(w.seconds*37+k)%20_000))
			a := logs.ResourceLogs().At(logs.ResourceLogs().Len() - 1).ScopeLogs().At(0).LogRecords().At(0)
			a.SetTimestamp(pcommon.NewTimestampFromTime(w.now.Add(-time.Duration(float64(k) / float64(n) * float64(seconds) * float64(time.Second)))))
			a.Attributes().PutDouble("nettap.accept.queue.duration", v.queueMS/1000*(1+float64(k%5)/3))
			a.Attributes().PutInt("nettap.accept.queue.length", int64(k%4))
			a.Attributes().PutInt("nettap.accept.queue.limit", 511)
			a.Attributes().PutInt("nettap.thread.id", w.processes[v.process].pid)
			a.SetTraceID(w.newTrace())
			if v.verdict != "" {
				a.Attributes().PutStr("nettap.policy.verdict", v.verdict)
			}
		}
	}
	w.Accepts(logs)
	if w.scans && w.seconds%60 < seconds {
		w.notice(nil, "nettap.connection.refused", "192.0.2.99 was refused on 10.0.0.5:23, closed_port, 3 times", "10.0.0.5:23", "192.0.2.99:0")
		w.notice(&w.processes[4], "nettap.connection.closed", "java[3120] uid 1001: 172.17.0.4:41872 with 172.17.0.3:5432 ended after 62.1 s, local closed it, sent 18.2 kB, received 1.9 MB, 3 retransmits, round trip 0.2 ms", "172.17.0.4:41872", "172.17.0.3:5432")
	}
	if w.scans && w.seconds%300 < seconds {
		w.notice(&w.processes[0], "nettap.listener.opened", "nginx[2210] uid 101 listens on 0.0.0.0:443, up to 511 connections wait", "0.0.0.0:443", "")
		w.notice(&w.processes[0], "nettap.listener.closed", "nginx[2210] uid 101 listens no more on 0.0.0.0:8443", "0.0.0.0:8443", "")
	}
}

var traces atomic.Uint32

func (w *world) newTrace() pcommon.TraceID {
	n := traces.Add(1)
	return pcommon.TraceID{7, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n), 1}
}

// await adds calls that end in some seconds.
func (w *world) await(seconds int) {
	w.now = w.time()
	all := ptrace.NewTraces()
	for i, c := range w.calls {
		if (w.seconds+11*i)%c.every >= seconds {
			continue
		}
		resource := all.ResourceSpans().AppendEmpty()
		describe(resource.Resource(), w.processes[c.process])
		spans, id := resource.ScopeSpans().AppendEmpty().Spans(), w.newTrace()
		began := w.now.Add(-time.Duration(c.nodes[0].until) * time.Microsecond)
		for at, n := range c.nodes {
			span := spans.AppendEmpty()
			span.SetName(n.name)
			span.SetTraceID(id)
			span.SetSpanID(pcommon.SpanID{id[3], id[4], byte(at >> 8), byte(at + 1)})
			span.SetStartTimestamp(pcommon.NewTimestampFromTime(began.Add(time.Duration(n.from) * time.Microsecond)))
			span.SetEndTimestamp(pcommon.NewTimestampFromTime(began.Add(time.Duration(n.until) * time.Microsecond)))
			for name, value := range n.attributes {
				span.Attributes().PutStr(name, value)
			}
			if n.event != "" {
				event := span.Events().AppendEmpty()
				event.SetName(n.event)
				event.SetTimestamp(span.StartTimestamp() + pcommon.Timestamp((n.until-n.from)*300))
			}
			if n.parent >= 0 {
				span.SetParentSpanID(pcommon.SpanID{id[3], id[4], byte(n.parent >> 8), byte(n.parent + 1)})
				continue
			}
			_ = span.Attributes().FromRaw(c.attributes)
			span.Attributes().PutStr(rootAttribute, c.kept)
			if c.failure != "" {
				span.Attributes().PutStr("error.type", c.failure)
			}
			putEnd(span.Attributes(), "network.local", c.local)
			putEnd(span.Attributes(), "network.peer", c.peer)
		}
	}
	w.Calls(all)
}

func putEnd(attributes pcommon.Map, name, end string) {
	var address string
	var port int64
	if _, err := fmt.Sscanf(end, "%s %d", &address, &port); err == nil {
		attributes.PutStr(name+".address", address)
		attributes.PutInt(name+".port", port)
	}
}

// madeUp returns a machine with something of everything.
func madeUp(instance string) *world {
	w := newWorld(instance, "web-1")
	w.scans = true
	edge, orders, cart := "3f2ac19e0b7d5a6488fe1c02d4b7a91356e0f28c", "9b1d7e44c0aa52f1e6037b8d21c95af0e4d3b612", "c07e5512ab34fd9087e1669a2b43d8f5017c9e21"
	for i := range 4 {
		w.add(2210+int64(i), 101, "nginx", "eth0", 3_400_000/float64(i+1), 260_000/float64(i+1), "container.id", edge, "service.name", "edge", "process.command_line", "nginx: worker process")
	}
	java := w.add(3120, 1001, "java", "docker0", 610_000, 1_900_000, "container.id", orders, "service.name", "checkout", "process.executable.name", "java",
		"process.command_line", "java -Xmx2g -jar /srv/checkout.jar --db-password hunter2")
	postgres := w.add(1873, 999, "postgres", "docker0", 1_450_000, 240_000, "container.id", orders, "service.name", "orders-db")
	node := w.add(3377, 1002, "node", "docker0", 180_000, 420_000, "container.id", cart, "service.name", "cart")
	redis := w.add(1544, 998, "redis-server", "lo", 520_000, 130_000, "container.id", cart, "service.name", "cart-cache")
	w.add(3377, 1002, "node", "lo", 130_000, 520_000, "container.id", cart, "service.name", "cart")
	backup := w.add(48_112, 0, "rsync", "wg0", 2_600_000, 31_000, "process.command_line", "rsync -a --delete /srv backup:/web-1")
	w.add(811, 0, "sshd", "eth0", 2100, 1600)
	sshd := w.add(812, 0, "sshd", "eth0", 900, 700)
	prometheus := w.add(1290, 65_534, "prometheus", "lo", 4100, 88_000, "service.name", "prometheus")
	w.add(1291, 65_534, "node_exporter", "lo", 76_000, 3500, "service.name", "node-exporter")
	w.add(640, 102, "systemd-resolve", "eth0", 450, 830)
	w.add(702, 103, "chronyd", "eth0", 38, 38)
	w.add(980, 0, "dockerd", "docker0", 1200, 5200)
	curl := w.add(50_233, 1000, "curl", "eth0", 700, 96_000)
	w.add(666, 1000, hostileName, "eth0", 24_000, 12_000, "service.name", hostileName, "process.command_line", hostileName)
	w.add(1001, 0, "otelcol-nettap", "eth0", 9800, 1300)
	for i := range 30 {
		w.add(20_000+int64(i), 33, fmt.Sprintf("worker-%02d", i), "lo", 900+300*float64(i%9), 1400+110*float64(i%11), "service.name", "jobs")
	}
	w.drops = []dropped{
		{"", "nettap_listen_overflow", "loss", "eth0", "tcp", 9, 14, 0, 1},
		{"__udp4_lib_rcv", "no_socket", "loss", "eth0", "udp", 3, 2, 0, 0},
		{"nft_do_chain", "netfilter_drop", "loss", "eth0", "tcp", 5, 6, 0, 0},
		{"sock_queue_rcv_skb_reason", "socket_rcvbuff", "loss", "docker0", "udp", 47, 60, 0, java + 1},
		{"tcp_v4_rcv", "tcp_old_data", "benign", "eth0", "tcp", 4, 4, 0, 0},
		{"tcp_rcv_state_process", "socket_close", "benign", "docker0", "tcp", 13, 9, 0, postgres + 1},
		{"kfree_skb_list_reason", "not_specified", "unknown", "wg0", "", 31, 8, 0, 0},
	}
	w.ports = []visited{
		{0, "10.0.0.5:443", "198.51.100.23", 9, 0.08, "expected"},
		{1, "10.0.0.5:443", "203.0.113.77", 6, 0.06, "expected"},
		{postgres, "172.17.0.3:5432", "172.17.0.4", 0.5, 0.03, "expected"},
		{redis, "127.0.0.1:6379", "127.0.0.1", 2, 0.02, "expected"},
		{sshd, "10.0.0.5:22", "192.0.2.99", 0.02, 0.4, "unexpected"},
	}
	tree := []step{
		{-1, "recvfrom", 0, 184_300, nil, ""},
		{0, "sock_recvmsg", 2, 184_296, nil, ""},
		{1, "inet_recvmsg", 3, 184_295, nil, ""},
		{2, "tcp_recvmsg", 4, 184_294, nil, "sock_rcvqueue_full"},
		{3, "tcp_recvmsg_locked", 6, 184_288, nil, ""},
		{4, "sk_wait_data", 9, 183_900, nil, ""},
		{5, "off_cpu", 12, 183_840, map[string]string{"nettap.call.blocked.on": "receive_queue"}, ""},
		{4, "skb_copy_datagram_iter", 183_910, 184_180, nil, ""},
		{4, "off_cpu", 184_185, 184_240, nil, ""},
		{3, "tcp_cleanup_rbuf", 184_250, 184_280, nil, ""},
		{9, "tcp_send_ack", 184_252, 184_271, map[string]string{"nettap.call.errno": "EAGAIN"}, ""},
	}
	w.calls = []called{
		{java, 14, "slow", "", "172.17.0.4 41872", "172.17.0.3 5432", map[string]any{
			"nettap.call.syscall": "recvfrom", "nettap.call.fd": 47, "nettap.thread.id": 3144, "thread.name": "http-nio-8080-e", "nettap.call.bytes": 18_220,
			"nettap.call.cpu.duration": 0.000427, "nettap.call.runnable.duration": 0.000055, "nettap.call.blocked.duration": 0.183828, "nettap.call.blocked.on": "receive_queue",
		}, tree},
		{node, 19, "slow", "", "172.17.0.5 51516", "172.17.0.3 5432", map[string]any{
			"nettap.call.fd": 23, "nettap.thread.id": 3377, "thread.name": "node", "nettap.wait.kind": "receive", "nettap.wait.peer.duration": 0.2301, "nettap.wait.local.duration": 0.0702,
		}, []step{{-1, "receive", 0, 300_300, nil, ""}}},
		{curl, 67, "failed", "ETIMEDOUT", "10.0.0.5 51514", "192.0.2.227 443", map[string]any{
			"nettap.thread.id": 50_233, "nettap.wait.kind": "connect",
		}, []step{{-1, "connect", 0, 127_000_000, nil, ""}}},
		{curl, 37, "failed", "ECONNREFUSED", "10.0.0.5 51002", "10.0.0.9 8443", map[string]any{
			"nettap.call.syscall": "connect", "nettap.call.fd": 5, "nettap.thread.id": 50_233, "nettap.call.cpu.duration": 0.00012, "nettap.call.blocked.duration": 0.00083, "nettap.call.blocked.on": "handshake",
		}, []step{{-1, "connect", 0, 960, nil, ""}, {0, "inet_stream_connect", 5, 950, nil, ""}, {1, "tcp_v4_connect", 9, 90, nil, ""}, {1, "off_cpu", 101, 931, map[string]string{"nettap.call.blocked.on": "handshake"}, ""}}},
		{node, 61, "failed", "ETIMEDOUT", "172.17.0.5 36610", "192.0.2.200 9092", map[string]any{
			"nettap.call.syscall": "connect", "nettap.call.fd": 21, "nettap.thread.id": 3377, "nettap.call.cpu.duration": 0.0002, "nettap.call.blocked.duration": 3.1, "nettap.call.blocked.on": "handshake",
		}, []step{{-1, "connect", 0, 3_100_400, nil, ""}}},
		{backup, 23, "slow", "", "10.8.0.2 33000", "10.8.0.9 873", map[string]any{
			"nettap.call.syscall": "sendto", "nettap.thread.id": 48_112, "nettap.call.cpu.duration": 0.0021, "nettap.call.runnable.duration": 0.0014, "nettap.call.blocked.duration": 0.0402, "nettap.call.blocked.on": "send_buffer",
		}, []step{{-1, "sendto", 0, 43_700, nil, ""}}},
		{prometheus, 53, "failed", "ENOENT", "", "/run/node.sock 0", map[string]any{
			"nettap.call.syscall": "connect", "nettap.call.fd": 9, "nettap.thread.id": 1290, "nettap.call.cpu.duration": 0.00001,
		}, []step{{-1, "connect", 0, 11, nil, ""}}},
		{prometheus, 29, "sampled", "", "127.0.0.1 38110", "127.0.0.1 9100", map[string]any{
			"nettap.call.syscall": "read", "nettap.thread.id": 1290, "nettap.call.cpu.duration": 0.00002, "nettap.call.blocked.duration": 0.0006, "nettap.call.idle.duration": 0.0006, "nettap.call.blocked.on": "receive_queue",
		}, []step{{-1, "read", 0, 640, nil, ""}, {0, "sock_read_iter", 2, 636, nil, ""}, {1, "tcp_recvmsg", 3, 630, nil, ""}}},
	}
	w.live(900, 10)
	return w
}

// hostileName is a name that a process may choose.
const hostileName = `<img src=x onerror=document.title=1>`

// live lets the seconds before now pass, in steps.
func (w *world) live(seconds, step int) {
	begin := time.Now().Add(-time.Duration(seconds) * time.Second)
	w.started = begin.UnixMilli()
	for s := 0; s < seconds; s += step {
		w.past.Store(begin.Add(time.Duration(s+step) * time.Second).UnixMilli())
		w.pass(step)
		w.visit(step)
		w.await(step)
	}
	w.past.Store(0)
	w.until = time.Now()
}

// run does what the receiver does: while someone watches it reads the instruments each second.
func (w *world) run(ctx context.Context) {
	for w.AwaitWatcher(ctx) {
		ticker := time.NewTicker(time.Second)
		for w.IsWatched() {
			seconds := max(1, int(time.Since(w.until).Round(time.Second)/time.Second))
			w.until = w.until.Add(time.Duration(seconds) * time.Second)
			w.pass(seconds)
			w.visit(seconds)
			w.await(seconds)
			w.Tick(3 * time.Millisecond)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

func madeUpHealth(now time.Time) []Instrument {
	read := now.Add(-200 * time.Millisecond).UnixMilli()
	return []Instrument{
		{
			Name: "traffic", Signal: "metrics", State: "running", For: "pipeline", IntervalS: 10, ReadMS: read, Seen: 48_211_904, Aggregated: 48_211_904,
			Hooks: []Hook{
				{Job: "transmit", Name: "tp_btf/net_dev_start_xmit"},
				{Job: "receive", Name: "tp_btf/netif_receive_skb"},
				{Job: "owner", Name: "fentry/security_socket_sendmsg", NotSeen: "who reads with io_uring", Refused: []string{"tp_btf/sock_send_length: this kernel has no such tracepoint"}},
			},
			Maps: map[string]MapUsage{"traffic": {Entries: 412, Limit: 8192}, "sockets": {Entries: 1203, Limit: 65_536}},
		},
		{
			Name: "drops", Signal: "metrics", State: "running", For: "pipeline", IntervalS: 10, ReadMS: read, Seen: 90_412, Aggregated: 90_412,
			Hooks: []Hook{{Job: "drop", Name: "tp_btf/kfree_skb"}, {Job: "overflow", Name: "fentry/tcp_conn_request"}},
			Maps:  map[string]MapUsage{"drops": {Entries: 61, Limit: 4096}},
		},
		{
			Name: "accepts", Signal: "logs", State: "running", For: "view", IntervalS: 1, ReadMS: read, Seen: 15_921, Exported: 15_907, Lost: map[string]uint64{"ring_full": 14},
			Hooks: []Hook{{Job: "accept", Name: "fentry/security_sock_graft"}},
		},
		{
			Name: "calls", Signal: "traces", State: "running", For: "pipeline", IntervalS: 1, ReadMS: read, Seen: 3_120_551, Exported: 2811, SampledOut: 3_117_740,
			Hooks: []Hook{{Job: "functions", Name: "fentry.multi", NotSeen: "functions that the compiler made part of others"}},
		},
		{Name: "cgroups", State: "running", Seen: 31, Aggregated: 31, Hooks: []Hook{{Job: "cgroup", Name: "tp_btf/cgroup_mkdir"}}},
		{Name: "trace_context", State: "off", Why: "trace_context.enabled is false"},
	}
}
