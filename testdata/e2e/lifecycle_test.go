// SPDX-License-Identifier: Apache-2.0

//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/drops/dropstest"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// fast is a receiver with short intervals, so that everything is reported soon.
const fast = `
	nettap:
	  traffic: {collection_interval: 200ms, initial_delay: 0s}
	  drops: {collection_interval: 200ms, initial_delay: 0s}
	  accepts: {collection_interval: 200ms, initial_delay: 0s}
`

func TestDistributionStartsAndStops(t *testing.T) {
	c := Start(t, fast)
	c.Wait("its own metrics are there", func() bool { return len(c.Own("otelcol_process_uptime")) > 0 })
	c.Stop()
	for _, instrument := range []string{"traffic", "drops", "accepts"} {
		if line := `"instrument": "` + instrument + `", "hooks": [`; !strings.Contains(c.Log(), line) {
			t.Errorf("the log does not say which hooks %s uses", instrument)
		}
	}
}

// TestDistributionProvesItsHooks requires that each hook has fired before the Collector is ready.
func TestDistributionProvesItsHooks(t *testing.T) {
	c := Start(t, fast)
	for _, instrument := range []string{"traffic", "drops", "accepts", "cgroups"} {
		hooks := c.Own("otelcol_nettap_hook_active", "instrument", instrument)
		if len(hooks) < 2 {
			t.Errorf("%s has hooks %v, want several", instrument, hooks)
		}
		for _, hook := range hooks {
			if hook.Value != 1 {
				t.Errorf("a hook of %s did not fire: %v", instrument, hook.Labels)
			}
		}
	}
}

// TestDistributionDoesNotReportItsOwnProof requires that the traffic with which the Collector made
// its hooks fire is not reported.
func TestDistributionDoesNotReportItsOwnProof(t *testing.T) {
	c := Start(t, fast)
	pid := talker(t, listen(t))
	c.Wait("the traffic of another process is reported", func() bool {
		return len(c.Points("process.network.io", Attributes{"process.pid": pid})) > 0 && len(c.Records(nil)) > 0
	})
	c.Stop()
	own := Attributes{"process.pid": c.PID()}
	if points, records := c.Points("process.network.io", own), c.Records(own); len(points) > 0 || len(records) > 0 {
		t.Errorf("the Collector reports of itself %v and %v", points, records)
	}
}

func TestDistributionAvoidsHooks(t *testing.T) {
	output := Refuse(t, Options{Receivers: "nettap: {avoid_hooks: [tp_btf, fentry, kprobe]}"})
	for _, want := range []string{`no hook for job "owner" works here`, "tp_btf/sock_send_length: avoid_hooks names it"} {
		if !strings.Contains(output, want) {
			t.Errorf("the error does not say %q:\n%s", want, tail(output, 5))
		}
	}
}

// TestDistributionSaysWhyAHookWasTaken requires that the log says, at level debug, why a hook was
// taken that is not the best one, and what it does not see.
func TestDistributionSaysWhyAHookWasTaken(t *testing.T) {
	c := StartWith(t, Options{
		Receivers: "nettap: {avoid_hooks: [fentry, kprobe]}",
		Overlay:   "service: {telemetry: {logs: {level: debug}}}",
	})
	for _, want := range []string{
		"accepts: accept by tp_btf/sys_exit, since better hooks are not to be had",
		`"fentry/security_sock_graft: avoid_hooks names it`,
		`"kprobe/security_sock_graft: avoid_hooks names it`,
		"accepts: accept by tp_btf/sys_exit does not see everything",
		`"not_seen": "`,
	} {
		if !strings.Contains(c.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if hooks := c.Own("otelcol_nettap_hook_active", "instrument", "accepts", "job", "accept"); len(hooks) != 1 || hooks[0].Labels["hook"] != "tp_btf/sys_exit" {
		t.Errorf("the hook of accepts is %v, want tp_btf/sys_exit alone", hooks)
	}
}

func TestDistributionLeavesNothingInTheKernel(t *testing.T) {
	for name, end := range map[string]func(*Collector){
		"when it is shut down": (*Collector).Stop,
		"when it is killed":    (*Collector).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			c := Start(t, fast)
			objects := kerneltest.ObjectsOf(t, c.PID())
			if len(objects["map"]) < 5 || len(objects["prog"]) < 5 || len(objects["link"]) < 5 {
				t.Errorf("while it ran there were %v, want several of each kind", objects)
			}
			end(c)
			objects.AwaitGone(t, func() {})
		})
	}
}

