// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/rewrite"
	"github.com/seed-7756021b/nettap/internal/places"
	"github.com/seed-7756021b/nettap/internal/process"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 bpf ../../bpf/owner.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// entriesPerProcess is how many combinations of interface and direction a process is
// expected to use; map traffic has room for that many of each process.
const entriesPerProcess = 4

// maxAttempts is how many calls can be under way of which only their end tells whether they use their
// socket. Those beyond them count as use.
const maxAttempts = 4096

// maxUsers is how many sockets have their user in map users, which only kprobes need.
const maxUsers = 65536

// Options are the options of the configuration that concern owners.
type Options struct {
	RootPath     string         // where the host's / is mounted; "" is /
	MaxProcesses int            // told apart at a time; the traffic of more is on the account "overflow"
	AvoidHooks   []string       // as in [kernel.Avoiding]
	Places       *places.Places // that are started before the owners; nil: none
}

// Owners is what one instrument sees of the owners that its receiver knows. Processes that
// it forgets are still there for other instruments. Its zero value is not usable: see [New] and [Owners.Another].
type Owners struct {
	*knowledge
	forgotten map[uint64]bool // by number
}

// knowledge is shared by all Owners of a receiver. It is loaded while one of them is started.
type knowledge struct {
	options    Options
	probeFiles func() error // as [kernel.ProbeStorageOfFiles]

	mu      sync.Mutex // for surveys and readings: they are of several instruments
	started map[*Owners]bool
	enabled bool
	object  *kernel.Object
	open    kernel.Closers
	survey  string // the program
	ends    bool   // calls on sockets that processes share are seen when they end
	users   bool   // kprobes tell who uses a socket
	settle  string // the program that credits what waits with sockets
	reach   reach
	round   uint64
	last    survey
	read    map[uint64]Process // by the last call of Processes, for all Owners; it is never changed
	sign    sign               // of read
	deleted []uint64           // the numbers that Forget has deleted since

	followed map[uint64]bool // processes that have changed, by number
}

// New returns Owners that are not started.
func New(options Options) *Owners {
	return &Owners{knowledge: &knowledge{options: options, probeFiles: kernel.ProbeStorageOfFiles, started: map[*Owners]bool{}}}
}

// Another returns Owners for another instrument, which are not started. They share the
// knowledge of o: the programs are loaded once.
func (o *Owners) Another() *Owners { return &Owners{knowledge: o.knowledge} }

// Start loads the programs, attaches them and checks that they run, unless other Owners have
// done so. They learn nothing until Enable.
func (o *Owners) Start(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.started) == 0 {
		if err := o.start(ctx); err != nil {
			return errors.Join(err, o.open.Close())
		}
	}
	o.forgotten = map[uint64]bool{}
	o.started[o] = true
	return nil
}

func (o *knowledge) start(ctx context.Context) error {
	if err := kernel.ProbeSocketStorage(); err != nil {
		return fmt.Errorf("load owner programs: %w", err)
	}
	probe := kernel.Avoiding(o.options.AvoidHooks, kernel.Probe)
	reach, err := reachable(probe, o.probeFiles)
	if err != nil {
		return fmt.Errorf("load owner programs: %w", err)
	}
	o.reach = reach
	chosen, err := choose(probe, o.reach)
	if err != nil {
		return fmt.Errorf("load owner programs: %w", err)
	}
	err = o.startWith(ctx, chosen)
	if len(chosen.sees) == 0 || !errors.Is(err, kernel.ErrUnsupported) {
		return err
	}
	if chosen, err = choose(withoutDeeds(probe, err), o.reach); err != nil { // one may be a part of its callers
		return fmt.Errorf("load owner programs: %w", err)
	}
	return errors.Join(o.open.Close(), o.startWith(ctx, chosen))
}

func (o *knowledge) startWith(ctx context.Context, chosen choice) error {
	if err := o.load(chosen); err != nil {
		return fmt.Errorf("load owner programs: %w", err)
	}
	o.enabled = false
	return o.object.Start(ctx, o.options.RootPath)
}

