// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePlan(t *testing.T) {
	everywhere := Skip{Pattern: "TestKernelC", Must: true, Reason: "no nft"}

	for name, test := range map[string]struct {
		text      string
		want      Plan
		wantError string
	}{
		"nothing": {},
		"comments and empty lines": {
			text: "# a comment\n\n \t\nbusybox bookworm # another\n",
			want: Plan{Busybox: "bookworm"},
		},
		"modules may be on more than one line": {
			text: "modules veth bridge\nmodules sch_tbf",
			want: Plan{Modules: []string{"veth", "bridge", "sch_tbf"}},
		},
		"a skip belongs to the kernel above, or to all below": {
			text: `must-skip TestKernelC no nft
				kernel sid amd64 linux-image-7.*-amd64
				may-skip TestKernelA/*  no such   hook
				kernel sid arm64 linux-image-7.*-arm64`,
			want: Plan{Skips: []Skip{everywhere}, Kernels: []Kernel{
				{Suite: "sid", Arch: "amd64", Pattern: "linux-image-7.*-amd64",
					Skips: []Skip{everywhere, {Pattern: "TestKernelA/*", Reason: "no such hook"}}},
				{Suite: "sid", Arch: "arm64", Pattern: "linux-image-7.*-arm64", Skips: []Skip{everywhere}},
			}},
		},
		"a feature may have more than one pattern": {
			text: "feature TestKernelA*,TestKernelB/* `drops`: by function",
			want: Plan{Features: []Feature{{Name: "`drops`: by function", Patterns: []string{"TestKernelA*", "TestKernelB/*"}}}},
		},
		"a feature without a name": {text: "feature TestKernelA", wantError: "line 1: feature does not go with 1 words here"},
		"a feature of no test":     {text: "feature TestKernelA,[ all", wantError: "line 1: pattern [: syntax error in pattern"},
		"a kernel may have parameters, and run a test alone": {
			text: "kernel sid amd64 linux-image-7.*-amd64\nparameters lockdown=confidentiality quiet\nonly TestLocked\ndistribution",
			want: Plan{Kernels: []Kernel{
				{Suite: "sid", Arch: "amd64", Pattern: "linux-image-7.*-amd64", Parameters: []string{"lockdown=confidentiality", "quiet"}, Only: "TestLocked", Distribution: true},
			}},
		},
		"a kernel may take long": {
			text: "kernel sid amd64 linux-image-7.*-amd64\nminutes 15",
			want: Plan{Kernels: []Kernel{{Suite: "sid", Arch: "amd64", Pattern: "linux-image-7.*-amd64", Minutes: 15}}},
		},
		"minutes that are no number": {
			text:      "kernel sid amd64 linux-image-7.*-amd64\nminutes long",
			wantError: `line 2: strconv.Atoi: parsing "long": invalid syntax`,
		},
		"tests may be left out on a kernel": {
			text: "kernel sid amd64 linux-image-7.*-amd64\nleave-out TestKernelA,TestKernelB they are slow\nleave-out TestKernelC so is this",
			want: Plan{Kernels: []Kernel{
				{Suite: "sid", Arch: "amd64", Pattern: "linux-image-7.*-amd64", LeftOut: []string{"TestKernelA", "TestKernelB", "TestKernelC"}},
			}},
		},
		"a list of tests has a name": {
			text: `tests slow TestKernelA
				tests slow TestKernelB/*
				feature @slow slowness
				kernel sid amd64 linux-image-7.*-amd64
				leave-out @slow they are slow
				must-skip @slow no time`,
			want: Plan{
				Features: []Feature{{Name: "slowness", Patterns: []string{"TestKernelA", "TestKernelB/*"}}},
				Kernels: []Kernel{{
					Suite: "sid", Arch: "amd64", Pattern: "linux-image-7.*-amd64", LeftOut: []string{"TestKernelA", "TestKernelB/*"},
					Skips: []Skip{{Pattern: "TestKernelA", Must: true, Reason: "no time"}, {Pattern: "TestKernelB/*", Must: true, Reason: "no time"}},
				}},
			},
		},
		"a list that there is none of": {text: "may-skip @slow no time", wantError: "line 1: there is no list of tests @slow"},
		"a test that is left out without a reason": {
			text:      "kernel sid amd64 linux-image-7.*-amd64\nleave-out TestKernelA",
			wantError: "line 2: leave-out does not go with 1 words here",
		},
		"a kernel may lack some of the modules": {
			text: "modules veth netkit\nkernel sid amd64 linux-image-5.*-amd64\nlacks netkit\nlacks gtp amt",
			want: Plan{Modules: []string{"veth", "netkit"}, Kernels: []Kernel{
				{Suite: "sid", Arch: "amd64", Pattern: "linux-image-5.*-amd64", Lacks: []string{"netkit", "gtp", "amt"}},
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
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("parsePlan() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModulesOfAKernel(t *testing.T) {
	p := Plan{Modules: []string{"veth", "netkit", "tun"}}

	got := p.modulesOf(Kernel{Lacks: []string{"netkit"}})
	if diff := cmp.Diff([]string{"veth", "tun"}, got); diff != "" {
		t.Errorf("modulesOf() differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"veth", "netkit", "tun"}, p.Modules); diff != "" {
		t.Errorf("modulesOf() changes the plan (-want +got):\n%s", diff)
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTitle(t *testing.T) {
	for pattern, want := range map[string]string{
		"linux-image-6.1.*-cloud-amd64": "6.1 x86-64",
		"linux-image-6.12.*-rt-amd64":   "6.12 RT x86-64",
		"linux-image-7.*-cloud-amd64":   "7.x x86-64",
	} {
		if got := (Kernel{Arch: "amd64", Pattern: pattern}).Title(); got != want {
			t.Errorf("Title() of %s = %q, want %q", pattern, got, want)
		}
	}
}
