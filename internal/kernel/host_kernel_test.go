// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// If one of these is set, the test binary only calls a function and prints its result. So a test
// can call it under other circumstances.
const (
	requireHostVariable = "NETTAP_TEST_REQUIRE_HOST" // its argument
	probeVariable       = "NETTAP_TEST_PROBE"        // its argument
)

func TestMain(m *testing.M) {
	if rootPath, ok := os.LookupEnv(requireHostVariable); ok {
		fmt.Print(kernel.RequireHost(rootPath))
		return
	}
	if hook, ok := os.LookupEnv(probeVariable); ok {
		fmt.Print(kernel.Probe(hook))
		return
	}
	os.Exit(m.Run())
}

// ask runs this binary with a variable set, and returns what it prints.
func ask(t *testing.T, variable, value string, circumstances *syscall.SysProcAttr) string {
	t.Helper()
	self := exec.CommandContext(t.Context(), "/proc/self/exe")
	self.Env = append(os.Environ(), variable+"="+value)
	self.SysProcAttr = circumstances
	output, err := self.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return string(output)
}

func TestKernelRequireHostInNamespaces(t *testing.T) {
	kerneltest.Require(t)

	for name, test := range map[string]struct {
		namespaces uintptr
		rootPath   string
		want       string
	}{
		"the machine's own": {want: "<nil>"},
		"a cgroup namespace": {
			namespaces: syscall.CLONE_NEWCGROUP,
			want:       "in a cgroup namespace of its own nettap would measure its own container: mount the hostPath /sys/fs/cgroup",
		},
		"a cgroup namespace that sees the host's cgroups below root_path": {
			namespaces: syscall.CLONE_NEWCGROUP, rootPath: "/sys", want: "<nil>",
		},
		"a cgroup namespace with nothing below root_path": {
			namespaces: syscall.CLONE_NEWCGROUP, rootPath: "/proc",
			want: "cgroup2 is not mounted below root_path /proc: mount the hostPath /sys/fs/cgroup at /proc/sys/fs/cgroup",
		},
		"a root_path that does not exist": {rootPath: "/nonexistent", want: "root_path: lstat /nonexistent: no such file or directory"},
		"a pid namespace": {
			namespaces: syscall.CLONE_NEWPID,
			want:       "in a pid namespace of its own nettap would not know the host's processes: set hostPID: true",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := ask(t, requireHostVariable, test.rootPath, &syscall.SysProcAttr{Cloneflags: test.namespaces})
			if !strings.HasPrefix(got, test.want) {
				t.Errorf("RequireHost(%q) says %q, want %q", test.rootPath, got, test.want)
			}
		})
	}
}

func TestKernelCapabilities(t *testing.T) {
	kerneltest.Require(t)

	for name, test := range map[string]struct {
		held            []uintptr
		variable, value string
		want            string
	}{
		"what all instruments need": {
			held: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE}, variable: requireHostVariable, want: "<nil>",
		},
		"one of them is missing": {
			held: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, variable: requireHostVariable, want: "missing CAP_SYS_PTRACE: run as root",
		},
		"all are missing": {variable: requireHostVariable, want: "missing CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE: run as root"},
		"what packets of a cgroup need": {
			held: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, variable: probeVariable, value: "cgroup_skb/ingress",
			want: "cgroup_skb/ingress: missing CAP_NET_ADMIN: run as root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Before Linux 5.11 every case needs this capability too, for
			// RLIMIT_MEMLOCK. Some containers cannot give it.
			if held, _ := unix.PrctlRetInt(unix.PR_CAPBSET_READ, unix.CAP_SYS_RESOURCE, 0, 0, 0); held == 1 {
				test.held = append(test.held, unix.CAP_SYS_RESOURCE)
			}
			got := ask(t, test.variable, test.value, &syscall.SysProcAttr{
				Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, AmbientCaps: test.held,
			})
			if !strings.HasPrefix(got, test.want) {
				t.Errorf("it says %q, want %q", got, test.want)
			}
		})
	}
}

func TestKernelProbe(t *testing.T) {
	kerneltest.Require(t)

	for name, test := range map[string]struct {
		hook        string
		unsupported bool
	}{
		"a tracepoint":                {hook: "tp_btf/kfree_skb"},
		"an iterator":                 {hook: "iter/task_file"},
		"packets of a cgroup":         {hook: "cgroup_skb/ingress"},
		"sockets of a cgroup":         {hook: "cgroup/sock_create"},
		"a tracepoint no kernel has":  {hook: "tp_btf/nettap_nothing", unsupported: true},
		"an iterator no kernel has":   {hook: "iter/nettap_nothing", unsupported: true},
		"a function that isn't there": {hook: "fexit/nettap_nothing", unsupported: true},
	} {
		t.Run(name, func(t *testing.T) {
			err := kernel.Probe(test.hook)
			if test.unsupported != errors.Is(err, kernel.ErrUnsupported) || !test.unsupported && err != nil {
				t.Errorf("Probe(%q) = %v", test.hook, err)
			}
		})
	}
}

func TestKernelExplain(t *testing.T) {
	kerneltest.Require(t)
	failure := errors.New("map is full")

	for name, test := range map[string]struct {
		sections []string
		want     string
	}{
		"hooks that work are not the reason": {sections: []string{"tp_btf/kfree_skb", "cgroup_skb/ingress"}, want: "map is full"},
		"hooks of an unknown kind may be it": {sections: []string{"uprobe/main"}, want: "map is full"},
		"a hook that does not work": {
			sections: []string{"tp_btf/kfree_skb", "tp_btf/nettap_nothing"},
			want: "an empty program on tp_btf/nettap_nothing: attach Tracing/TraceRawTp: raw_tp nettap_nothing not supported: " +
				"not supported by this kernel (map is full)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{}}
			for _, section := range test.sections {
				spec.Programs[section] = &ebpf.ProgramSpec{SectionName: section}
			}
			got := kernel.Explain(failure, spec)
			if got.Error() != test.want || !errors.Is(got, failure) {
				t.Errorf("Explain() = %q, want %q", got, test.want)
			}
			if explained := test.want != failure.Error(); errors.Is(got, kernel.ErrUnsupported) != explained {
				t.Errorf("Explain() matches ErrUnsupported: %v, want %v", !explained, explained)
			}
		})
	}
	if got := kernel.Explain(nil, &ebpf.CollectionSpec{}); got != nil {
		t.Errorf("Explain(nil) = %v", got)
	}
}

// TestLockedKernelIsRefused runs on a kernel that was booted with lockdown=confidentiality, which
// cannot be left again.
func TestLockedKernelIsRefused(t *testing.T) {
	if lockdown, err := os.ReadFile("/sys/kernel/security/lockdown"); err != nil || !strings.Contains(string(lockdown), "[confidentiality]") {
		t.Skip("the kernel is not locked down")
	}
	err := kernel.RequireHost("")
	const want = "kernel lockdown keeps BPF from reading kernel memory: start the kernel with lockdown=integrity"
	if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("RequireHost() = %v, want %s", err, want)
	}
}