// Enable lets the programs learn, and learns the owners of all sockets that are already in
// the file table of a process.
func (o *Owners) Enable() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.enabled {
		return nil
	}
	o.enabled = true
	return errors.Join(o.object.Enable(), o.learnFiles())
}

// Follow gives the sockets of processes that have changed by exec or setuid to what these
// processes are now, once for each change. isAlive says whether a process still runs,
// whatever it has become.
func (o *Owners) Follow(processes map[uint64]Process, isAlive func(process.ID) bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := map[uint64]Process{}
	for number, p := range processes {
		if !p.Alive && !o.followed[number] && isAlive(p.ID) {
			o.followed[number] = true
			changed[number] = p
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return o.follow(changed)
}

// follow takes the former identities of changed processes, by number. Its time grows with
// the number of open files.
func (o *knowledge) follow(changed map[uint64]Process) error {
	former := o.object.Maps[bpfMapFormer]
	var errs error
	for number, p := range changed {
		if err := former.Put(number, bpfInstance{StartNs: p.ID.StartNanos, Pid: p.ID.PID}); err != nil {
			errs = errors.Join(errs, fmt.Errorf("follow process %d: %w", p.ID.PID, err))
		}
	}
	errs = errors.Join(errs, o.learnFiles())
	for number := range changed {
		former.Delete(number) //nolint:errcheck // there may have been no room for it
	}
	return errs
}

// learnFiles goes through the file tables of all processes. A socket whose owner is not
// known, and a listener whose process has ended, belong to the process that has them open.
func (o *knowledge) learnFiles() error {
	program := bpfProgLearnFromFiles
	if o.reach.files != nil {
		program = bpfProgFindInFiles
	}
	if err := kernel.RunIterator(o.object.Programs[program]); err != nil {
		return fmt.Errorf("learn the owners of open sockets: %w", err)
	}
	return nil
}

// Shutdown detaches the programs and frees them when no others are started any more. It
// may be called more than once.
func (o *Owners) Shutdown(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.started, o)
	if len(o.started) > 0 {
		return nil
	}
	return o.open.Close()
}

// Hooks returns the hooks in use.
func (o *knowledge) Hooks() []kernel.Hook { return o.object.Hooks() }

// MissedRuns returns how often the kernel did not run one of the programs because another run of it was
// interrupted on that CPU. A use of a socket, or its end, may not have been seen then.
func (o *knowledge) MissedRuns() (uint64, error) { return o.object.MissedRuns() }

// Tell tells programs that share maps with these Owners in which of them they find the owner of a socket.
func (o *knowledge) Tell(spec *ebpf.CollectionSpec) error {
	var errs error
	for name, value := range map[string]bool{
		bpfVarWithUsers:            o.users,
		bpfVarWithFound:            o.reach.files != nil,
		bpfVarWithPendingAddresses: o.reach.storage != nil,
	} {
		if variable, ok := spec.Variables[name]; ok { // some need the owners only
			errs = errors.Join(errs, variable.Set(value))
		}
	}
	return errs
}

// Maps returns the maps that instruments share, by name, to be used in place of their own.
// They live until Shutdown.
func (o *knowledge) Maps() map[string]*ebpf.Map {
	shared := make(map[string]*ebpf.Map)
	for _, name := range []string{
		bpfMapOwners, bpfMapFoundOwners, bpfMapSocketUsers, bpfMapProcesses, bpfMapMakers, bpfMapNumbering, bpfMapListeners, bpfMapDeaths, bpfMapHandshakes, bpfMapPendings, bpfMapPendingsByAddress,
		bpfMapTraffic, bpfMapAccounts, bpfMapSpareTraffic, bpfMapSpareAccounts, bpfMapShares, Cells, memoryOfKnowledge, ".data.shared", bpfMapStats,
	} {
		shared[name] = o.object.Maps[name]
	}
	return shared
}

// WhoseMaps are the names of the maps by which a program finds out whose a socket is.
//
// Kernel side: bpf/lib/owner/whose.h.
var WhoseMaps = []string{bpfMapOwners, bpfMapFoundOwners, bpfMapSocketUsers, bpfMapProcesses, bpfMapMakers, bpfMapNumbering, bpfMapListeners, bpfMapDeaths}

// ListenerChanges is the name of the map that tells whether what was read of the listeners is still so.
//
// Kernel side: bpf/lib/owner/changes.h.
const ListenerChanges = ".data.listeners"

// Share returns the maps of these names, to be used in place of those of spec, which get the same
// sizes. They live until Shutdown.
func (o *knowledge) Share(spec *ebpf.CollectionSpec, names ...string) map[string]*ebpf.Map {
	shared := make(map[string]*ebpf.Map, len(names))
	for _, name := range names {
		shared[name] = o.object.Maps[name]
		spec.Maps[name].MaxEntries = shared[name].MaxEntries()
	}
	return shared
}

func (o *knowledge) load(chosen choice) error {
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	o.users = chosen.users
	if o.users {
		spec.Maps[bpfMapSocketUsers].MaxEntries = maxUsers
	}
	o.ends = chosen.ends
	if o.ends {
		spec.Maps[bpfMapAttempts].MaxEntries = maxAttempts
	}
	o.settle = o.reach.fit(spec)
	if err := errors.Join(o.Tell(spec), spec.Variables[bpfVarLearnsEarly].Set(chosen.early)); err != nil {
		return err
	}
	for _, variable := range chosen.sees {
		if err := spec.Variables[variable].Set(true); err != nil {
			return err
		}
	}
	spec.Maps[bpfMapProcesses].MaxEntries = uint32(o.options.MaxProcesses)
	spec.Maps[bpfMapTraffic].MaxEntries = uint32(entriesPerProcess * o.options.MaxProcesses)
	types, err := kernel.Types()
	if err != nil {
		return err
	}
	if err := o.FitCPUs(spec, types); err != nil {
		return err
	}
	o.survey = bpfProgSurveyProcesses
	other := bpfProgSurveyProcesses66
	if !kernel.WalksTasks(types) {
		o.survey, other = other, o.survey
	}
	delete(spec.Programs, other)
	seats := o.options.Places.Seat(spec, append(chosen.hooks, hooks...), map[string]places.Rank{places.Send: places.First, places.Receive: places.First})
	o.object, err = kernel.Load(spec, seats.Hooks, seats.Maps)
	if err != nil {
		return err
	}
	o.object.Follow(seats.Slots)
	o.open = append(o.open, o.object)
	o.read, o.sign, o.deleted, o.followed = nil, sign{}, nil, map[uint64]bool{} // their numbers will be given again
	return o.setRound(1)
}

// Cells is the name of the map that has the cells in which each CPU counts.
//
// Kernel side: struct cell in bpf/lib/traffic/count.h.
const (
	Cells      = ".data.cpu_cells"
	cellsOfCPU = 2048
	closed     = 0xff // each byte of the number of a cell that belongs to no key and is not free
)

// memoryOfKnowledge is the name of the map in which each CPU remembers the sockets that it met last.
//
// Kernel side: bpf/lib/owner/known.h.
const memoryOfKnowledge = ".data.cpu_knowledge"

// FitCPUs gives each CPU its own cells and its memory of the sockets it met last, in the programs
// that count packets. If a soft interrupt can interrupt another one no cell is free, and each
// socket's owner is looked up in its storage. That is also done if owners can change unseen.
func (o *knowledge) FitCPUs(spec *ebpf.CollectionSpec, types *btf.Spec) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	rewrite.ForCPUs(spec, cpus)
	cells := spec.Maps[Cells]
	cells.ValueSize *= cellsOfCPU
	if kernel.IsRealTime(types) {
		cells.Contents = []ebpf.MapKV{{Key: uint32(0), Value: bytes.Repeat([]byte{closed}, int(cells.ValueSize))}}
	}
	return spec.Variables[bpfVarWithKnowledge].Set(!o.users && !kernel.IsRealTime(types))
}

