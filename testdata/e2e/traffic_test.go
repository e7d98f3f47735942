// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// everywhere is a receiver that reports the interfaces of all network namespaces.
const everywhere = `
	nettap:
	  traffic: {collection_interval: 200ms, initial_delay: 0s, namespaces: all}
	  drops: {enabled: false}
	  accepts: {enabled: false}
`

// host is a network namespace in which a web server and an iperf3 server run.
type host struct {
	kerneltest.Namespace
	inode     int64
	web       int // pid
	directory string
}

// furnish starts the servers of a namespace.
func furnish(t *testing.T, namespace kerneltest.Namespace) host {
	t.Helper()
	h := host{Namespace: namespace, directory: t.TempDir()}
	if err := os.WriteFile(filepath.Join(h.directory, "file"), make([]byte, 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	kerneltest.InNamespace(t, h.Name, func() { // without router solicitations there is less traffic of the kernel's own
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+h.Device+"/router_solicitations", []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
	})
	h.web = h.start(t, "python3", "-m", "http.server", "--bind", "::", "--directory", h.directory, "80")
	h.start(t, "iperf3", "--server")
	process, err := procfs.NewProc(h.web)
	if err != nil {
		t.Fatal(err)
	}
	namespaces, err := process.Namespaces()
	if err != nil {
		t.Fatal(err)
	}
	h.inode = int64(namespaces["net"].Inode)
	return h
}

// start runs a command in the namespace until the test ends, and returns its pid.
func (h host) start(t *testing.T, words ...string) (pid int) {
	t.Helper()
	command := exec.Command(words[0], words[1:]...)
	var err error
	kerneltest.InNamespace(t, h.Name, func() { err = command.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill() //nolint:errcheck // it may have ended
		command.Wait()         //nolint:errcheck // it was killed
	})
	return command.Process.Pid
}

// run runs a command in the namespace until it succeeds, because the servers may not listen yet, and
// returns the pid of the last attempt.
func (h host) run(t *testing.T, words ...string) (pid int) {
	t.Helper()
	var output []byte
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		command := exec.Command(words[0], words[1:]...)
		kerneltest.InNamespace(t, h.Name, func() { output, err = command.CombinedOutput() })
		if err == nil {
			return command.Process.Pid
		}
	}
	t.Fatalf("%v: %v\n%s", words, err, output)
	return 0
}

// counted has the values of an interface's own counter, or the sums of its accounts.
type counted struct{ ReceivedPackets, ReceivedBytes, SentPackets, SentBytes int64 }

func (c counted) minus(other counted) counted {
	return counted{
		c.ReceivedPackets - other.ReceivedPackets, c.ReceivedBytes - other.ReceivedBytes,
		c.SentPackets - other.SentPackets, c.SentBytes - other.SentBytes,
	}
}

// counter reads the device's own counter.
func (h host) counter(t *testing.T) counted {
	t.Helper()
	line := devices(t, h.Name)[h.Device]
	return counted{int64(line.RxPackets), int64(line.RxBytes), int64(line.TxPackets), int64(line.TxBytes)}
}

// devices returns the counters of a namespace's devices.
func devices(t *testing.T, namespace string) (lines procfs.NetDev) {
	t.Helper()
	kerneltest.InNamespace(t, namespace, func() {
		fs, err := procfs.NewFS("/proc/thread-self")
		if err == nil {
			lines, err = fs.NetDev()
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return lines
}

// sums adds up the points of two metrics of the device, one of packets and one of bytes.
func (h host) sums(c *Collector, packets, bytes string) counted {
	sum := func(metric string) (received, sent int64) {
		for _, point := range c.Points(metric, Attributes{"nettap.netns.inode": h.inode, "network.interface.name": h.Device}) {
			if point.Attributes["network.io.direction"] == "receive" {
				received += point.Value
			} else {
				sent += point.Value
			}
		}
		return received, sent
	}
	var s counted
	s.ReceivedPackets, s.SentPackets = sum(packets)
	s.ReceivedBytes, s.SentBytes = sum(bytes)
	return s
}

// accounts adds up all accounts of the device.
func (h host) accounts(c *Collector) counted {
	return h.sums(c, "nettap.interface.packet.count", "nettap.interface.io")
}

// unobserved returns what the device's own counter has and no account has.
func (h host) unobserved(c *Collector) counted {
	return h.sums(c, "nettap.interface.unobserved.packet.count", "nettap.interface.unobserved.io")
}

// standing is the counter of a host's device, and how much of that is unobserved.
type standing struct{ counter, unobserved counted }

// balance waits until the sum of the accounts of each host's device and what is unobserved equals
// the device's counter, and stays so for several collections. It returns the counters and what is
// unobserved of them. A packet may be unobserved for one or two collections, until it reaches its
// socket.
func balance(t *testing.T, c *Collector, hosts ...host) []standing {
	t.Helper()
	const rest = 4 // collections: the first may have begun before the last packet
	var before []standing
	var wrong string
	var last time.Time
	collections := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var now []standing
		wrong = ""
		for _, h := range hosts {
			one := standing{h.counter(t), h.unobserved(c)}
			now = append(now, one)
			if accounts := h.accounts(c); one.counter.minus(one.unobserved) != accounts {
				wrong += fmt.Sprintf("the accounts of %s and %+v unobserved are not its counter (-counter +accounts):\n%s",
					h.Device, one.unobserved, cmp.Diff(one.counter, accounts))
			}
		}
		if wrong != "" || !slices.Equal(now, before) {
			before, collections = now, 0
			last = c.lastCollection()
			continue
		}
		if collection := c.lastCollection(); collection.After(last) {
			last = collection
			collections++
		}
		if collections >= rest {
			return now
		}
	}
	if wrong == "" {
		wrong = fmt.Sprintf("the counters do not come to rest: %+v", before)
	}
	t.Fatal(wrong)
	return nil
}

// lastCollection returns the time of the newest point of an interface.
func (c *Collector) lastCollection() (last time.Time) {
	for _, point := range c.Points("nettap.interface.io", nil) {
		if point.Time.After(last) {
			last = point.Time
		}
	}
	return last
}

// accountsTable returns the accounts of the device as a table, as in docs/accounts.md.
func (h host) accountsTable(c *Collector) string {
	var lines []string
	for _, metric := range []string{"nettap.interface.io", "nettap.interface.unobserved.io"} {
		for _, p := range c.Points(metric, Attributes{"nettap.netns.inode": h.inode, "network.interface.name": h.Device}) {
			account, known := p.Attributes["nettap.account"].(string)
			if !known {
				account = "(unobserved)"
			}
			lines = append(lines, fmt.Sprintf("%-8s  %-12s  %11d", p.Attributes["network.io.direction"], account, p.Value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// usage returns the bytes that a process received and sent on an interface.
func usage(c *Collector, pid int, device string) (received, sent int64) {
	at := func(direction string) int64 {
		return c.Value("process.network.io", Attributes{"process.pid": pid, "network.interface.name": device, "network.io.direction": direction})
	}
	return at("receive"), at("transmit")
}

// TestDistributionBalancesAccounts runs real programs over a veth pair. At both ends the sum of the
// accounts must equal the interface's own counter, to the byte, and nothing may be unobserved.
func TestDistributionBalancesAccounts(t *testing.T) {
	c := Start(t, everywhere)
	a, b := kerneltest.Namespaces(t) // after Start, so that nettap has seen everything that they have counted
	near, far := furnish(t, a), furnish(t, b)
	near.run(t, "curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)) // the servers are up
	near.run(t, "iperf3", "--client", far.IPv4.String(), "--bytes", "1K")

	for name, words := range map[string][]string{
		"a download":             {"curl", "--silent", "--output", "/dev/null", url(far.IPv4, 80)},
		"a download over IPv6":   {"curl", "--silent", "--output", "/dev/null", url(far.IPv6, 80)},
		"a stream":               {"iperf3", "--client", far.IPv4.String(), "--bytes", "20M"},
		"a stream back":          {"iperf3", "--client", far.IPv4.String(), "--bytes", "20M", "--reverse"},
		"a stream over IPv6":     {"iperf3", "--client", far.IPv6.String(), "--bytes", "20M"},
		"datagrams":              {"iperf3", "--client", far.IPv4.String(), "--udp", "--bitrate", "20M", "--bytes", "1M"},
		"datagrams in fragments": {"iperf3", "--client", far.IPv4.String(), "--udp", "--bitrate", "20M", "--length", "4000", "--bytes", "1M"},
		"ping":                   {"ping", "-c", "5", "-i", "0.1", far.IPv4.String()},
		"ping over IPv6":         {"ping", "-c", "5", "-i", "0.1", far.IPv6.String()},
		"ping in fragments":      {"ping", "-c", "5", "-i", "0.1", "-s", "4000", far.IPv4.String()},
		"IPv6 ping in fragments": {"ping", "-c", "5", "-i", "0.1", "-s", "4000", far.IPv6.String()},
	} {
		t.Run(name, func(t *testing.T) { carry(t, c, near, far, words...) })
	}
	t.Logf("the accounts of the server's end, in bytes:\n%s", far.accountsTable(c))
}

// carry runs a program at the near end. Everything that it sends and receives must be in the accounts
// at both ends, and nearly all of it must be counted for the program.
func carry(t *testing.T, c *Collector, near, far host, words ...string) {
	t.Helper()
	try := func() (missed bool) {
		before := balance(t, c, near, far)
		pid := near.run(t, words...)

		after := balance(t, c, near, far)
		moved := after[0].counter.minus(before[0].counter)
		nearMissed, farMissed := after[0].unobserved.minus(before[0].unobserved), after[1].unobserved.minus(before[1].unobserved)
		if nearMissed != (counted{}) || farMissed != (counted{}) {
			t.Logf("unobserved: %+v, %+v", nearMissed, farMissed)
			return true
		}
		// Only ARP and neighbour discovery are not the program's.
		const questions = 1000
		received, sent := usage(c, pid, near.Device)
		if sent == 0 || moved.ReceivedBytes-received > questions || moved.SentBytes-sent > questions {
			t.Errorf("%s received %d and sent %d bytes, of %+v", words[0], received, sent, moved)
		}
		return false
	}
	// On some machines process 1 runs in a sandbox, and no program runs in a soft interrupt that
	// interrupts it. Packets that are handled there are reported as unobserved. This does not happen
	// in each attempt.
	for range 5 {
		if !try() {
			return
		}
	}
	t.Error("something was unobserved each time")
}

func url(address netip.Addr, port uint16) string {
	return fmt.Sprintf("http://%v/file", netip.AddrPortFrom(address, port))
}

// TestDistributionChargesWhoeverItIs downloads over lo, where nettop.stp counts for curl what the
// server sent, and the rest for whatever a soft interrupt has interrupted.
func TestDistributionChargesWhoeverItIs(t *testing.T) {
	c := Start(t, everywhere)
	a, _ := kerneltest.Namespaces(t)
	h := furnish(t, a)
	loopback := netip.MustParseAddr("127.0.0.1")
	h.run(t, "curl", "--silent", "--output", "/dev/null", url(loopback, 80)) // the server is up
	onLoopback := h
	onLoopback.Device = "lo"
	balance(t, c, onLoopback)
	gotBefore, sentBefore := usage(c, h.web, "lo")

	curl := h.run(t, "curl", "--silent", "--output", "/dev/null", url(loopback, 80))

	balance(t, c, onLoopback)
	received, sent := usage(c, curl, "lo")
	serverReceived, serverSent := usage(c, h.web, "lo")
	serverReceived, serverSent = serverReceived-gotBefore, serverSent-sentBefore
	// The last ACK of either side may be of a socket in TIME_WAIT, which belongs to no process.
	const lastACK = 52
	if off := received - serverSent; off != 0 && off != lastACK {
		t.Errorf("curl received %d bytes, and the server sent %d", received, serverSent)
	}
	if off := sent - serverReceived; off != 0 && off != lastACK {
		t.Errorf("curl sent %d bytes, and the server received %d", sent, serverReceived)
	}
	if received < 200_000 || received > 205_000 {
		t.Errorf("curl received %d bytes for a file of 200000", received)
	}
	if sent < 100 || sent > 5_000 {
		t.Errorf("curl sent %d bytes, and should have sent a request and ACKs", sent)
	}
	for _, point := range c.Points("process.network.io", Attributes{}) {
		comm, _ := point.Attributes["nettap.process.comm"].(string)
		if comm == "" || strings.HasPrefix(comm, "swapper") || strings.HasPrefix(comm, "ksoftirqd") {
			t.Errorf("bytes are charged to %q: %v", comm, point.Attributes)
		}
	}
}

func TestDistributionEndsTheSeriesOfADeadProcess(t *testing.T) {
	c := Start(t, everywhere)
	a, _ := kerneltest.Namespaces(t)
	h := furnish(t, a)
	curl := h.run(t, "curl", "--silent", "--output", "/dev/null", url(netip.IPv6Loopback(), 80))

	c.Wait("the series of curl have ended", func() bool {
		points := c.Points("process.network.io", Attributes{"process.pid": curl})
		return len(points) == 2 && points[0].Ended && points[1].Ended
	})
	received, _ := usage(c, curl, "lo")
	if received < 200_000 {
		t.Errorf("the last point of curl has %d bytes received, and should have those of the file", received)
	}
}

// TestDistributionLimitsInterfacesNotProcesses runs with the default, namespaces: host.
func TestDistributionLimitsInterfacesNotProcesses(t *testing.T) {
	a, _ := kerneltest.Namespaces(t)
	c := Start(t, fast)
	h := furnish(t, a)
	curl := h.run(t, "curl", "--silent", "--output", "/dev/null", url(netip.IPv6Loopback(), 80))

	talker(t, listen(t)) // so that the host's lo has traffic to report
	c.Wait("the process in the namespace has series", func() bool {
		return len(c.Points("process.network.io", Attributes{"process.pid": curl})) == 2
	})
	c.Wait("the host's lo has accounts", func() bool {
		return len(c.Points("nettap.interface.io", Attributes{"network.interface.name": "lo"})) > 0
	})
	if points := c.Points("nettap.interface.io", Attributes{"nettap.netns.inode": h.inode}); len(points) > 0 {
		t.Errorf("interfaces of another namespace are reported: %v", points)
	}
}

// TestDistributionTellsWhoAProcessIs compares the resource of a process with what /proc says of it.
func TestDistributionTellsWhoAProcessIs(t *testing.T) {
	c := Start(t, fast)
	pid := talker(t, listen(t))
	stat, err := procfs.NewProc(pid)
	if err != nil {
		t.Fatal(err)
	}
	seen, err := stat.Stat()
	if err != nil {
		t.Fatal(err)
	}
	started, err := seen.StartTime()
	if err != nil {
		t.Fatal(err)
	}
	points := c.await("process.network.io", Attributes{"process.pid": pid, "network.io.direction": "transmit"})
	of := points[0].Attributes
	created, err := time.Parse(time.RFC3339, of["process.creation.time"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if off := created.Sub(time.UnixMilli(int64(started * 1000))).Abs(); off > 1500*time.Millisecond { // /proc has the time of boot in whole seconds
		t.Errorf("process.creation.time is %v, and /proc says %v", created, time.UnixMilli(int64(started*1000)))
	}
	want := Attributes{
		"nettap.process.comm":     "bash",
		"process.executable.name": "bash",
		"process.user.id":         int64(os.Geteuid()),
		"process.real_user.id":    int64(os.Getuid()),
		"network.interface.name":  "lo",
	}
	if !of.Has(want) {
		t.Errorf("the process is %v, and should have %v", of, want)
	}
	if _, err := strconv.ParseInt(fmt.Sprint(of["process.pid"]), 10, 32); err != nil || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(fmt.Sprint(of["host.id"])) {
		t.Errorf("process.pid is %v and host.id %v", of["process.pid"], of["host.id"])
	}
}

// await waits until there are points of a metric that have the wanted attributes, and returns them.
func (c *Collector) await(metric string, want Attributes) (points []Point) {
	c.t.Helper()
	c.Wait(fmt.Sprintf("%s has %v", metric, want), func() bool {
		points = c.Points(metric, want)
		return len(points) > 0
	})
	return points
}
