// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// selftests is where make test-selftests has built the kernel's own tests.
const selftests = "../../build/selftests/tools/testing/selftests/net"

// selftestCommands are the tests that are run, each in network namespaces of its own. Those that fail
// without nettap are left out.
var selftestCommands = func() []string {
	var commands []string
	for _, program := range strings.Fields(`
		bind_timewait bind_wildcard netlink-dumps psock_fanout psock_tpacket reuseaddr_conflict reuseport_addr_any reuseport_bpf reuseport_bpf_cpu
		reuseport_dualstack sk_bind_sendto_listen sk_connect_zero_addr sk_so_peek_off so_incoming_cpu so_netns_cookie tcp_inq tun txring_overwrite
	`) {
		commands = append(commands, "./in_netns.sh ./"+program)
	}
	for _, way := range []string{"test_dev_mtu -- ./udpgso -4 -C", "test_dev_mtu -- ./udpgso -6 -C -s", "test_route_mtu -- ./udpgso -4 -c", "test_dev_mtu -- ./udpgso -6 -C -m"} {
		commands = append(commands, "./in_netns.sh ./udpgso.sh "+way)
	}
	for _, way := range []string{"data -p ipv4", "ack -p ipv6", "flags -p ipv4", "tcp -p ipv4", "large -p ipv6"} {
		commands = append(commands, "./gro.sh -t "+way)
	}
	return append(commands,
		"./udpgso_bench.sh -4 -D 127.0.0.1 -l 1 -S 0",
		"./udpgso_bench.sh -6 -D ::1 -l 1 -S 0 -z -a",
		"./udpgso_bench.sh -4 -D 127.0.0.1 -l 1 -t",
		"./udpgso_bench.sh -6 -D ::1 -l 1 -t -z",
		"./udpgro.sh",
		"./psock_snd.sh",
		"./msg_zerocopy.sh",
		"./io_uring_zerocopy_tx.sh 6 udp -m 1 -t 1 -n 32",
		"./ipv6_flowlabel.sh",
		"./ip_defrag.sh",
		"./bind_bhash.sh",
		"./reuseaddr_ports_exhausted.sh",
		"./rxtimestamp.sh",
		"./tcp_fastopen_backup_key.sh",
		"./in_netns.sh sh -c './tcp_mmap -s -z & sleep 0.5; ./tcp_mmap -H ::1 -z; status=$?; kill $!; exit $status'",
		"./in_netns.sh sh -c './tcp_mmap -4 -s & sleep 0.5; ./tcp_mmap -4 -H 127.0.0.1; status=$?; kill $!; exit $status'",
		"./in_netns.sh sh -c 'out=$(mktemp); mptcp/mptcp_connect -l -p 10000 -s MPTCP ::1 <udpgso >$out & sleep 0.5; "+
			"mptcp/mptcp_connect -p 10000 -s MPTCP ::1 <udpgso | cmp - udpgso && wait $! && cmp $out udpgso; status=$?; rm $out; exit $status'",
		"cd mptcp; ./mptcp_connect.sh -l 0% -d 0 -r 0 -e tso -f 500000",
		"cd mptcp; ./pm_netlink.sh",
	)
}()

// notInGuests are those that are left out where tests are short, as in guests, which emulate each
// instruction, and why.
var notInGuests = map[string]string{
	"./udpgro.sh":                  "it needs iptables, which guests do not have",
	"./ip_defrag.sh":               "it needs iptables, which guests do not have",
	"./tcp_fastopen_backup_key.sh": "it makes 160,000 connections",
	"cd mptcp; ./mptcp_connect.sh -l 0% -d 0 -r 0 -e tso -f 500000": "it takes half a minute where nothing is emulated",
	"cd mptcp; ./pm_netlink.sh":                                     "it takes half a minute where nothing is emulated",
}

// allInstruments is a receiver with all that it can observe, except functions if it is given some.
const allInstruments = `
	nettap:
	  max_cpu: 0
	  traffic: {collection_interval: %[1]s, initial_delay: 0s, namespaces: all, max_processes: 16384}
	  drops:
	    {collection_interval: %[1]s, initial_delay: 0s, records: true, metrics: {nettap.tcp.reset: {enabled: true}}}
	  accepts: {initial_delay: 0s, events: {nettap.connection.closed: {enabled: true}}}
	  listeners: {enabled: true, initial_delay: 0s}
	  connections: {enabled: true, initial_delay: 0s}
	  calls: {initial_delay: 0s, off_cpu: true%[2]s, metrics: {nettap.socket.wait.duration: {enabled: true}}}
`

// onlySelftests selects some of them, while a test is written.
var onlySelftests = flag.String("selftests", "", "only the kernel's tests whose commands this regular expression matches")

// keeper runs selftests, and keeps their network namespaces when they delete them, since the counters of
// their interfaces would be gone. A process holds each namespace, since counters of a namespace without
// a process cannot be read.
type keeper struct {
	programs string // a directory for the front of PATH
	deleted  string // a file with a line for each namespace that a test has deleted
	holders  string // a file with the pids of the processes
}

