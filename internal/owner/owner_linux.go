package owner

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/owner.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// entriesPerProcess is how many interfaces and directions a process is expected
// to use; map traffic has place for that many of each process.
const entriesPerProcess = 4

// Owners is the knowledge of one receiver. Its zero value is not usable: see [New].
type Owners struct {
	rootPath     string
	maxProcesses int
	collection   *ebpf.Collection
	open         kernel.Closers
	epoch        uint64
	hooks        map[string]string
}

// New returns Owners that tell up to maxProcesses processes apart at a time;
// the traffic of more is on the account "overflow". The host's / is at rootPath,
// as in [kernel.CgroupRoot].
func New(rootPath string, maxProcesses int) *Owners {
	return &Owners{rootPath: rootPath, maxProcesses: maxProcesses}
}

// Start loads the programs, attaches them, and learns the owner of every socket
// that is in a process's file table already.
func (o *Owners) Start(context.Context) error {
	if err := o.load(); err != nil {
		return fmt.Errorf("load owner programs: %w", err)
	}
	if err := o.attach(); err != nil {
		return errors.Join(err, o.Shutdown(context.Background()))
	}
	if err := o.LearnFiles(); err != nil {
		return errors.Join(err, o.Shutdown(context.Background()))
	}
	return nil
}

// LearnFiles looks through the file tables of all processes: sockets that have
// no owner get one, and those of a process that has changed by exec or setuid
// follow it, a listener above all, on which nobody sends or receives. It takes
// time with the number of open files.
func (o *Owners) LearnFiles() error {
	if err := kernel.RunIterator(o.collection.Programs["learn_from_files"]); err != nil {
		return fmt.Errorf("learn the owners of open sockets: %w", err)
	}
	return nil
}

// Shutdown detaches the programs and frees them. It may be called more than once.
func (o *Owners) Shutdown(context.Context) error {
	o.collection = nil
	return o.open.Close()
}

// Hooks returns which kernel hook does which job, for people.
func (o *Owners) Hooks() map[string]string { return o.hooks }

// Maps returns the maps that instruments share, by name, to replace their own
// with. They live until Shutdown.
func (o *Owners) Maps() map[string]*ebpf.Map {
	shared := make(map[string]*ebpf.Map)
	for _, name := range []string{"owners", "processes", "listeners", "pendings", "traffic", "accounts", "books"} {
		shared[name] = o.collection.Maps[name]
	}
	return shared
}

func (o *Owners) load() error {
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	spec.Maps["processes"].MaxEntries = uint32(o.maxProcesses)
	spec.Maps["traffic"].MaxEntries = uint32(entriesPerProcess * o.maxProcesses)
	if err := o.chooseHooks(spec); err != nil {
		return err
	}
	o.collection, err = ebpf.NewCollection(spec)
	if err != nil {
		return kernel.Explain(err, spec)
	}
	o.open = append(o.open, kernel.CloseFunc(o.collection.Close))
	o.epoch = 1
	return nil
}

// chooseHooks leaves in spec only the programs that this kernel can run best.
func (o *Owners) chooseHooks(spec *ebpf.CollectionSpec) error {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	_, err = kernel.TracepointArgs(types, "sock_send_length")
	if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
		return err
	}
	o.hooks = map[string]string{"owner": "sock_send_length"}
	unused := []string{"learn_from_sendmsg", "learn_from_recvmsg"}
	if err != nil {
		o.hooks = map[string]string{"owner": "security_socket_sendmsg"}
		unused = []string{"learn_from_send", "learn_from_receive"}
	}
	for _, name := range unused {
		delete(spec.Programs, name)
	}
	return nil
}

func (o *Owners) attach() error {
	cgroup, err := kernel.CgroupRoot(o.rootPath)
	if err != nil {
		return err
	}
	for name, program := range o.collection.Programs {
		switch program.Type() {
		case ebpf.CGroupSock:
			attachType := ebpf.AttachCGroupInetSockCreate
			if name == "settle_at_release" {
				attachType = ebpf.AttachCgroupInetSockRelease
			}
			l, err := kernel.AttachCgroup(cgroup, program, attachType)
			if err != nil {
				return err
			}
			o.open = append(o.open, l)
		case ebpf.Tracing:
			if isIterator(name) {
				continue
			}
			links, err := kernel.Attach(program)
			if err != nil {
				return err
			}
			o.open = append(o.open, &links)
		}
	}
	return nil
}

func isIterator(name string) bool {
	return name == "learn_from_files" || name == "survey_processes" || name == "settle_unused"
}

// Survey finds out which processes live, and credits what waits with sockets
// that nobody uses to those who made them.
func (o *Owners) Survey() error {
	o.epoch++
	if err := o.collection.Variables["epoch"].Set(o.epoch); err != nil {
		return fmt.Errorf("set epoch: %w", err)
	}
	if err := kernel.RunIterator(o.collection.Programs["survey_processes"]); err != nil {
		return fmt.Errorf("survey processes: %w", err)
	}
	if err := kernel.RunMapIterator(o.collection.Programs["settle_unused"], o.collection.Maps["pendings"]); err != nil {
		return fmt.Errorf("settle unused sockets: %w", err)
	}
	return nil
}

// Processes returns all that are not forgotten, by the number under which the
// kernel counts them.
func (o *Owners) Processes() (map[uint64]Process, error) {
	processes := make(map[uint64]Process)
	var key bpfProcess
	var entry bpfProcessEntry
	entries := o.collection.Maps["processes"].Iterate()
	for entries.Next(&key, &entry) {
		processes[entry.Number] = processFrom(key, entry, o.epoch)
	}
	if err := entries.Err(); err != nil {
		return processes, fmt.Errorf("read processes: %w", err)
	}
	return processes, nil
}

// Forget makes room for another process. One that is not known is no error.
func (o *Owners) Forget(id process.ID) error {
	err := o.collection.Maps["processes"].Delete(keyOf(id))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget process %d: %w", id.PID, err)
	}
	return nil
}
