// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// acceptsOnly runs accepts alone, at its default interval.
const acceptsOnly = `
	nettap:
	  traffic: {enabled: false}
	  drops: {enabled: false}
`

// acceptsSoon runs accepts alone, at a short interval.
const acceptsSoon = acceptsOnly + `
	  accepts: {collection_interval: 200ms, initial_delay: 0s%s}
`

func TestDistributionReportsEachAccept(t *testing.T) {
	const each = 250
	c := Start(t, acceptsOnly)
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	goServer := exec.Command(own)
	goServer.Env = append(os.Environ(), goServerVariable+"=1")
	page := exec.Command("setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", "/proc/self/fdinfo")
	servers := []struct {
		server
		request string
		user    int64
	}{
		{server: serve(t, "127.0.0.1", "python3", page), request: "HEAD / HTTP/1.0\r\n\r\n", user: 65534},
		{server: serve(t, "127.0.0.1", commOf(own), goServer)},
		{server: servePython(t, "threads", "127.0.0.1", 1)},
		{server: servePython(t, "prefork", "::1", 2)},
	}

	var want []accepted
	arrivals := arrivals{}
	for range each {
		for _, s := range servers {
			want = append(want, s.visit(t, s.request, s.user))
		}
		arrivals.note(c)
	}
	records := c.requireAccepts(want, func() { arrivals.note(c) })
	for _, record := range records {
		if late := arrivals[record.Body].Sub(record.Time); late > 2*time.Second {
			t.Errorf("%q came out %v after the accept", record.Body, late)
		}
	}
	c.Wait("each accept is accounted for", c.balanced)
}

// requireAccepts waits until as many connections are reported on the local ports of want as want
// has, requires that their records say what want says, and returns the records. It calls
// meanwhile each time before it reads them.
func (c *Collector) requireAccepts(want []accepted, meanwhile func()) (records []Record) {
	c.t.Helper()
	ports := map[any]bool{}
	for _, a := range want {
		ports[int64(a.Local.Port())] = true
	}
	c.Wait("all connections are reported", func() bool {
		meanwhile()
		records = slices.DeleteFunc(c.Records(nil), func(r Record) bool { return !ports[r.Attributes["network.local.port"]] })
		return len(records) >= len(want)
	})
	var got []accepted
	for _, record := range records {
		got = append(got, reported(c.t, record))
	}
	slices.SortFunc(want, accepted.compare)
	slices.SortFunc(got, accepted.compare)
	for i := range min(len(want), len(got)) {
		if want[i].Thread == 0 && isThread(got[i].PID, got[i].Thread) {
			got[i].Thread = 0
		}
		const clocks = time.Millisecond // how far the kernel's clock and the client's may differ
		if at := got[i].earliest; at.Before(want[i].earliest.Add(-clocks)) || at.After(want[i].latest.Add(clocks)) {
			c.t.Errorf("%q is of %v, and was accepted from %v to %v", got[i].Body, at, want[i].earliest, want[i].latest)
		}
	}
	equal := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, got, equal, cmpopts.IgnoreUnexported(accepted{})); diff != "" {
		c.t.Errorf("records differ (-want +got):\n%s", diff)
	}
	return records
}

// TestDistributionReportsAcceptsOfEveryKind has accepts that a hook can easily get wrong: those of
// threads that waited before the Collector started, of IPv4 on an IPv6 socket, in another
// network namespace, and of clients that have already closed.
func TestDistributionReportsAcceptsOfEveryKind(t *testing.T) {
	waiting := servePython(t, "alone", "127.0.0.1", 0)
	waitingThreads := servePython(t, "threads", "127.0.0.1", nobody)
	waiting.awaitWaiting(t, 1)
	waitingThreads.awaitWaiting(t, 4)
	c := Start(t, acceptsOnly)
	both := servePython(t, "alone", "::", 0)
	both.address = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), both.address.Port())
	a, b := kerneltest.Namespaces(t)
	var elsewhere server
	kerneltest.InNamespace(t, b.Name, func() { elsewhere = servePython(t, "prefork", b.IPv6.String(), nobody) })

	var want []accepted
	for range 5 {
		want = append(want, waiting.visit(t, "", 0), waitingThreads.visit(t, "", nobody), both.visit(t, "", 0))
		kerneltest.InNamespace(t, a.Name, func() { want = append(want, elsewhere.visit(t, "", nobody)) })
	}
	want = append(want, acceptLate(t)...)
	c.requireAccepts(want, func() {})
	c.Wait("each accept is accounted for", c.balanced)
}

