// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

func TestResource(t *testing.T) {
	created := time.Date(2026, 1, 2, 4, 4, 5, 7_000_000, time.FixedZone("CET", 3600))

	for name, test := range map[string]struct {
		process Process
		want    map[string]any
	}{
		"a process of which all is known": {
			process: Process{
				ID: ID{PID: 7, UserID: 33, RealUserID: 34}, HostID: "h", Created: created, Comm: "worker", Owner: "www",
				Executable: "nginx", ExecutablePath: "/usr/sbin/nginx", CommandLine: "nginx -g x", ParentPID: 6, VPID: 1,
				Cgroup: "/c", ContainerID: "abc", PodUID: "uid",
			},
			want: map[string]any{
				"host.id": "h", "process.pid": int64(7), "process.user.id": int64(33), "process.real_user.id": int64(34),
				"process.creation.time": "2026-01-02T03:04:05.007Z", "nettap.process.comm": "worker", "process.owner": "www",
				"process.executable.name": "nginx", "process.executable.path": "/usr/sbin/nginx", "process.command_line": "nginx -g x",
				"process.parent_pid": int64(6), "process.vpid": int64(1), "process.linux.cgroup": "/c",
				"container.id": "abc", "k8s.pod.uid": "uid",
			},
		},
		"what is unknown is absent, and root is known": {
			process: Process{ID: ID{PID: 7}, Created: created.Truncate(time.Second)},
			want: map[string]any{
				"process.pid": int64(7), "process.user.id": int64(0), "process.real_user.id": int64(0),
				"process.creation.time": "2026-01-02T03:04:05.000Z",
			},
		},
		"no process is the host":              {process: Process{HostID: "h"}, want: map[string]any{"host.id": "h"}},
		"no process on a host without a name": {want: map[string]any{}},
		"bytes that are not UTF-8": {
			process: Process{ID: ID{PID: 7}, Created: created, Comm: "a\xffb", CommandLine: "\xc3"},
			want: map[string]any{
				"process.pid": int64(7), "process.user.id": int64(0), "process.real_user.id": int64(0),
				"process.creation.time": "2026-01-02T03:04:05.007Z", "nettap.process.comm": "a�b", "process.command_line": "�",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.process.Resource(metadata.NewResourceBuilder(allAttributes())).Attributes().AsRaw()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Resource() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHost(t *testing.T) {
	got := newDirectory(t).Host(metadata.NewResourceBuilder(allAttributes())).Attributes().AsRaw()
	if diff := cmp.Diff(map[string]any{"host.id": hostID}, got); diff != "" {
		t.Errorf("Host() differs (-want +got):\n%s", diff)
	}
}

// allAttributes turns on what is off by default.
func allAttributes() metadata.ResourceAttributesConfig {
	config := metadata.DefaultResourceAttributesConfig()
	for _, off := range []*metadata.ResourceAttributeConfig{
		&config.ProcessCommandLine, &config.ProcessExecutablePath, &config.ProcessLinuxCgroup,
		&config.ProcessOwner, &config.ProcessParentPid, &config.ProcessVpid,
	} {
		off.Enabled = true
	}
	return config
}

// A process may choose any name, and the attribute is always valid text.
func TestResourceOfHostileNames(t *testing.T) {
	const evil = "\x1b[31m\u202e\n\xff"
	p := Process{
		ID: ID{PID: 7}, Comm: evil, Owner: evil, Executable: evil, ExecutablePath: evil, CommandLine: evil, Cgroup: evil,
	}
	config := metadata.DefaultResourceAttributesConfig()
	for _, one := range []*metadata.ResourceAttributeConfig{
		&config.ProcessCommandLine, &config.ProcessOwner, &config.ProcessExecutablePath, &config.ProcessLinuxCgroup,
	} {
		one.Enabled = true
	}
	attributes := p.Resource(metadata.NewResourceBuilder(config)).Attributes()
	for _, name := range []string{
		"nettap.process.comm", "process.owner", "process.executable.name", "process.executable.path", "process.command_line", "process.linux.cgroup",
	} {
		value, ok := attributes.Get(name)
		if !ok {
			t.Errorf("%s is absent", name)
		} else if got := value.AsString(); got != "\uFFFD[31m\uFFFD \uFFFD" {
			t.Errorf("%s is %q", name, got)
		}
	}
}
