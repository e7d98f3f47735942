//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"
)

// acceptsOnly has the instrument's own interval.
const acceptsOnly = `
	nettap:
	  traffic: {enabled: false}
	  drops: {enabled: false}
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

	var want, got []accepted
	arrivals := arrivals{}
	for range each {
		for _, s := range servers {
			want = append(want, s.visit(t, s.request, s.user))
		}
		arrivals.note(c)
	}
	var records []Record
	c.Wait("all connections are reported", func() bool {
		arrivals.note(c)
		records = nil
		for _, s := range servers {
			records = append(records, c.Records(Attributes{"network.local.port": int(s.address.Port())})...)
		}
		return len(records) >= len(want)
	})
	for _, record := range records {
		a := reported(t, record)
		if a.Local == servers[1].address && isThread(a.PID, a.Thread) {
			a.Thread = 0 // the server in Go does not know
		}
		got = append(got, a)
		if late := arrivals[record.Body].Sub(record.Time); late > 2*time.Second {
			t.Errorf("%q came out %v after the accept", record.Body, late)
		}
	}
	slices.SortFunc(want, accepted.compare)
	slices.SortFunc(got, accepted.compare)
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	c.Wait("the books balance", c.balanced)
}

// arrivals are when records were seen to have come out, by their bodies.
type arrivals map[string]time.Time

func (a arrivals) note(c *Collector) {
	now := time.Now()
	for _, record := range c.Records(nil) {
		if _, known := a[record.Body]; !known {
			a[record.Body] = now
		}
	}
}

// commOf returns what the kernel calls a process that runs the executable.
func commOf(executable string) string {
	name := filepath.Base(executable)
	return name[:min(len(name), 15)]
}

func isThread(pid, thread int64) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, thread))
	return err == nil
}

// reported returns what a record says, and checks what is the same in all.
func reported(t *testing.T, record Record) accepted {
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
		Local: address("local"), Peer: address("peer"), Body: record.Body,
	}
	want := Attributes{"network.transport": "tcp", "network.type": "ipv6", "process.user.id": int(a.User)}
	if a.Local.Addr().Is4() {
		want["network.type"] = "ipv4"
	}
	if record.Event != "nettap.connection.accepted" || record.Severity != plog.SeverityNumberInfo || !record.Attributes.has(want) {
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

// balanced says whether all accepts that were seen are accounted for.
func (c *Collector) balanced() bool {
	c.t.Helper()
	events := func(fate string) float64 {
		return c.OwnValue("otelcol_nettap_events_"+fate, "instrument", "accepts")
	}
	return events("seen") > 0 && events("seen") == events("exported")+events("sampled_out")+events("lost")
}

func TestDistributionCountsAcceptsThatAFullRingLost(t *testing.T) {
	const made = 15_000 // the ring holds 10,000
	c := Start(t, `
		nettap:
		  traffic: {enabled: false}
		  drops: {enabled: false}
		  accepts: {collection_interval: 10s, initial_delay: 0s}
	`)
	flood(t, made)
	c.Wait("the loss is on the Collector's own page", func() bool {
		return c.OwnValue("otelcol_nettap_events_lost", "instrument", "accepts", "cause", "ring_full") > 0 && c.balanced()
	})
	if seen := c.OwnValue("otelcol_nettap_events_seen", "instrument", "accepts"); seen < made {
		t.Errorf("%v accepts seen of %d", seen, made)
	}
}

func TestDistributionReportsAtMostMaxPerSecond(t *testing.T) {
	const limit = 5
	c := Start(t, `
		nettap:
		  traffic: {enabled: false}
		  drops: {enabled: false}
		  accepts: {max_per_second: 5, collection_interval: 200ms, initial_delay: 0s}
	`)
	start := time.Now()
	port := flood(t, 1000)
	seconds := int(time.Since(start)/time.Second) + 2
	c.Wait("the rest is counted as sampled out", func() bool {
		return c.OwnValue("otelcol_nettap_events_sampled_out", "instrument", "accepts") >= float64(1000-limit*seconds) && c.balanced()
	})
	c.Wait("records come out", func() bool { return len(c.Records(Attributes{"network.local.port": port})) > 0 })
	c.Stop() // which writes the last ones
	if got := len(c.Records(Attributes{"network.local.port": port})); got > limit*seconds {
		t.Errorf("%d records of parts of %d seconds, want at most %d of each", got, seconds, limit)
	}
}

// flood makes connections as fast as they are accepted, and returns their port.
func flood(t *testing.T, connections int) (port int) {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for range connections {
		client, err := net.DialTCP("tcp4", nil, listener.Addr().(*net.TCPAddr))
		if err != nil {
			t.Fatal(err)
		}
		server, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		client.SetLinger(0) //nolint:errcheck // only spares the ports
		client.Close()
		server.Close()
	}
	return listener.Addr().(*net.TCPAddr).Port
}
