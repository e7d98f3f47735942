// SPDX-License-Identifier: Apache-2.0

package interfaces

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/stats"
)

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type share_of bpf ../../bpf/interfaces.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror

// Interfaces is what one receiver knows of interfaces. It is loaded while one of its [Reader]
// values is started. Its zero value is not usable: see [New].
type Interfaces struct {
	mu      sync.Mutex // for surveys and reads, which several instruments do
	object  *kernel.Object
	open    kernel.Closers
	survey  string // the name of the program
	epoch   uint64
	readers map[*Reader]bool // that are started
	usage   map[string]stats.Map
	quota   *kernel.Quota
	host    uint64 // the host's namespace, as last found
	limit   uint32 // the number of entries that the quota is a part of; 0: that of the map
}

// New returns Interfaces without a reader.
func New() *Interfaces { return &Interfaces{readers: map[*Reader]bool{}} }

// NewReader returns a Reader that is not started, for one instrument.
func (i *Interfaces) NewReader() *Reader { return &Reader{of: i} }

// Maps returns the maps that instruments share, by the names of the maps that they replace. They
// exist until the last reader is shut down.
func (i *Interfaces) Maps() map[string]*ebpf.Map {
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{bpfMapInterfaces, bpfMapInterfaceShares, bpfMapSurveys} {
		shared[name] = i.object.Maps[name]
	}
	return shared
}

func (i *Interfaces) load() error {
	types, err := kernel.Types()
	if err != nil {
		return fmt.Errorf("load the kernel's BTF: %w", err)
	}
	i.survey = surveyFor(types)
	i.epoch = 0
	if i.object, err = loadSurvey(i.survey); err != nil {
		return err
	}
	i.open = append(i.open, i.object)
	return i.share()
}

// loadSurvey loads one of the programs that survey.
func loadSurvey(program string) (*kernel.Object, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return name != program })
	return kernel.Load(spec, nil, nil)
}

// share gives each network namespace its share of the map. The first survey finds out which
// namespace is the host's.
func (i *Interfaces) share() error {
	i.host = 0
	i.quota = kernel.NewQuota(i.object.Maps[bpfMapInterfaceShares], bpfShareOfSHARE_OF_INTERFACES, cmp.Or(i.limit, i.object.Maps[bpfMapInterfaces].MaxEntries()))
	return i.quota.Apply(0, nil)
}

// count tells the kernel side how many interfaces each namespace has.
func (i *Interfaces) count(all map[Key]Entry) error {
	entries := map[uint64]uint64{}
	for key := range all {
		entries[key.Netns]++
	}
	err := i.quota.Apply(i.host, entries)
	refused, readErr := i.quota.Refused()
	i.note(bpfMapInterfaces, len(all), refused)
	return errors.Join(err, readErr)
}

// hostAmong returns the host's namespace, which is the one that the kernel's threads are in.
func (i *Interfaces) hostAmong(all map[uint64]Namespace) (host uint64, err error) {
	var inode uint32
	if err := i.object.Variables[bpfVarHostNetnsInode].Get(&inode); err != nil {
		return 0, err
	}
	for netns, namespace := range all {
		if namespace.Inode == inode {
			return netns, nil
		}
	}
	return 0, nil
}

// surveyFor returns the name of the survey's program for this kernel.
func surveyFor(types *btf.Spec) string {
	switch {
	case !kernel.HasHelper(types, "loop"):
		return bpfProgSurveyInterfaces516
	case !kernel.WalksTasks(types):
		return bpfProgSurveyInterfaces66
	}
	return bpfProgSurveyInterfaces
}

// advance begins an epoch: what is found from now on is newer than what was found before.
func (i *Interfaces) advance() error {
	i.epoch++
	if err := i.object.Maps[bpfMapSurveys].Put(uint32(0), i.epoch); err != nil {
		return fmt.Errorf("number the survey of interfaces: %w", err)
	}
	return nil
}

// find surveys the machine. Namespaces that no longer exist are forgotten.
func (i *Interfaces) find() (Survey, error) {
	if err := i.advance(); err != nil {
		return Survey{}, err
	}
	found := Survey{Epoch: i.epoch, All: map[uint64]Namespace{}}
	errs := kernel.RunOverTasks(i.object.Programs[i.survey])
	namespaces := i.object.Maps[bpfMapNamespaces]
	all, err := kernel.ReadAll[uint64, Namespace](namespaces)
	errs = errors.Join(errs, err)
	for netns, namespace := range all {
		if namespace.Epoch == i.epoch {
			found.All[netns] = namespace
		} else {
			errs = errors.Join(errs, namespaces.Delete(netns))
		}
	}
	i.note(bpfMapNamespaces, len(found.All), 0)
	var last uint64
	errs = errors.Join(errs, i.object.Variables[bpfVarFoundAll].Get(&last))
	found.Whole = last == i.epoch
	found.Host, err = i.hostAmong(found.All)
	errs = errors.Join(errs, err)
	i.host = cmp.Or(found.Host, i.host)
	if errs != nil {
		return found, fmt.Errorf("survey interfaces: %w", errs)
	}
	return found, nil
}

func (i *Interfaces) note(name string, entries int, refused uint64) {
	i.usage[name] = stats.Map{Entries: entries, Limit: int(i.object.Maps[name].MaxEntries()), Refused: refused}
}

// start loads what a reader needs, unless another reader has done so.
func (i *Interfaces) start(context.Context) error {
	if len(i.readers) > 0 {
		return nil
	}
	i.usage = map[string]stats.Map{}
	if err := i.load(); err != nil {
		return fmt.Errorf("load the survey of interfaces: %w", err)
	}
	return nil
}