func TestDistributionNamesMistakes(t *testing.T) {
	for name, test := range map[string]struct {
		receivers string
		want      []string
	}{
		"unknown keys": {
			receivers: "nettap: {traffic: {interval: 1s}}",
			want:      []string{"'traffic' has invalid keys: interval"},
		},
		"an unknown instrument": {
			receivers: "nettap: {trafic: {enabled: true}}",
			want:      []string{"has invalid keys: trafic"},
		},
		"values out of range, all at once": {
			receivers: "nettap: {traffic: {collection_interval: -1s}, drops: {collection_interval: 0s}, on_unsupported: ignore}",
			want: []string{
				"receivers::nettap: traffic.collection_interval is -1s, and must be at least 10ms",
				"drops.collection_interval is 0s, and must be at least 10ms",
				`on_unsupported is "ignore", and must be "error" or "warn"`,
			},
		},
		"a share that is none": {
			receivers: "nettap: {max_cpu: 101%}",
			want:      []string{"receivers::nettap: max_cpu is 101%, and must be from 0% (no limit) to 100%"},
		},
		"a number for a percentage": {
			receivers: "nettap: {max_cpu: 2}",
			want:      []string{"max_cpu is 2, and must be a percentage as 2%, or 0"},
		},
		"an attribute that a metric does not have": {
			receivers: "nettap: {traffic: {metrics: {process.network.io: {attributes: [network.port]}}}}",
			want:      []string{"traffic::metrics::process.network.io", "network.port"},
		},
		"the one of several receivers that has it": {
			receivers: "nettap/a: {}\nnettap/b: {accepts: {max_per_second: -1}}",
			want:      []string{"receivers::nettap/b: accepts.max_per_second is -1, and must be 0 (no limit) or more"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := prepare(t, Options{Receivers: test.receivers})
			validated, err := exec.Command(binary, "validate", "--config", c.path("config.yaml")).CombinedOutput()
			if err == nil {
				t.Error("validate finds nothing wrong")
			}
			for how, output := range map[string]string{"validate": string(validated), "start": Refuse(t, c.options)} {
				for _, want := range test.want {
					if !strings.Contains(output, want) {
						t.Errorf("%s does not say %q:\n%s", how, want, tail(output, 10))
					}
				}
			}
		})
	}
}

func TestDistributionNamesWhatIsMissing(t *testing.T) {
	after := func(script string) []string {
		return []string{"unshare", "--mount", "sh", "-c", script + `; exec "$@"`, "sh"}
	}
	for name, test := range map[string]struct {
		wrap []string
		want []string
	}{
		"a cgroup namespace of its own": {
			wrap: []string{"unshare", "--cgroup"},
			want: []string{"mount the hostPath /sys/fs/cgroup"},
		},
		"a pid namespace of its own": {
			wrap: []string{"unshare", "--pid", "--fork", "--kill-child"},
			want: []string{"hostPID: true"},
		},
		"without cgroup2": {
			wrap: after("umount --all --types cgroup2"),
			want: []string{"cgroup2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup"},
		},
		"a kernel without BTF": {
			wrap: after("mount -t tmpfs none /sys/kernel/btf"),
			want: []string{"the kernel does not describe its types in /sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			output := Refuse(t, Options{Receivers: fast, Wrap: test.wrap})
			last := tail(strings.TrimSpace(output), 1)
			for _, want := range test.want {
				if !strings.Contains(last, want) {
					t.Errorf("the error does not say %q:\n%s", want, tail(output, 5))
				}
			}
		})
	}
}

