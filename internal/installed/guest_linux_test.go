// SPDX-License-Identifier: Apache-2.0

package installed

import (
	"io"
	"net"
	"net/http"
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

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

const (
	service       = "otelcol-nettap.service"
	configuration = "/etc/otelcol-nettap/config.yaml"
)

// guest is the machine that this test runs in.
type guest struct {
	*testing.T
	*backend
	log []string // the command that prints what the service has said last
}

// TestGuest runs in the virtual machine that TestDebian boots. Its parts depend on those before them.
func TestGuest(t *testing.T) {
	if os.Getenv("NETTAP_GUEST") == "" {
		t.Skip("this test is run by TestDebian")
	}
	g := guest{T: t, log: []string{"journalctl", "--no-pager", "--lines", "30"}}
	internet(t)
	g.backend = startBackend(t)
	g.boots()
	only := regexp.MustCompile(os.Getenv("NETTAP_PARTS"))
	for _, part := range []struct {
		name string
		test func(guest)
	}{
		{"is installed", guest.isInstalled},
		{"is hardened", guest.isHardened},
		{"warns of nothing", guest.warnsOfNothing},
		{"counts traffic", guest.countsTraffic},
		{"reports an accept", guest.reportsAnAccept},
		{"counts drops", guest.countsDrops},
		{"reports a failed call", guest.reportsAFailedCall},
		{"has no failures in an idle day", guest.idles},
		{"is reloaded and restarted", guest.isReloaded},
		{"is upgraded", guest.isUpgraded},
		{"is removed and purged", guest.isRemoved},
	} {
		if only.MatchString(part.name) {
			t.Run(part.name, func(t *testing.T) { part.test(guest{t, g.backend, g.log}) })
		}
	}
}

// run runs a command, and returns its output.
func (g guest) run(words ...string) string {
	g.Helper()
	return command(g.T, words...)
}

// property returns a property of the service.
func (g guest) property(name string) string {
	g.Helper()
	return strings.TrimSpace(g.run("systemctl", "show", "--property", name, "--value", service))
}

// wait waits until a condition holds.
func (g guest) wait(what string, holds func() bool) {
	g.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !holds(); time.Sleep(500 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.Fatalf("in vain waited until %s; the log ends with\n%s", what, g.run(g.log...))
		}
	}
}

// get returns what the service serves at a URL, or "" if it does not. The machine would take long to start curl.
func get(url string) string {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + url)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return string(content)
}

// boots waits until all services have started.
func (g guest) boots() {
	g.Helper()
	state, _ := exec.Command("systemctl", "is-system-running", "--wait").Output() // an error says that a unit failed
	if got := strings.TrimSpace(string(state)); got != "running" {
		g.Errorf("the machine is %s:\n%s\n%s", got, g.run("systemctl", "--failed", "--no-pager"), g.run("journalctl", "--no-pager", "--lines", "60", "--priority", "warning"))
	}
	if init := g.run("readlink", "/proc/1/exe"); !strings.HasSuffix(strings.TrimSpace(init), "systemd") {
		g.Fatalf("process 1 is %s", init)
	}
	g.Logf("%s%s", g.run("uname", "-r"), g.run("systemctl", "list-units", "--type", "service,timer", "--no-pager", "--no-legend", "--plain"))
}

// collects waits until the service that was started last collects.
func (g guest) collects() {
	g.Helper()
	g.wait("the service is healthy", func() bool { return get("127.0.0.1:13133") != "" })
}

// ready waits until the unit that was started last collects.
func (g guest) ready() {
	g.Helper()
	g.collects()
	if got := g.property("ActiveState"); got != "active" {
		g.Errorf("the service is %s", got)
	}
}

// isInstalled installs the package, and checks with which user and capabilities the service runs.
func (g guest) isInstalled() {
	g.run("dpkg", "--install", "/tests/first.deb")
	g.ready()
	if got := strings.TrimSpace(g.run("systemctl", "is-enabled", service)); got != "enabled" {
		g.Errorf("the service is %s", got)
	}
	status, err := os.ReadFile("/proc/" + g.property("MainPID") + "/status")
	if err != nil {
		g.Fatal(err)
	}
	user := strings.TrimSpace(g.run("id", "--user", "otelcol-nettap"))
	if user == "0" {
		g.Error("the user is root")
	}
	// CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYSLOG, CAP_PERFMON and CAP_BPF.
	const capabilities = "000000c400081000"
	want := map[string]string{"Uid": strings.Repeat("\t"+user, 4), "NoNewPrivs": "\t1", "Seccomp": "\t2"}
	for _, name := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		want[name] = "\t" + capabilities
	}
	got := map[string]string{}
	for line := range strings.Lines(string(status)) {
		if name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); want[name] != "" {
			got[name] = value
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		g.Errorf("the process has other privileges (-want +got):\n%s", diff)
	}
}

// isHardened requires an exposure of less than 3 of 10 of the unit that runs.
func (g guest) isHardened() {
	g.run("systemd-analyze", "security", "--threshold=29", "--no-pager", service)
}