// keepIP stands for the program ip: namespaces that it deletes are only no longer listed.
const keepIP = `#!/bin/sh
case "$1 $2" in
"netns add")
	%[3]q "$@" || exit
	setsid nsenter --net="/run/netns/$3" sleep 1h </dev/null >/dev/null 2>&1 &
	echo $! >>%[2]q
	;;
"netns del" | "netns delete") echo "$3" >>%[1]q ;;
"netns list" | "netns ") %[3]q netns list | grep -vFf %[1]q ;;
*) exec %[3]q "$@" ;;
esac
`

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{programs: t.TempDir(), deleted: filepath.Join(t.TempDir(), "deleted"), holders: filepath.Join(t.TempDir(), "holders")}
	for path, content := range map[string]string{
		k.deleted:                             "",
		k.holders:                             "",
		filepath.Join(k.programs, "ip"):       fmt.Sprintf(keepIP, k.deleted, k.holders, ip),
		filepath.Join(k.programs, "modprobe"): "#!/bin/sh\n", // a kernel that has no modules may have what they would be
	} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { k.forget(t) })
	return k
}

// outcome is what a selftest says: its exit status, and the results of its parts.
type outcome struct {
	Status int
	Parts  []string
}

// part matches the result of a part, without what differs from run to run.
var part = regexp.MustCompile(`(?m)^#? *(?:not )?ok \d+ [^#\n(]*`)

// selftestLimit ends a selftest that hangs. Where nothing is emulated, the longest takes 40 seconds.
const selftestLimit = 4 * time.Minute

// run runs a selftest, and returns what it says and prints.
func (k *keeper) run(t *testing.T, words string) (outcome, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), selftestLimit)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", "-c", words)
	command.Dir = selftests
	command.Env = append(os.Environ(), "PATH="+k.programs+":"+os.Getenv("PATH"))
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = time.Second
	printed, err := command.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", words, err)
	}
	var parts []string
	for _, words := range part.FindAllString(string(printed), -1) {
		parts = append(parts, strings.TrimSpace(words))
	}
	return outcome{command.ProcessState.ExitCode(), parts}, string(printed)
}

// hosts returns a host for each interface of each namespace that was kept.
func (k *keeper) hosts(t *testing.T) (all []host) {
	t.Helper()
	text, err := os.ReadFile(k.deleted)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(string(text)) {
		path := filepath.Join("/run/netns", name)
		var file syscall.Statfs_t
		const nsfs = 0x6e736673
		if err := syscall.Statfs(path, &file); err != nil || file.Type != nsfs {
			continue // it was made in a mount namespace, with which it has ended
		}
		var status syscall.Stat_t
		if err := syscall.Stat(path, &status); err != nil {
			t.Fatal(err)
		}
		for _, line := range devices(t, name) {
			all = append(all, host{Namespace: kerneltest.Namespace{Name: name, Device: line.Name}, inode: int64(status.Ino)})
		}
	}
	return all
}

// forget deletes the namespaces that were kept.
func (k *keeper) forget(t *testing.T) {
	t.Helper()
	for _, pid := range taken(t, k.holders) {
		if number, err := strconv.Atoi(pid); err == nil {
			syscall.Kill(number, syscall.SIGKILL) //nolint:errcheck // it may have ended
		}
	}
	for _, name := range taken(t, k.deleted) {
		exec.Command("ip", "netns", "delete", name).Run() //nolint:errcheck // it may have ended with its mount namespace
	}
}

