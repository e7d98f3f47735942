package process

import (
	"path"
	"strings"

	"github.com/prometheus/procfs"
)

const (
	nanosPerTick = 10_000_000 // USER_HZ is 100 wherever Linux runs BPF

	maxExecutable  = 63   // bytes of Seen.Executable
	maxCommandLine = 4096 // bytes

	deleted = " (deleted)" // behind the path of a file or cgroup that is gone
)

// proc reads /proc. It is the machine's own even in a container, which sees all
// processes there as soon as it shares the host's pid namespace.
type proc struct {
	path     string
	relative func() bool // paths of cgroups there are relative to a container's
}

// alive is what /proc says of a process.
type alive struct {
	executable  string // path; empty unless it is the one the kernel side has seen
	commandLine string
	parentPID   int
	vpid        int
	cgroup      string   // v2 path, empty when it is unknown
	cgroups     []string // paths in other hierarchies, and relative ones
}

// find returns the process while it lives. A process that later got its pid is
// another one: it does not have the same start time.
func (p *proc) find(id ID) (process procfs.Proc, stat procfs.ProcStat, ok bool) {
	fs, err := procfs.NewFS(p.path)
	if err != nil || id.PID == 0 {
		return process, stat, false
	}
	if process, err = fs.Proc(int(id.PID)); err != nil {
		return process, stat, false
	}
	stat, err = process.Stat()
	return process, stat, err == nil && stat.Starttime == id.StartNanos/nanosPerTick
}

// read says what /proc says of id, and is not ok when that may be about another process.
func (p *proc) read(id ID, seen Seen, withCommandLine bool) (alive, bool) {
	process, stat, ok := p.find(id)
	if !ok {
		return alive{}, false
	}
	a := alive{parentPID: stat.PPID}
	if status, err := process.NewStatus(); err == nil && len(status.NSpids) > 0 {
		a.vpid = int(status.NSpids[len(status.NSpids)-1])
	}
	a.readCgroups(process, p.relative())
	a.readExecutable(process, seen, withCommandLine)
	if _, _, ok := p.find(id); !ok {
		return alive{}, false
	}
	return a, true
}

func (a *alive) readCgroups(process procfs.Proc, relative bool) {
	cgroups, err := process.Cgroups()
	if err != nil {
		return
	}
	for _, cgroup := range cgroups {
		path := strings.TrimSuffix(cgroup.Path, deleted)
		if cgroup.HierarchyID == 0 && !relative {
			a.cgroup = path
			continue
		}
		a.cgroups = append(a.cgroups, path)
	}
}

// readExecutable reads what an exec changes. If there has been one since the
// kernel side met the process, it belongs to the identity that came after.
func (a *alive) readExecutable(process procfs.Proc, seen Seen, withCommandLine bool) {
	executable, err := process.Executable()
	if err != nil || !isExecutable(seen.Executable, executable) {
		return
	}
	var arguments []string
	if withCommandLine {
		arguments, _ = process.CmdLine()
	}
	if again, err := process.Executable(); err != nil || again != executable {
		return
	}
	a.executable = strings.TrimSuffix(executable, deleted)
	a.commandLine = cut(strings.Join(arguments, " "), maxCommandLine)
}

// isExecutable reports whether path may be that of the executable with the base
// name seen by the kernel side.
func isExecutable(seen, path string) bool {
	base := baseName(path)
	return base == seen || seen == "" || len(seen) == maxExecutable && strings.HasPrefix(base, seen)
}

// baseName returns the last element of a link like /proc/PID/exe.
func baseName(executable string) string {
	return path.Base(strings.TrimSuffix(executable, deleted))
}

func cut(s string, limit int) string {
	return s[:min(len(s), limit)]
}
