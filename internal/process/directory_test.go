// SPDX-License-Identifier: Apache-2.0

package process

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/clock"
)

const (
	hostID      = "0123456789abcdef0123456789abcdef"
	containerID = "f75aff467357c5d0ddd47cb7ad87ed38746e018992586ff66198a5c11218f634"
	podUID      = "91a8fc3a-0ecf-48b4-81bf-78a7275d348c"
)

func TestDescribe(t *testing.T) {
	const podPath = "/kubepods/burstable/pod" + podUID + "/" + containerID
	nginx := fakeProcess{
		pid: 7, startTicks: 150, parent: 6, vpid: 1,
		executable: "/usr/sbin/nginx", commandLine: "nginx\x00-g\x00daemon off;\x00",
		cgroups: "0::" + podPath + "\n",
	}
	id := ID{PID: 7, StartNanos: 1_501_234_567, ExecID: 2, UserID: 33}
	seen := Seen{Comm: "worker", Executable: "nginx", CgroupID: 77}
	created := boot.Add(1501 * time.Millisecond)

	asSeen := Process{ID: id, HostID: hostID, Created: created, Comm: "worker", Executable: "nginx", Owner: "www"}
	asAlive := asSeen
	asAlive.ExecutablePath, asAlive.CommandLine = "/usr/sbin/nginx", "nginx -g daemon off;"
	asAlive.ParentPID, asAlive.VPID = 6, 1
	asAlive.Cgroup, asAlive.ContainerID, asAlive.PodUID = podPath, containerID, podUID

	for name, test := range map[string]struct {
		alive   func(p *fakeProcess) // what differs in /proc; nil if the process is gone
		seen    func(s *Seen)
		cgroups map[uint64]string
		want    func(p *Process) // what differs from asAlive, or from asSeen if the process is gone
	}{
		"a process that lives": {alive: func(*fakeProcess) {}},
		"a process that is gone is as the kernel side has seen it": {},
		"a process that is gone still has its cgroup": {
			cgroups: map[uint64]string{77: podPath},
			want:    func(p *Process) { p.Cgroup, p.ContainerID, p.PodUID = podPath, containerID, podUID },
		},
		"a later process with the same pid is another": {
			alive: func(p *fakeProcess) { p.startTicks = 151 },
			want:  func(p *Process) { *p = asSeen },
		},
		"what an exec brought is not said of the identity before": {
			alive: func(p *fakeProcess) { p.executable = "/bin/sh" },
			want:  func(p *Process) { p.ExecutablePath, p.CommandLine = "", "" },
		},
		"an executable that was replaced": {
			alive: func(p *fakeProcess) { p.executable += " (deleted)" },
		},
		"an executable that the kernel side could not read": {
			alive: func(*fakeProcess) {},
			seen:  func(s *Seen) { s.Executable = "" },
		},
		"a long name is completed": {
			alive: func(p *fakeProcess) { p.executable = "/opt/" + strings.Repeat("x", 70) },
			seen:  func(s *Seen) { s.Executable = strings.Repeat("x", 63) },
			want: func(p *Process) {
				p.Executable, p.ExecutablePath = strings.Repeat("x", 70), "/opt/"+strings.Repeat("x", 70)
			},
		},
		"a name is not completed by one that only begins like it": {
			alive: func(p *fakeProcess) { p.executable = "/usr/sbin/nginx-debug" },
			want:  func(p *Process) { p.ExecutablePath, p.CommandLine = "", "" },
		},
		"a container in a hierarchy of cgroup v1": {
			alive: func(p *fakeProcess) {
				p.cgroups = "9:name=systemd:/\n4:memory:/docker/" + containerID + "\n0::/system.slice/containerd.service\n"
			},
			want: func(p *Process) {
				p.Cgroup, p.PodUID = "/system.slice/containerd.service", ""
			},
		},
		"a cgroup that was removed under a process": {
			alive: func(p *fakeProcess) { p.cgroups = "0::/system.slice/old.service (deleted)\n" },
			want:  func(p *Process) { p.Cgroup, p.ContainerID, p.PodUID = "/system.slice/old.service", "", "" },
		},
		"a very long command line is cut": {
			alive: func(p *fakeProcess) { p.commandLine = strings.Repeat("é", 3000) + "\x00" },
			want:  func(p *Process) { p.CommandLine = strings.Repeat("é", 2048) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t)
			d.ReadCommandLines = true
			maps.Copy(d.cgroups.paths, test.cgroups)
			seen, want := seen, asSeen
			if test.alive != nil {
				process := nginx
				test.alive(&process)
				process.write(t, d.proc.path)
				want = asAlive
			}
			if test.seen != nil {
				test.seen(&seen)
			}
			if test.want != nil {
				test.want(&want)
			}
			if diff := cmp.Diff(want, d.Describe(id, seen)); diff != "" {
				t.Errorf("Describe() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeLeavesCommandLinesAlone(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 7, executable: "/bin/mysql", commandLine: "mysql\x00-psecret\x00"})

	if got := d.Describe(ID{PID: 7}, Seen{Executable: "mysql"}).CommandLine; got != "" {
		t.Errorf("command line is %q, want none", got)
	}
}

func TestDescribeInACgroupNamespace(t *testing.T) {
	const path = "/kubepods/pod" + podUID + "/" + containerID

	for name, test := range map[string]struct {
		cgroups map[uint64]string
		want    Process
	}{
		"the cgroup's id gives the whole path": {
			cgroups: map[uint64]string{77: path},
			want:    Process{Cgroup: path, ContainerID: containerID, PodUID: podUID},
		},
		"a relative path still ends in the container": {want: Process{ContainerID: containerID}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDirectory(t, fakeProcess{pid: 7, executable: "/x", cgroups: "0::/../" + containerID + "\n"})
			d.proc.relative = func() bool { return true }
			maps.Copy(d.cgroups.paths, test.cgroups)

			p := d.Describe(ID{PID: 7}, Seen{CgroupID: 77})
			got := Process{Cgroup: p.Cgroup, ContainerID: p.ContainerID, PodUID: p.PodUID}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Describe() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescribeNoProcessIsTheHost(t *testing.T) {
	if diff := cmp.Diff(Process{HostID: hostID}, newDirectory(t).Describe(ID{}, Seen{})); diff != "" {
		t.Errorf("Describe() differs (-want +got):\n%s", diff)
	}
}

func TestDescribeGivesTheSameAnswerWhileItIsHeld(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 7, executable: "/bin/a"})
	id := ID{PID: 7}
	first := d.Hold(id, Seen{Comm: "first", Executable: "a"})
	again := d.Hold(id, Seen{Comm: "second"})
	if err := os.RemoveAll(filepath.Join(d.proc.path, "7")); err != nil {
		t.Fatal(err)
	}
	d.Release(id)
	d.describeOthers(2 * maxIdle)

	for _, got := range []Process{again, d.Describe(id, Seen{Comm: "third"})} {
		if diff := cmp.Diff(first, got); diff != "" {
			t.Errorf("a later Describe() differs (-first +later):\n%s", diff)
		}
	}
	d.Release(id)
	d.Release(id) // one call too many
	d.describeOthers(2 * maxIdle)
	if got := d.Describe(id, Seen{Comm: "fourth"}); got.Comm != "fourth" || got.ExecutablePath != "" {
		t.Errorf("when nobody holds it Describe() = %+v, want what is seen now", got)
	}
}

// A living process is not described anew when others end, however many they are.
func TestDescribeGivesTheSameAnswerWhileItLives(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 7, executable: "/bin/a"})
	id := ID{PID: 7}
	first := d.Describe(id, Seen{Comm: "first", Executable: "a"})
	for range 3 {
		d.describeOthers(3 * maxIdle)
		if diff := cmp.Diff(first, d.Describe(id, Seen{Comm: "later"})); diff != "" {
			t.Errorf("a later Describe() differs (-first +later):\n%s", diff)
		}
	}
}

// describeOthers describes n processes that are gone.
func (d *Directory) describeOthers(n int) {
	for i := range n {
		d.Describe(ID{PID: 1 << 20, StartNanos: uint64(i)}, Seen{})
	}
}

func TestCreationTimeOutlivesExecAndClockStep(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 7, startTicks: 500, executable: "/bin/a"})
	before := ID{PID: 7, StartNanos: 5e9, ExecID: 1}
	after := ID{PID: 7, StartNanos: 5e9, ExecID: 2}
	reused := ID{PID: 7, StartNanos: 9e9, ExecID: 1}
	step := time.Hour

	want := d.Describe(before, Seen{}).Created
	d.clock = clock.Fixed(boot.Add(step), boot.Add(step))
	if got := d.Hold(after, Seen{}).Created; got != want {
		t.Errorf("after an exec the process was created at %v, want %v", got, want)
	}
	d.describeOthers(2 * maxIdle)
	if _, known := d.known[before]; known {
		t.Error("what the process was before its exec is still remembered")
	}
	if got := d.Describe(before, Seen{}).Created; got != want {
		t.Errorf("with one identity forgotten the process was created at %v, want %v", got, want)
	}
	if got, want := d.Describe(reused, Seen{}).Created, boot.Add(step+9*time.Second); got != want {
		t.Errorf("another process with the same pid was created at %v, want %v", got, want)
	}
}

func TestAlive(t *testing.T) {
	d := newDirectory(t,
		fakeProcess{pid: 7, startTicks: 150, executable: "/bin/a"},
		fakeProcess{pid: 9, startTicks: 150, executable: "/bin/a", zombie: true},
		fakeProcess{pid: 10, startTicks: 150, executable: "/bin/a", zombie: true, threads: 2},
	)

	for name, test := range map[string]struct {
		id   ID
		want bool
	}{
		"the process, started within the tick": {ID{PID: 7, StartNanos: 1_509_999_999}, true},
		"the process after an exec":            {ID{PID: 7, StartNanos: 1_500_000_000, ExecID: 9}, true},
		"an earlier process with the same pid": {ID{PID: 7, StartNanos: 1_499_999_999}, false},
		"a pid that nobody has":                {ID{PID: 8, StartNanos: 1_500_000_000}, false},
		"a zombie":                             {ID{PID: 9, StartNanos: 1_500_000_000}, false},
		"threads without their leader":         {ID{PID: 10, StartNanos: 1_500_000_000}, true},
		"no process":                           {ID{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := d.Alive(test.id); got != test.want {
				t.Errorf("Alive(%+v) = %v, want %v", test.id, got, test.want)
			}
		})
	}
}

func TestDirectoryForgetsTheDead(t *testing.T) {
	d := newDirectory(t)
	const limit = maxIdle + looksPerNew
	for pid := range uint32(3 * maxIdle) {
		d.Describe(ID{PID: pid + 1}, Seen{})
		if len(d.known) > limit || len(d.lives) > limit || d.idle.Len() > limit {
			t.Fatalf("%d processes are known, %d lives and %d are idle, want %d at most", len(d.known), len(d.lives), d.idle.Len(), limit)
		}
	}
}

// A living process may execute any number of programs.
func TestDirectoryForgetsWhatAProcessWas(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 7, executable: "/bin/a"})
	for exec := range uint32(3 * maxIdle) {
		d.Describe(ID{PID: 7, ExecID: exec}, Seen{})
	}
	if len(d.known) > maxIdle+looksPerNew || len(d.lives) != 1 {
		t.Errorf("%d identities are known of %d processes", len(d.known), len(d.lives))
	}
}

func TestDirectoryIsSharedByGoroutines(t *testing.T) {
	d := newDirectory(t, fakeProcess{pid: 1, executable: "/bin/a"}, fakeProcess{pid: 2, executable: "/bin/b"})
	var all sync.WaitGroup
	for first := range uint32(4) {
		all.Go(func() {
			for i := range uint32(maxIdle) {
				id := ID{PID: i%3 + 1, ExecID: i}
				if got := d.Hold(id, Seen{CgroupID: 5}); got.ID != id {
					t.Errorf("Hold(%+v) describes %+v", id, got.ID)
				}
				other := ID{PID: 4 + first, StartNanos: uint64(i)}
				if got := d.Describe(other, Seen{}); got.ID != other {
					t.Errorf("Describe(%+v) describes %+v", other, got.ID)
				}
				d.Release(id)
			}
		})
	}
	all.Wait()
	if len(d.known) != d.idle.Len() || len(d.known) > 2*maxIdle {
		t.Errorf("%d processes are known, of which %d are idle", len(d.known), d.idle.Len())
	}
}