// warnsOfNothing requires that the service, since it was started last, has logged nothing above info, and that
// each instrument runs.
func (g guest) warnsOfNothing() {
	logged := g.run("journalctl", "--no-pager", "--output", "cat", "_SYSTEMD_INVOCATION_ID="+g.property("InvocationID"))
	for line := range strings.Lines(logged) {
		if fields := strings.Split(line, "\t"); len(fields) > 1 && fields[1] != "info" {
			g.Errorf("the service says %s", line)
		}
	}
	own := get("127.0.0.1:8888/metrics")
	active := regexp.MustCompile(`(?m)^otelcol_nettap_hook_active\{.*instrument="(\w+)".*\} (\d)$`)
	hooks := map[string]int{}
	for _, found := range active.FindAllStringSubmatch(own, -1) {
		n, _ := strconv.Atoi(found[2])
		hooks[found[1]] += n
	}
	for _, instrument := range []string{"traffic", "drops", "accepts", "calls"} {
		if hooks[instrument] == 0 {
			g.Errorf("no hook of %s has fired: %v", instrument, hooks)
		}
	}
}

// countsTraffic requires that exactly the datagrams of a process are counted.
func (g guest) countsTraffic() {
	const headers = 20 + 8 // lo counts no Ethernet header
	receiver, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		g.Fatal(err)
	}
	defer receiver.Close()
	sender := deed(g.T, sends, receiver.LocalAddr().(*net.UDPAddr).Port)
	end, err := sender.StdinPipe()
	if err != nil {
		g.Fatal(err)
	}
	if err := sender.Start(); err != nil {
		g.Fatal(err)
	}
	defer sender.Wait()
	defer end.Close()
	sent := attributes{"process.pid": sender.Process.Pid, "network.io.direction": "transmit", "network.interface.name": "lo"}
	g.wait("the packets are counted", func() bool { return g.sum("nettap.process.network.packet.count", sent) >= datagrams })
	if got := g.sum("nettap.process.network.packet.count", sent); got != datagrams {
		g.Errorf("%d packets are counted, want %d", got, datagrams)
	}
	g.wait("the bytes are counted", func() bool { return g.sum("process.network.io", sent) >= datagrams*(size+headers) })
	if got, want := g.sum("process.network.io", sent), int64(datagrams*(size+headers)); got != want {
		g.Errorf("%d bytes are counted, want %d", got, want)
	}
}

// reportsAnAccept requires that the connections that a process accepts are reported.
func (g guest) reportsAnAccept() {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		g.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	}()
	const connections = 20
	for range connections {
		connection, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			g.Fatal(err)
		}
		connection.Close()
	}
	accepted := attributes{"event": "nettap.connection.accepted", "process.pid": os.Getpid(), "network.local.port": listener.Addr().(*net.TCPAddr).Port}
	g.wait("the connections are reported", func() bool { return len(g.recordsWith(accepted)) >= connections })
	if got := len(g.recordsWith(accepted)); got != connections {
		g.Errorf("%d connections are reported, want %d", got, connections)
	}
}

// countsDrops requires that the datagrams for a port that no process has are counted as dropped.
func (g guest) countsDrops() {
	const datagrams = 50
	port := g.closedPort()
	refused := attributes{"nettap.drop.reason": "no_socket", "network.transport": "udp", "network.interface.name": "lo"}
	before := g.sum("nettap.packet.dropped", refused)
	for range datagrams {
		socket, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			g.Fatal(err)
		}
		if _, err := socket.Write([]byte("nobody")); err != nil {
			g.Fatal(err)
		}
		socket.Close()
	}
	g.wait("the drops are counted", func() bool { return g.sum("nettap.packet.dropped", refused)-before >= datagrams })
	if got := g.sum("nettap.packet.dropped", refused) - before; got != datagrams {
		g.Errorf("%d drops are counted, want %d", got, datagrams)
	}
}