// capabilities are all capabilities that the instruments need, as docs/privileges.md says.
var capabilities = []string{"bpf", "perfmon", "net_admin", "sys_ptrace", "syslog"}

// TestDistributionRunsAsNobody runs all instruments as user nobody, with the capabilities that they
// need and no others.
func TestDistributionRunsAsNobody(t *testing.T) {
	const everyCall = "\t  calls: {collection_interval: 200ms, initial_delay: 0s, min_duration: 0s, max_per_second: 0}\n"
	c := StartWith(t, Options{Receivers: fast + everyCall, Traces: true, Capabilities: capabilities})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var held uint64
	for _, capability := range []int{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_SYSLOG} {
		held |= 1 << capability
	}
	for _, want := range []string{"Uid:\t65534\t65534\t65534\t65534", fmt.Sprintf("CapEff:\t%016x", held)} {
		if !strings.Contains(string(status), want+"\n") {
			t.Fatalf("the Collector does not have %q:\n%s", want, status)
		}
	}

	lab := dropstest.NewLab(t)
	provoked := dropstest.Provocations()[0].Provoke(t, lab)
	provoked.Packets = 0
	address := listen(t)
	pid := talker(t, address) // it runs as root
	c.Wait("what a process of another user sent is on its account", func() bool {
		return c.Value("process.network.io", Attributes{
			"process.pid": pid, "process.executable.name": "bash", "process.user.id": 0,
			"network.interface.name": "lo", "network.io.direction": "transmit",
		}) > 0
	})
	c.Wait("the drop has the name of its function", func() bool { return c.drops(lab.Receiver.Device)[provoked] > 0 })
	c.Wait("the accepted connection is reported", func() bool {
		return len(c.Records(Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()})) == 1
	})
	c.Wait("the call that connected is traced", func() bool {
		return len(c.Spans(Attributes{"process.pid": pid, "nettap.call.syscall": "connect", "network.peer.port": address.Port})) == 1
	})
	// The user nobody may not make a cgroup, so these hooks are attached and not seen to fire.
	for _, hook := range c.Own("otelcol_nettap_hook_active", "instrument", "cgroups") {
		if !strings.HasPrefix(hook.Labels["hook"], "tp_btf/cgroup_") || hook.Value != 0 {
			t.Errorf("cgroups has hook %v, which is said to fire: %v", hook.Labels, hook.Value)
		}
	}
	c.Stop()
}

// TestDistributionNamesTheMissingCapability takes one capability away, which the Collector must name.
func TestDistributionNamesTheMissingCapability(t *testing.T) {
	for i, missing := range capabilities {
		t.Run(missing, func(t *testing.T) {
			output := Refuse(t, Options{Receivers: fast, Capabilities: slices.Delete(slices.Clone(capabilities), i, i+1)})
			want := "missing CAP_" + strings.ToUpper(missing) + ": run as root, or grant"
			if last := tail(strings.TrimSpace(output), 1); !strings.Contains(last, want) {
				t.Errorf("the error does not say %q:\n%s", want, tail(output, 5))
			}
		})
	}
}

// TestDistributionRunsWithoutTracefsAndBpffs unmounts both file systems, because neither is needed.
func TestDistributionRunsWithoutTracefsAndBpffs(t *testing.T) {
	c := StartWith(t, Options{Receivers: fast, Wrap: []string{
		"unshare", "--mount", "sh", "-c", `umount --all --types tracefs,debugfs,bpf; exec "$@"`, "sh",
	}})
	address := listen(t)
	pid := talker(t, address)
	c.Wait("a process that sends is seen", func() bool {
		return c.Value("process.network.io", Attributes{"process.pid": pid, "network.interface.name": "lo", "network.io.direction": "transmit"}) > 0
	})
	c.Stop()
}