// reach is how far programs reach that user space runs. Each is nil, or says why they do not reach that far.
type reach struct {
	files   error // what is stored with the sockets of open files
	storage error // what is stored with all sockets
}

// reachable finds out how far programs reach.
func reachable(probe func(hook string) error, probeFiles func() error) (reach, error) {
	r := reach{files: probeFiles(), storage: probe("iter/bpf_sk_storage_map")}
	for _, err := range []error{r.files, r.storage} {
		if err != nil && !errors.Is(err, kernel.ErrUnsupported) {
			return r, err
		}
	}
	return r, nil
}

// limit adds to a hook what is not seen because programs do not reach further, and why they do not.
func (r reach) limit(hook *kernel.Hook) {
	for _, err := range []error{r.files, r.storage} {
		if err != nil {
			hook.Refused = append(hook.Refused, err.Error())
		}
	}
	if r.files != nil {
		hook.DoesNotSee("that a process has executed a program or changed its user, until it uses its socket again")
	}
}

// maxFound is how many sockets have an entry in map found_owners, and maxPending in map pendings_by_address, if these
// are needed.
const (
	maxFound   = 65536
	maxPending = 16384
)

// fit leaves those programs in spec that this kernel can load, and gives the maps that they need their sizes. It returns
// the name of the one that credits what waits with sockets.
func (r reach) fit(spec *ebpf.CollectionSpec) string {
	if r.files != nil {
		delete(spec.Programs, bpfProgLearnFromFiles)
		spec.Maps[bpfMapFoundOwners].MaxEntries = maxFound
	} else {
		delete(spec.Programs, bpfProgFindInFiles)
	}
	if r.storage == nil {
		delete(spec.Programs, bpfProgSettleAddresses)
		return bpfProgSettleUnused
	}
	delete(spec.Programs, bpfProgSettleUnused)
	spec.Maps[bpfMapPendingsByAddress].MaxEntries = maxPending
	return bpfProgSettleAddresses
}