// closedPort returns a port on which nobody listens.
func (g guest) closedPort() int {
	g.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		g.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// fail makes a connect that is refused, and waits until it is reported.
func (g guest) fail() span {
	g.Helper()
	connector := deed(g.T, fails, g.closedPort())
	if err := connector.Run(); err != nil {
		g.Fatal(err)
	}
	of := attributes{"process.pid": connector.Process.Pid, "nettap.call.kept": "failed"}
	g.wait("the refused connect is reported", func() bool { return len(g.spansWith(of)) > 0 })
	return g.spansWith(of)[0]
}

func (g guest) reportsAFailedCall() {
	failed := g.fail()
	got := attributes{"name": failed.Name(), "error.type": failed.attributes["error.type"], "network.peer.address": failed.attributes["network.peer.address"]}
	if diff := cmp.Diff(attributes{"name": "connect", "error.type": "ECONNREFUSED", "network.peer.address": "127.0.0.1"}, got); diff != "" {
		g.Errorf("the refused connect is another span (-want +got):\n%s", diff)
	}
}

// isReloaded requires that the service goes on as the same process after a reload, as another one after a
// restart, and that a process that ends leaves nothing in the kernel.
func (g guest) isReloaded() {
	first := g.property("MainPID")
	edit(g.T, configuration, "receivers:\n  nettap:\n", "receivers:\n  nettap: {view: {endpoint: \"127.0.0.1:8777\"}}\n")
	g.run("systemctl", "reload", service)
	g.wait("the new configuration is in use", func() bool { return get("127.0.0.1:8777/nettop") != "" })
	if got := g.property("MainPID"); got != first {
		g.Errorf("the reload has made process %s of %s", got, first)
	}
	g.ready()
	g.fail()
	g.refusesAWrongConfiguration()

	// The backend is named as docs/deployment.md says.
	if err := os.RemoveAll("/etc/systemd/system/" + service + ".d"); err != nil {
		g.Fatal(err)
	}
	edit(g.T, "/etc/otelcol-nettap/environment", "#OTLP_INSECURE=false", "OTLP_INSECURE=true\nOTLP_COMPRESSION=gzip")
	g.run("systemctl", "daemon-reload")
	objects := g.objects()
	g.run("systemctl", "restart", service)
	objects.AwaitGone(g.T, func() {})
	g.ready()
	if got := g.property("MainPID"); got == first {
		g.Error("the restart has not made another process")
	}
	g.warnsOfNothing()
	g.fail()
}

// refusesAWrongConfiguration requires that a reload with a mistake fails, and that the service goes on as it is.
func (g guest) refusesAWrongConfiguration() {
	g.Helper()
	first := g.property("MainPID")
	edit(g.T, configuration, "receivers:\n  nettap:", "receivers:\n  netpat:")
	if output, err := exec.Command("systemctl", "reload", service).CombinedOutput(); err == nil {
		g.Errorf("a wrong configuration is reloaded: %s", output)
	}
	edit(g.T, configuration, "receivers:\n  netpat:", "receivers:\n  nettap:")
	g.run("systemctl", "reload", service)
	g.ready()
	if got := g.property("MainPID"); got != first {
		g.Errorf("the service was process %s and is %s", first, got)
	}
}

// objects returns what the service has in the kernel.
func (g guest) objects() kerneltest.Objects {
	g.Helper()
	pid, err := strconv.Atoi(g.property("MainPID"))
	if err != nil {
		g.Fatal(err)
	}
	return kerneltest.ObjectsOf(g.T, pid)
}

// edit replaces a text in a file, once.
func edit(t *testing.T, path, old, replacement string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(content), old, replacement, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// isUpgraded requires that an upgrade restarts the service, with the configuration that was changed.
func (g guest) isUpgraded() {
	changed, err := os.ReadFile(configuration)
	if err != nil {
		g.Fatal(err)
	}
	before := g.property("MainPID")
	g.run("dpkg", "--force-confold", "--install", "/tests/second.deb")
	g.ready()
	if got := g.property("MainPID"); got == before {
		g.Error("the upgrade has not restarted the service")
	}
	kept, err := os.ReadFile(configuration)
	if err != nil {
		g.Fatal(err)
	}
	if diff := cmp.Diff(string(changed), string(kept)); diff != "" {
		g.Errorf("the upgrade has changed the configuration (-want +got):\n%s", diff)
	}
	g.warnsOfNothing()
	g.fail()
}

// isRemoved requires that the removal of a running service leaves nothing in the kernel, that a package which is
// installed again runs again, and that a purged one leaves nothing on disk but its user.
func (g guest) isRemoved() {
	objects := g.objects()
	g.run("dpkg", "--remove", "otelcol-nettap")
	objects.AwaitGone(g.T, func() {})
	if ended := g.run("journalctl", "--no-pager", "--output", "cat", "--lines", "5", "--unit", service); !strings.Contains(ended, service+": Deactivated successfully.") {
		g.Errorf("the service has ended otherwise: %s", ended)
	}
	if got := g.property("LoadState"); got != "not-found" {
		g.Errorf("after the removal the unit is %s", got)
	}
	g.run("dpkg", "--force-confold", "--install", "/tests/second.deb")
	g.ready()
	g.run("dpkg", "--purge", "otelcol-nettap")
	var left []string
	for _, pattern := range []string{"/etc/*nettap*", "/etc/systemd/system/*nettap*", "/etc/systemd/system/*/*nettap*", "/var/lib/*nettap*", "/var/lib/private/*nettap*",
		"/usr/*/*nettap*", "/usr/lib/*/*nettap*", "/usr/lib/systemd/*/*nettap*", "/usr/share/*/*nettap*", "/var/cache/*nettap*", "/var/log/*nettap*", "/run/*nettap*", "/run/systemd/*/*nettap*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			g.Fatal(err)
		}
		left = append(left, found...)
	}
	if len(left) > 0 {
		g.Errorf("the purge leaves %v", left)
	}
	if listed := g.run("bpftool", "prog"); regexp.MustCompile(`pids otelcol-nettap`).MatchString(listed) {
		g.Errorf("programs are left:\n%s", listed)
	}
	if failed := g.run("systemctl", "--failed", "--no-legend", "--plain"); slices.Contains(strings.Fields(failed), service) {
		g.Errorf("systemd says of the service that is gone: %s", failed)
	}
}