func TestDistributionRunsOtherPipelinesWithoutNettap(t *testing.T) {
	port := freePort(t)
	c := StartWith(t, Options{
		Receivers: fmt.Sprintf("nettap: {on_unsupported: warn}\notlp: {protocols: {http: {endpoint: 127.0.0.1:%d}}}", port),
		Wrap:      []string{"unshare", "--cgroup"},
	})
	if !strings.Contains(c.Log(), "left off, since on_unsupported is warn") {
		t.Error("the log does not say that nettap is off")
	}
	const record = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"I am another pipeline"}}]}]}]}`
	answer, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/v1/logs", port), "application/json", strings.NewReader(record))
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	c.Wait("a record of the other receiver comes out", func() bool {
		records := c.Records(nil)
		return len(records) == 1 && records[0].Body == "I am another pipeline"
	})
	c.Stop()
}

// TestDistributionRunsOtherInstruments has one instrument without a hook that works, which must
// not keep the others from running.
func TestDistributionRunsOtherInstruments(t *testing.T) {
	c := Start(t, `
		nettap:
		  on_unsupported: warn
		  avoid_hooks: [tp_btf/sock_send_length, fentry, kprobe]
		  drops: {collection_interval: 200ms, initial_delay: 0s}
		  accepts: {collection_interval: 200ms, initial_delay: 0s}
	`)
	for _, want := range []string{"left off, since on_unsupported is warn", "start traffic: load owner programs: no hook for job"} {
		if !strings.Contains(c.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	lab := dropstest.NewLab(t)
	want := dropstest.Provocations()[0].Provoke(t, lab)
	packets := want.Packets
	want.Packets = 0
	c.Wait("the drops are reported", func() bool { return c.drops(lab.Receiver.Device)[want] == packets })
	address := listen(t)
	talker(t, address)
	c.Wait("the accepted connection is reported", func() bool {
		return len(c.Records(Attributes{"network.local.port": address.Port, "process.pid": os.Getpid()})) == 1
	})
	if points := c.Points("process.network.io", nil); len(points) > 0 {
		t.Errorf("traffic is off, and reports %v", points)
	}
	c.Stop()
}

// talker starts a process that sends one line to address and keeps the connection until the test
// ends, and returns its pid.
func talker(t *testing.T, address *net.TCPAddr) (pid int) {
	t.Helper()
	return startTalker(t, address).Process.Pid
}

func startTalker(t *testing.T, address *net.TCPAddr) *kerneltest.Program {
	t.Helper()
	command := exec.Command("bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; echo hello >&3; read; true", address.Port))
	return kerneltest.StartProgram(t, command)
}

// listen accepts connections and reads what comes, until the test ends.
func listen(t *testing.T) *net.TCPAddr {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				io.Copy(io.Discard, connection)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr)
}

func TestDistributionShowsPrometheusEachProcess(t *testing.T) {
	c := Start(t, fast)
	address := listen(t)
	for _, pid := range []int{talker(t, address), talker(t, address)} {
		c.Wait(fmt.Sprintf("Prometheus sees what pid %d sent", pid), func() bool {
			samples := c.Prometheus("process_network_io_bytes_total",
				"process_pid", strconv.Itoa(pid), "network_io_direction", "transmit", "network_interface_name", "lo")
			return len(samples) == 1 && samples[0].Value > 0
		})
	}
}

func TestDistributionRunsTwoReceivers(t *testing.T) {
	c := Start(t, `
		nettap/a: {accepts: {collection_interval: 200ms, initial_delay: 0s}, traffic: {enabled: false}}
		nettap/b: {accepts: {collection_interval: 200ms, initial_delay: 0s}, traffic: {enabled: false}}
	`)
	address := listen(t)
	talker(t, address)
	c.Wait("both receivers report the connection", func() bool {
		return len(c.Records(Attributes{"network.local.port": address.Port})) == 2
	})
	for _, receiver := range []string{"nettap/a", "nettap/b"} {
		c.Wait("the accounts are those of each", func() bool {
			return c.OwnValue("otelcol_nettap_events_exported", "receiver", receiver, "instrument", "accepts") >= 1
		})
	}
}