// setRound begins another round: processes that are found alive from now on have its number.
func (o *knowledge) setRound(round uint64) error {
	o.round = round
	if err := o.object.Maps[bpfMapNumbering].Put(uint32(bpfNumberingKeyROUND), round); err != nil {
		return fmt.Errorf("set round: %w", err)
	}
	return nil
}

// survey is when a survey was made, and for which of the Owners.
type survey struct {
	at time.Time
	by *Owners
}

// servesOthers is how long a survey serves other Owners, too: their instruments are usually read at
// the same time.
const servesOthers = 250 * time.Millisecond

// Survey finds out which processes live. It credits the bytes of sockets that no process
// uses to the processes that made them. If it was made just now for other Owners, that is enough.
func (o *Owners) Survey(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	age := now.Sub(o.last.at) // negative if the clock was set back
	if o.last.by != nil && o.last.by != o && 0 <= age && age < servesOthers {
		return nil
	}
	if err := errors.Join(o.setRound(o.round+1), o.object.Variables[bpfVarLiving].Set(uint64(0))); err != nil {
		return err
	}
	if err := kernel.RunOverTasks(o.object.Programs[o.survey]); err != nil {
		return fmt.Errorf("survey processes: %w", err)
	}
	if err := errors.Join(o.followSharing(), o.adopt()); err != nil {
		return err
	}
	if err := kernel.RunOverMap(o.object.Programs[o.settle], o.object.Maps[bpfMapPendings]); err != nil {
		return fmt.Errorf("settle unused sockets: %w", err)
	}
	o.last = survey{now, o}
	return nil
}

// followSharing begins to see who sends, or whose call fails, on sockets that several processes use
// in turn, once there is one.
func (o *knowledge) followSharing() error {
	var shared bool
	if err := o.object.Variables[bpfVarSharedSocket].Get(&shared); err != nil || !shared {
		return err
	}
	if err := o.object.AttachLater(ofShared); err != nil {
		return err
	}
	return o.object.Variables[bpfVarSeesFailures].Set(o.ends)
}

