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

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// rootPathVariable makes the test's own binary say what RequireHost says.
const rootPathVariable = "NETTAP_TEST_REQUIRE_HOST_BELOW"

func TestMain(m *testing.M) {
	if rootPath, ok := os.LookupEnv(rootPathVariable); ok {
		fmt.Print(kernel.RequireHost(rootPath))
		return
	}
	os.Exit(m.Run())
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
			self := exec.CommandContext(t.Context(), "/proc/self/exe")
			self.Env = append(os.Environ(), rootPathVariable+"="+test.rootPath)
			self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: test.namespaces}
			output, err := self.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			if !strings.HasPrefix(string(output), test.want) {
				t.Errorf("RequireHost(%q) says %q, want %q", test.rootPath, output, test.want)
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

func TestKernelExplainKeepsErrorsThatTheHookIsNotTheReasonFor(t *testing.T) {
	kerneltest.Require(t)
	failure := errors.New("map is full")

	if got := kernel.Explain(failure, "tp_btf/kfree_skb", "cgroup_skb/ingress"); got != failure {
		t.Errorf("Explain() = %v, want %v", got, failure)
	}
	got := kernel.Explain(failure, "tp_btf/kfree_skb", "tp_btf/nettap_nothing")
	if !errors.Is(got, failure) || !errors.Is(got, kernel.ErrUnsupported) {
		t.Errorf("Explain() = %v, want both the failure and ErrUnsupported", got)
	}
}