// acceptLate accepts two connections whose clients have closed them before, one with a FIN and
// one with a reset.
func acceptLate(t *testing.T) []accepted {
	t.Helper()
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(listener)
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(listener, loopback), unix.Listen(listener, 2)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	local := netip.AddrPortFrom(netip.AddrFrom4(loopback.Addr), uint16(name.(*unix.SockaddrInet4).Port))

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := make([]accepted, 2)
	for i := range all {
		client, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(local))
		if err != nil {
			t.Fatal(err)
		}
		all[i] = accepted{
			PID: int64(os.Getpid()), Thread: int64(unix.Gettid()), User: int64(os.Getuid()),
			Local: local, Peer: client.LocalAddr().(*net.TCPAddr).AddrPort(), Netns: netnsOf(t, os.Getpid()),
		}
		all[i].Body = all[i].line(commOf(os.Args[0]))
		if i == 1 {
			if err := client.SetLinger(0); err != nil {
				t.Fatal(err)
			}
		}
		client.Close() // on lo, the listener's end has received the FIN or reset when this returns
	}
	for i := range all {
		all[i].earliest = time.Now()
		fd := kerneltest.AcceptOn(t, listener)
		all[i].latest = time.Now()
		unix.Close(fd)
	}
	return all
}

// arrivals has the time at which each record was first seen in the output, by its body.
type arrivals map[string]time.Time

func (a arrivals) note(c *Collector) {
	now := time.Now()
	for _, record := range c.Records(nil) {
		if _, known := a[record.Body]; !known {
			a[record.Body] = now
		}
	}
}

// commOf returns the kernel's name (comm) of a process that runs the executable.
func commOf(executable string) string {
	name := filepath.Base(executable)
	return name[:min(len(name), 15)]
}

func isThread(pid, thread int64) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, thread))
	return err == nil
}

// reported returns what a record says, and checks what all records have in common.
func reported(t testing.TB, record Record) accepted {
	t.Helper()
	address := func(side string) netip.AddrPort {
		text, _ := record.Attributes["network."+side+".address"].(string)
		port, _ := record.Attributes["network."+side+".port"].(int64)
		ip, err := netip.ParseAddr(text)
		if err != nil {
			t.Errorf("network.%s.address: %v", side, err)
		}
		return netip.AddrPortFrom(ip, uint16(port))
	}
	number := func(name string) int64 {
		value, ok := record.Attributes[name].(int64)
		if !ok {
			t.Errorf("attribute %s is missing", name)
		}
		return value
	}
	a := accepted{
		PID: number("process.pid"), Thread: number("nettap.thread.id"), User: number("process.real_user.id"),
		Local: address("local"), Peer: address("peer"), Netns: number("nettap.netns.inode"), Body: record.Body,
		earliest: record.Time, latest: record.Time,
	}
	want := Attributes{"network.transport": "tcp", "network.type": "ipv6", "process.user.id": int(a.User)}
	if a.Local.Addr().Is4() {
		want["network.type"] = "ipv4"
	}
	if record.Event != "nettap.connection.accepted" || record.Severity != plog.SeverityNumberInfo || !record.Attributes.Has(want) {
		t.Errorf("record %+v, want event nettap.connection.accepted, severity INFO and %v", record, want)
	}
	if late := record.Observed.Sub(record.Time); late < 0 || late > 2*time.Second {
		t.Errorf("%q was observed %v after the accept", record.Body, late)
	}
	if queued, ok := record.Attributes["nettap.accept.queue.duration"].(float64); !ok || queued < 0 || queued > patience.Seconds() {
		t.Errorf("%q waited %v s in the queue", record.Body, record.Attributes["nettap.accept.queue.duration"])
	}
	return a
}

// balanced reports whether all accepts that were seen are accounted for.
func (c *Collector) balanced() bool {
	c.t.Helper()
	return c.accountsFor("accepts")
}

func TestDistributionReportsAtMostMaxPerSecond(t *testing.T) {
	const limit = 5
	c := Start(t, fmt.Sprintf(acceptsSoon, fmt.Sprintf(", max_per_second: %d", limit)))
	start := time.Now()
	port := flood(t, 1000)
	seconds := int(time.Since(start)/time.Second) + 2
	c.Wait("the rest is counted as sampled out", func() bool {
		return c.OwnValue("otelcol_nettap_events_sampled_out", "instrument", "accepts") >= float64(1000-limit*seconds) && c.balanced()
	})
	c.Wait("records come out", func() bool { return len(c.Records(Attributes{"network.local.port": port})) > 0 })
	c.Stop() // the last records are written at the shutdown
	if got := len(c.Records(Attributes{"network.local.port": port})); got > limit*seconds {
		t.Errorf("%d records of parts of %d seconds, want at most %d of each", got, seconds, limit)
	}
}

// flood makes connections as fast as they are accepted, and returns the listener's port.
func flood(t *testing.T, connections int) (port int) {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range connections {
		client := kerneltest.Dial(t, listener.Addr())
		server := kerneltest.Accept(t, listener)
		client.SetLinger(0) //nolint:errcheck // without it, the ports would be in use a minute longer
		client.Close()
		server.Close()
	}
	return listener.Addr().(*net.TCPAddr).Port
}