// adopt finds the processes that have the listeners of ended processes open.
func (o *knowledge) adopt() error {
	var orphaned bool
	variable := o.object.Variables[bpfVarOrphaned]
	if err := variable.Get(&orphaned); err != nil || !orphaned {
		return err
	}
	if err := variable.Set(false); err != nil {
		return err
	}
	return o.learnFiles()
}

// Processes returns all processes that o has not forgotten, by the number that the kernel
// side uses for them. The map must not be changed.
func (o *Owners) Processes() (map[uint64]Process, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	all, err := o.readProcesses()
	if err != nil {
		return all, err
	}
	maps.DeleteFunc(o.forgotten, func(number uint64, _ bool) bool {
		_, known := all[number]
		return !known
	})
	if len(o.forgotten) == 0 {
		return all, nil
	}
	others := make(map[uint64]Process, len(all))
	for number, p := range all {
		if !o.forgotten[number] {
			others[number] = p
		}
	}
	return others, nil
}

func (o *knowledge) readProcesses() (map[uint64]Process, error) {
	now, err := o.readSign()
	if err != nil {
		return nil, fmt.Errorf("read processes: %w", err)
	}
	if o.read != nil && len(o.deleted) == 0 && now == o.sign {
		return o.read, nil
	}
	processes, whole, settled, err := o.readChanges()
	if err == nil && !whole {
		o.read = nil
		processes, _, settled, err = o.readChanges()
	}
	if err != nil {
		return processes, fmt.Errorf("read processes: %w", err)
	}
	o.read, o.deleted = processes, nil
	if o.sign = signOf(now.last, processes); !settled {
		o.sign = sign{}
	}
	maps.DeleteFunc(o.followed, func(number uint64, _ bool) bool {
		_, known := processes[number]
		return !known
	})
	return processes, nil
}

// readSign returns the sign of the processes that the kernel side has now.
func (o *knowledge) readSign() (now sign, err error) {
	err = o.object.Maps[bpfMapNumbering].Lookup(uint32(bpfNumberingKeyLAST_NUMBER), &now.last)
	return now, errors.Join(err, o.object.Variables[bpfVarLiving].Get(&now.living))
}

// readChanges returns the processes that were read before if they are still the same, because nearly
// always most are, or else a copy with what has changed. whole is false if there are too many in it:
// they were not deleted by Forget. settled is false if one was just getting its number.
func (o *knowledge) readChanges() (processes map[uint64]Process, whole, settled bool, err error) {
	processes = o.read
	isCopy := false
	own := func() map[uint64]Process {
		if !isCopy {
			processes, isCopy = make(map[uint64]Process, len(o.read)), true
			maps.Copy(processes, o.read)
		}
		return processes
	}
	for _, number := range o.deleted {
		delete(own(), number)
	}
	found := 0
	settled = true
	err = kernel.Each(o.object.Maps[bpfMapProcesses], func(key bpfProcess, entry bpfProcessEntry) {
		if entry.Number == 0 {
			settled = false // the kernel side is about to number it
			return
		}
		found++
		known, ok := processes[entry.Number]
		alive := isAlive(entry, o.round)
		switch {
		case !ok:
			own()[entry.Number] = processFrom(key, entry, o.round)
		case known.Alive != alive: // once it has a number, nothing else changes
			known.Alive = alive
			own()[entry.Number] = known
		}
	})
	return processes, found == len(processes), settled, err
}

// Forget makes room for another process, once all started Owners have forgotten this one.
// It is no error if the process is not known.
func (o *Owners) Forget(number uint64, id process.ID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forgotten[number] = true
	for other := range o.started {
		if !other.forgotten[number] {
			return nil
		}
	}
	err := o.object.Maps[bpfMapProcesses].Delete(keyOf(id))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget process %d: %w", id.PID, err)
	}
	o.deleted = append(o.deleted, number)
	return nil
}
