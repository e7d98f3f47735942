package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePlan(t *testing.T) {
	everywhere := skip{pattern: "TestKernelC", must: true, reason: "no nft"}

	for name, test := range map[string]struct {
		text      string
		want      plan
		wantError string
	}{
		"nothing": {},
		"comments and empty lines": {
			text: "# a comment\n\n \t\nbusybox bookworm # another\n",
			want: plan{busybox: "bookworm"},
		},
		"modules may be on more than one line": {
			text: "modules veth bridge\nmodules sch_tbf",
			want: plan{modules: []string{"veth", "bridge", "sch_tbf"}},
		},
		"a skip belongs to the kernel above, or to all below": {
			text: `must-skip TestKernelC no nft
				kernel sid amd64 linux-image-7.*-amd64
				may-skip TestKernelA/*  no such   hook
				kernel sid arm64 linux-image-7.*-arm64`,
			want: plan{skips: []skip{everywhere}, kernels: []kernel{
				{suite: "sid", arch: "amd64", pattern: "linux-image-7.*-amd64",
					skips: []skip{everywhere, {pattern: "TestKernelA/*", reason: "no such hook"}}},
				{suite: "sid", arch: "arm64", pattern: "linux-image-7.*-arm64", skips: []skip{everywhere}},
			}},
		},
		"a feature may have more than one pattern": {
			text: "feature TestKernelA*,TestKernelB/* `drops`: by function",
			want: plan{features: []feature{{name: "`drops`: by function", patterns: []string{"TestKernelA*", "TestKernelB/*"}}}},
		},
		"a feature without a name": {text: "feature TestKernelA", wantError: "line 1: feature does not go with 1 words here"},
		"a feature of no test":     {text: "feature TestKernelA,[ all", wantError: "line 1: pattern [: syntax error in pattern"},
		"a kernel may have parameters, and run a test alone": {
			text: "kernel sid amd64 linux-image-7.*-amd64\nparameters lockdown=confidentiality quiet\nonly TestLocked\ndistribution",
			want: plan{kernels: []kernel{
				{suite: "sid", arch: "amd64", pattern: "linux-image-7.*-amd64", parameters: []string{"lockdown=confidentiality", "quiet"}, only: "TestLocked", distribution: true},
			}},
		},
		"a kernel may lack some of the modules": {
			text: "modules veth netkit\nkernel sid amd64 linux-image-5.*-amd64\nlacks netkit\nlacks gtp amt",
			want: plan{modules: []string{"veth", "netkit"}, kernels: []kernel{
				{suite: "sid", arch: "amd64", pattern: "linux-image-5.*-amd64", lacks: []string{"netkit", "gtp", "amt"}},
			}},
		},
		"nothing that no kernel lacks": {text: "lacks netkit", wantError: "line 1: lacks does not go with 1 words here"},
		"parameters of no kernel":      {text: "parameters quiet", wantError: "line 1: parameters does not go with 1 words here"},
		"a skip without a reason":      {text: "may-skip TestKernelA", wantError: "line 1: may-skip does not go with 1 words here"},
		"an unknown keyword":           {text: "\nkernels sid", wantError: "line 2: kernels does not go with 1 words here"},
		"an unknown architecture":      {text: "kernel sid riscv64 linux-image-*", wantError: "line 1: unknown architecture riscv64"},
		"a pattern of no test":         {text: "may-skip [ no reason", wantError: "line 1: pattern [: syntax error in pattern"},
		"a pattern of no package":      {text: "kernel sid amd64 linux-[", wantError: "line 1: pattern linux-[: syntax error in pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parsePlan(test.text)
			if message(err) != test.wantError {
				t.Errorf("parsePlan() fails with %q, want %q", message(err), test.wantError)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(plan{}, kernel{}, skip{}, feature{})); diff != "" {
				t.Errorf("parsePlan() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModulesOfAKernel(t *testing.T) {
	p := plan{modules: []string{"veth", "netkit", "tun"}}

	got := p.modulesOf(kernel{lacks: []string{"netkit"}})
	if diff := cmp.Diff([]string{"veth", "tun"}, got); diff != "" {
		t.Errorf("modulesOf() differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"veth", "netkit", "tun"}, p.modules); diff != "" {
		t.Errorf("modulesOf() changes the plan (-want +got):\n%s", diff)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