func TestDistributionReportsWhatWasRefused(t *testing.T) {
	c := Start(t, fmt.Sprintf(acceptsSoon, ""))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	listener.Close()
	for range 5 {
		if _, err := net.Dial("tcp", address.String()); !errors.Is(err, unix.ECONNREFUSED) {
			t.Fatal(err)
		}
	}
	var sum int64
	c.Wait("five refused attempts are reported", func() bool {
		sum = 0
		for _, record := range c.Records(Attributes{"network.local.port": address.Port, "nettap.connection.refused.cause": "closed_port"}) {
			if record.Event != "nettap.connection.refused" || record.Attributes["network.peer.address"] != "127.0.0.1" {
				t.Errorf("%+v", record)
			}
			sum += record.Attributes["nettap.connection.refused.count"].(int64)
		}
		return sum >= 5
	})
	if sum != 5 {
		t.Errorf("%d attempts were refused, want 5", sum)
	}
	c.Stop()
}

// TestDistributionReportsHowAConnectionEnded kills a client, whose connection the kernel closes.
func TestDistributionReportsHowAConnectionEnded(t *testing.T) {
	c := Start(t, fmt.Sprintf(acceptsSoon, ", events: {nettap.connection.closed: {enabled: true}}"))
	address := listen(t)
	talker := startTalker(t, address)
	records := func(event string, want Attributes) []Record {
		return slices.DeleteFunc(c.Records(want), func(r Record) bool { return r.Event != event })
	}
	server := Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()}
	client := Attributes{"network.peer.port": address.Port, "process.pid": talker.Process.Pid}
	c.Wait("the accept is reported", func() bool { return len(records("nettap.connection.accepted", server)) == 1 })
	talker.Kill()
	c.Wait("both ends are reported", func() bool {
		return len(records("nettap.connection.closed", server)) == 1 && len(records("nettap.connection.closed", client)) == 1
	})
	accepted := records("nettap.connection.accepted", server)[0].Attributes
	served := records("nettap.connection.closed", server)[0].Attributes
	called := records("nettap.connection.closed", client)[0].Attributes
	if id := accepted["nettap.connection.id"]; id == nil || id != served["nettap.connection.id"] {
		t.Errorf("the accept has id %v, and the end %v", id, served["nettap.connection.id"])
	}
	for _, one := range []struct {
		of           Attributes
		role, closer string
		sent         int64
		received     int64
	}{{served, "server", "peer", 0, 6}, {called, "client", "local", 6, 0}} {
		if one.of["nettap.connection.role"] != one.role || one.of["nettap.connection.closed_by"] != one.closer ||
			one.of["nettap.connection.sent.bytes"] != one.sent || one.of["nettap.connection.received.bytes"] != one.received {
			t.Errorf("want the %s, closed by %s, %d bytes sent and %d received: %v", one.role, one.closer, one.sent, one.received, one.of)
		}
	}
	c.Stop()
}

// TestDistributionReportsListeners has a listener that was open before the Collector started, and
// one that is opened and closed meanwhile.
func TestDistributionReportsListeners(t *testing.T) {
	former, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := Start(t, fmt.Sprintf(acceptsSoon, ""))
	records := func(of net.Listener) (found []Record) {
		return c.AllRecords(Attributes{
			"network.local.port": of.Addr().(*net.TCPAddr).Port, "network.local.address": "127.0.0.1", "process.pid": os.Getpid(),
			"network.transport": "tcp", "network.type": "ipv4",
		})
	}
	expect := func(of net.Listener, preexisting bool) {
		c.Wait("a listener is reported", func() bool { return len(records(of)) == 1 })
		opened := records(of)[0]
		if opened.Event != "nettap.listener.opened" || opened.Attributes["nettap.listener.preexisting"] != preexisting || opened.Severity != plog.SeverityNumberInfo {
			t.Errorf("want one that opened, preexisting %v: %+v", preexisting, opened)
		}
		of.Close()
		c.Wait("its end is reported", func() bool { return len(records(of)) == 2 })
		closed := records(of)[1]
		if inode := "nettap.listener.socket.inode"; closed.Event != "nettap.listener.closed" || closed.Attributes[inode] != opened.Attributes[inode] {
			t.Errorf("want the end of %+v: %+v", opened, closed)
		}
		if _, timed := closed.Attributes["nettap.listener.duration"]; timed == preexisting {
			t.Errorf("a duration is to be there unless nobody saw the beginning: %+v", closed)
		}
	}
	expect(former, true)
	latter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	expect(latter, false)
	c.Wait("each accept is accounted for", c.balanced)
	c.Stop()
}
