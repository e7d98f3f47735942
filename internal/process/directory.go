// SPDX-License-Identifier: Apache-2.0

package process

import (
	"container/list"
	"path"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// Directory describes processes, and remembers what it said of each: of those that
// are held until they are released, of others while they live or were described
// lately. It may be used from several goroutines.
type Directory struct {
	// ReadCommandLines lets command lines be read. They may hold secrets, so it is
	// off unless set before the first use. A process that does not hand out its own
	// has none.
	ReadCommandLines bool

	clock   *clock.Clock
	proc    *proc
	cgroups *cgroupTree
	users   *users
	hostID  func() (string, error)

	mu    sync.Mutex
	known map[ID]*entry
	lives map[birth]*life
	idle  *list.List // entries that nobody holds, the one used longest ago first
}

// NewDirectory returns a directory of the machine whose / is mounted at
// rootPath; empty means /. It reads nothing yet.
func NewDirectory(rootPath string, c *clock.Clock) *Directory {
	return &Directory{
		clock:   c,
		proc:    &proc{path: "/proc", reading: make(chan struct{}, maxReading), relative: sync.OnceValue(host.InCgroupNamespace)},
		cgroups: newCgroupTree(rootPath),
		users:   newUsers(rootPath),
		hostID:  sync.OnceValues(func() (string, error) { return readHostID(rootPath) }),
		known:   map[ID]*entry{},
		lives:   map[birth]*life{},
		idle:    list.New(),
	}
}

// HostID returns the machine's id, or why host.id is absent.
func (d *Directory) HostID() (string, error) { return d.hostID() }

// Describe says who id is: from /proc if it still lives, else from what the
// kernel side has seen of it. While it is remembered the answer is the same, so
// that a resource does not change. For no process (PID 0) only the host is known.
func (d *Directory) Describe(id ID, seen Seen) Process {
	if p, ok := d.lookUp(id, false); ok {
		return p
	}
	return d.remember(d.look(id, seen), false)
}

// Hold is [Directory.Describe] of a process that is to be remembered until
// [Directory.Release] is called as often as Hold.
func (d *Directory) Hold(id ID, seen Seen) Process {
	if p, ok := d.lookUp(id, true); ok {
		return p
	}
	return d.remember(d.look(id, seen), true)
}

// look finds out who id is now.
func (d *Directory) look(id ID, seen Seen) Process {
	hostID, _ := d.HostID() // who wants to know why it is unknown asks
	if id.PID == 0 {
		return Process{HostID: hostID}
	}
	now := d.proc.read(id, seen, d.ReadCommandLines)
	p := Process{
		ID:             id,
		HostID:         hostID,
		Comm:           seen.Comm,
		Owner:          d.users.name(id.UserID),
		Executable:     seen.Executable,
		ExecutablePath: now.executable,
		CommandLine:    now.commandLine,
		ParentPID:      now.parentPID,
		VPID:           now.vpid,
	}
	if now.executable != "" {
		p.Executable = path.Base(now.executable)
	}
	p.Cgroup, p.ContainerID, p.PodUID = d.placement(seen, now)
	return p
}

// placement returns the cgroup v2 path of a process and what it says about its container.
func (d *Directory) placement(seen Seen, now living) (cgroup, containerID, podUID string) {
	cgroup = now.cgroup
	if cgroup == "" {
		cgroup = d.cgroups.path(seen.CgroupID)
	}
	for _, path := range append([]string{cgroup}, now.cgroups...) {
		if containerID, podUID = d.cgroups.container(path); containerID != "" {
			break
		}
	}
	return cgroup, containerID, podUID
}

// Alive reports whether the process runs, after an exec also. A zombie does not:
// it has nothing but a parent that takes no notice. While other threads run on,
// a leader that has ended looks like one.
func (d *Directory) Alive(id ID) bool {
	_, stat, ok := d.proc.find(id)
	zombie := stat.State == "Z" && stat.NumThreads == 1
	return ok && !zombie
}

// created is when a process was, as it is shown.
func (d *Directory) created(id ID) time.Time {
	return d.clock.Wall(id.StartNanos).Round(time.Millisecond)
}
