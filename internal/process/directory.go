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

// Directory describes processes, and remembers each description. Processes that are held are
// remembered until they are released, and others while they live or were described recently. It
// may be used by several goroutines.
type Directory struct {
	// ReadCommandLines enables reading command lines. They may contain secrets, so it is off
	// unless it is set before the first use. A process that does not let others read its
	// command line has none.
	ReadCommandLines bool

	clock   *clock.Clock
	proc    *proc
	cgroups *cgroupTree
	users   *users
	hostID  func() (string, error)

	mu    sync.Mutex
	known map[ID]*entry
	lives map[birth]*life
	idle  *list.List // entries that are not held, the one used longest ago first
}

// NewDirectory returns a directory for the machine whose / is mounted at rootPath; empty means /.
// It reads nothing yet.
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

// HostID returns the machine's id, or an error that tells why host.id is absent.
func (d *Directory) HostID() (string, error) { return d.hostID() }

// Describe describes a process: from /proc if it still lives, and otherwise from what the kernel
// side saw of it. While a process is remembered the answer is the same, so that a resource does
// not change. For no process (PID 0) only the host is known.
func (d *Directory) Describe(id ID, seen Seen) Process {
	if p, ok := d.lookUp(id, false); ok {
		return p
	}
	return d.remember(d.look(id, seen), false)
}

// Hold is [Directory.Describe] for a process that is to be remembered until [Directory.Release]
// was called as often as Hold.
func (d *Directory) Hold(id ID, seen Seen) Process {
	if p, ok := d.lookUp(id, true); ok {
		return p
	}
	return d.remember(d.look(id, seen), true)
}

// look describes a process from its current state.
func (d *Directory) look(id ID, seen Seen) Process {
	hostID, _ := d.HostID() // the error is reported by those who call HostID themselves
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

// placement returns the cgroup v2 path of a process, and the container and pod according to it.
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

// Alive reports whether the process runs, even if it has executed another program since. A zombie
// does not run: it only waits for its parent. A leader that has ended while other threads run on
// cannot be told from a zombie.
func (d *Directory) Alive(id ID) bool {
	_, stat, ok := d.proc.find(id)
	zombie := stat.State == "Z" && stat.NumThreads == 1
	return ok && !zombie
}

// created returns the start time of a process as it is reported.
func (d *Directory) created(id ID) time.Time {
	return d.clock.Wall(id.StartNanos).Round(time.Millisecond)
}