// taken returns the words of a file, and empties it.
func taken(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// inGuests returns the commands without those that are notInGuests.
func inGuests(t *testing.T, commands []string) []string {
	t.Helper()
	for words := range notInGuests {
		if !slices.Contains(selftestCommands, words) {
			t.Errorf("notInGuests has a test that is not run anywhere: %s", words)
		}
	}
	return slices.DeleteFunc(commands, func(words string) bool {
		reason, left := notInGuests[words]
		if left {
			t.Logf("left out here: %s: %s", words, reason)
		}
		return left
	})
}

// TestSelftestsPass runs the kernel's own tests of its network stack without nettap and beside it. They
// must say the same. In the end the accounts of each interface must balance, and every event must have
// its place.
func TestSelftestsPass(t *testing.T) {
	if _, err := os.Stat(filepath.Join(selftests, "udpgso")); err != nil {
		t.Skip("make test-selftests builds them: ", err)
	}
	chosen := regexp.MustCompile(*onlySelftests)
	commands := slices.DeleteFunc(slices.Clone(selftestCommands), func(words string) bool { return !chosen.MatchString(words) })
	interval, functions := "500ms", ""
	if testing.Short() {
		commands = inGuests(t, commands)
		interval, functions = "2s", ", functions: "+inEachCall
	}
	k := newKeeper(t)
	want, took := map[string]outcome{}, map[string]time.Duration{}
	for _, words := range commands {
		began := time.Now()
		said, printed := k.run(t, words)
		took[words] = time.Since(began).Round(time.Millisecond)
		if said.Status == 0 {
			want[words] = said
			t.Logf("%v without nettap: %s", took[words], words)
		} else {
			t.Logf("left out, since it fails here without nettap, after %v: %s: %d: %s", took[words], words, said.Status, tail(printed, 3))
		}
		k.forget(t)
	}
	if len(want) < len(commands)*3/4 {
		t.Fatalf("only %d of %d pass without nettap", len(want), len(commands))
	}

	began := time.Now()
	c := StartWith(t, Options{Receivers: fmt.Sprintf(allInstruments, interval, functions), Traces: true})
	t.Logf("the Collector was ready after %v", time.Since(began).Round(time.Millisecond))
	for _, words := range commands {
		expected, passes := want[words]
		if !passes {
			continue
		}
		t.Run(words, func(t *testing.T) {
			var said outcome
			var printed string
			for range 3 { // some of them depend on time
				began := time.Now()
				if said, printed = k.run(t, words); cmp.Equal(said, expected) {
					t.Logf("it took %v without nettap, and %v with it", took[words], time.Since(began).Round(time.Millisecond))
					return
				}
				t.Logf("it does not say the same: %s", tail(printed, 3))
			}
			t.Errorf("what it says differs (-without nettap +with it):\n%s\n%s", cmp.Diff(expected, said), tail(printed, 40))
		})
	}
	requireBalance(t, c, k)
	requireEventsHaveAPlace(t, c)
}

// unhooked is what psock_snd sends with PACKET_QDISC_BYPASS, which passes no hook.
var unhooked = counted{SentPackets: 1, SentBytes: 128}

// requireBalance requires that the accounts of all interfaces balance. Unobserved is only what docs/accounts.md
// says, which among these tests is one packet, and the link headers of gro.sh, since a veth that polls counts
// none. As carry says, on some machines programs do not run in each soft interrupt, but they do in guests.
func requireBalance(t *testing.T, c *Collector, k *keeper) {
	t.Helper()
	for range 3 { // the first may have begun before the last packet
		last := c.lastCollection()
		c.Wait("there is another collection", func() bool { return c.lastCollection().After(last) })
	}
	all := k.hosts(t)
	hosts := slices.DeleteFunc(slices.Clone(all), func(h host) bool { return h.isReused(c) })
	var packets, unobserved int64
	for i, one := range balance(t, c, hosts...) {
		packets += one.counter.ReceivedPackets + one.counter.SentPackets
		if one.unobserved == (counted{}) || one.unobserved == unhooked {
			continue
		}
		unobserved += max(one.unobserved.ReceivedPackets, -one.unobserved.ReceivedPackets) + max(one.unobserved.SentPackets, -one.unobserved.SentPackets)
		t.Logf("%s of %s has counted %+v, and of these are unobserved %+v\n%s", hosts[i].Device, hosts[i].Name, one.counter, one.unobserved, hosts[i].accountsTable(c))
	}
	t.Logf("%d of %d interfaces balance, with %d packets received and sent, and of these %d unobserved for no known reason; the others had the inode of a namespace that had ended",
		len(hosts), len(all), packets, unobserved)
	if testing.Short() && unobserved > 0 || unobserved > max(100, packets/100) {
		t.Error("too many packets are unobserved")
	}
	if len(hosts) < len(all)/2 {
		t.Error("too few interfaces could be compared")
	}
}

// isReused says whether another interface had the identity of this one before: some of the tests make
// namespaces that end with them, and the next one gets the inode. Its series then begin anew, and both
// together have what has moved.
func (h host) isReused(c *Collector) bool {
	starts := map[time.Time]bool{}
	for _, point := range c.Points("nettap.interface.packet.count", Attributes{"nettap.netns.inode": h.inode, "network.interface.name": h.Device}) {
		starts[point.Start] = true
		if point.Ended {
			return true
		}
	}
	return len(starts) > 1
}

// requireEventsHaveAPlace requires that each instrument has reported, left out or lost what it has seen.
func requireEventsHaveAPlace(t *testing.T, c *Collector) {
	t.Helper()
	places := []string{"exported", "aggregated", "sampled_out", "rate_limited", "lost"}
	var instruments []string
	for _, sample := range c.Own("otelcol_nettap_events_seen") {
		instruments = append(instruments, sample.Labels["instrument"])
	}
	slices.Sort(instruments)
	for _, instrument := range slices.Compact(instruments) {
		var figures string
		c.Wait("every event of "+instrument+" has its place", func() bool {
			seen := c.OwnValue("otelcol_nettap_events_seen", "instrument", instrument)
			var sum float64
			figures = fmt.Sprintf("%s has seen %.0f", instrument, seen)
			for _, place := range places {
				value := c.OwnValue("otelcol_nettap_events_"+place, "instrument", instrument)
				figures += fmt.Sprintf(", %s %.0f", place, value)
				sum += value
			}
			return seen == sum
		})
		t.Log(figures)
	}
}
