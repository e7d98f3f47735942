package process

import (
	"path"
	"sync"
	"time"

	"github.com/seed-7756021b/nettap/internal/clock"
	"github.com/seed-7756021b/nettap/internal/kernel"
)

// maxKnown bounds the processes remembered, in case no one forgets them.
const maxKnown = 16384

// Directory describes processes, and remembers what it said of each until told
// to forget it. It may be used from several goroutines.
type Directory struct {
	// ReadCommandLines lets command lines be read. They may hold secrets, and
	// reading that of a stuck process may wait for it, so it is off unless set
	// before the first use.
	ReadCommandLines bool

	clock   *clock.Clock
	proc    *proc
	cgroups *cgroupTree
	users   *users
	hostID  func() (string, error)

	mu    sync.Mutex
	known map[birth]map[ID]Process
	count int // of processes in known
}

// birth is what the identities of one process, before and after an exec, share.
type birth struct {
	startNanos uint64
	pid        uint32
}

// NewDirectory returns a directory of the machine whose / is mounted at
// rootPath; empty means /. It reads nothing yet.
func NewDirectory(rootPath string, c *clock.Clock) *Directory {
	return &Directory{
		clock:   c,
		proc:    &proc{path: "/proc", relative: sync.OnceValue(kernel.InCgroupNamespace)},
		cgroups: newCgroupTree(rootPath),
		users:   newUsers(rootPath),
		hostID:  sync.OnceValues(func() (string, error) { return readHostID(rootPath) }),
		known:   map[birth]map[ID]Process{},
	}
}

// HostID returns the machine's id, or why host.id is absent.
func (d *Directory) HostID() (string, error) { return d.hostID() }

// Describe says who id is: from /proc if it still lives, else from what the
// kernel side has seen of it. It gives the same answer until Forget, so that a
// resource does not change. For no process (PID 0) only the host is known.
func (d *Directory) Describe(id ID, seen Seen) Process {
	if p, ok := d.lookUp(id); ok {
		return p
	}
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
	return d.remember(p)
}

// placement returns the cgroup v2 path of a process and what it says about its container.
func (d *Directory) placement(seen Seen, now living) (cgroup, containerID, podUID string) {
	cgroup = now.cgroup
	if cgroup == "" {
		cgroup = d.cgroups.path(seen.CgroupID)
	}
	for _, path := range append([]string{cgroup}, now.cgroups...) {
		if containerID, podUID = container(path); containerID != "" {
			break
		}
	}
	return cgroup, containerID, podUID
}

func (d *Directory) lookUp(id ID) (Process, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.known[birthOf(id)][id]
	return p, ok
}

// remember returns p as it is to be known from now on: with the time of creation
// that was already given to it before an exec.
func (d *Directory) remember(p Process) Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	birth := birthOf(p.ID)
	if earlier, ok := d.known[birth][p.ID]; ok {
		return earlier // described by another goroutine meanwhile
	}
	p.Created = d.clock.Wall(p.StartNanos).Round(time.Millisecond)
	for _, same := range d.known[birth] {
		p.Created = same.Created
		break
	}
	if d.count >= maxKnown {
		d.forgetAny()
	}
	if d.known[birth] == nil {
		d.known[birth] = map[ID]Process{}
	}
	d.known[birth][p.ID] = p
	d.count++
	return p
}

// Alive reports whether the process runs, after an exec also. A zombie does not:
// it has nothing but a parent that takes no notice. While other threads run on,
// a leader that has ended looks like one.
func (d *Directory) Alive(id ID) bool {
	_, stat, ok := d.proc.find(id)
	zombie := stat.State == "Z" && stat.NumThreads == 1
	return ok && !zombie
}

// Forget drops what is remembered of id.
func (d *Directory) Forget(id ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(id)
}

func (d *Directory) forget(id ID) {
	identities := d.known[birthOf(id)]
	if _, ok := identities[id]; !ok {
		return
	}
	delete(identities, id)
	d.count--
	if len(identities) == 0 {
		delete(d.known, birthOf(id))
	}
}

func (d *Directory) forgetAny() {
	for _, identities := range d.known {
		for id := range identities {
			d.forget(id)
			return
		}
	}
}

func birthOf(id ID) birth { return birth{startNanos: id.StartNanos, pid: id.PID} }
