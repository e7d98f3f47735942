// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

// Probe loads an empty program for a hook, and attaches it for a moment if that is possible
// without a cgroup. The hook is given by its section name, such as "fexit/inet_csk_accept" or
// "cgroup_skb/ingress". It returns nil if this works.
//
// The error tells what is missing. It matches [os.ErrPermission] if that is a capability, and
// otherwise [ErrUnsupported].
func Probe(hook string) error {
	kind, target, err := kindOf(hook)
	if err != nil {
		return err
	}
	if err := host.RequireHeld(kind.needs...); err != nil {
		return fmt.Errorf("%s: %w", hook, err)
	}
	if err := kind.try(target); err != nil {
		// the file is missing without the security module
		lockdown, _ := os.ReadFile("/sys/kernel/security/lockdown")
		return fmt.Errorf("an empty program on %s: %w: %w", hook, kind.explain(err, string(lockdown)), ErrUnsupported)
	}
	return nil
}

// Explain returns err, which is the result of loading spec, with its reason if an empty program on
// the hook of one of its programs does not work either. The error then matches what that of
// [Probe] does.
func Explain(err error, spec *ebpf.CollectionSpec) error {
	if err == nil {
		return nil
	}
	hooks := map[string]bool{}
	for _, program := range spec.Programs {
		hooks[program.SectionName] = true
	}
	for _, hook := range slices.Sorted(maps.Keys(hooks)) {
		if _, _, unknown := kindOf(hook); unknown != nil {
			continue
		}
		if reason := Probe(hook); reason != nil {
			return fmt.Errorf("%w (%w)", reason, err)
		}
	}
	return err
}

// ProbeFunction returns an error if an empty program cannot be attached by fentry to the function
// of that name. Before Linux 6.1 this is so for a function that takes a struct.
func ProbeFunction(name string) error {
	kind, _, err := kindOf("fentry")
	if err != nil {
		return err
	}
	return kind.try(name)
}

// try loads an empty program and attaches it.
func (k kind) try(target string) error {
	if target == "" && !k.inCgroup() {
		target = anyFunction
	}
	spec := &ebpf.ProgramSpec{
		Name:         "nettap_probe",
		Type:         k.program,
		AttachType:   k.attach,
		Instructions: k.emptyProgram(),
		License:      "Dual BSD/GPL",
	}
	if k.program == ebpf.Tracing && !k.many {
		spec.AttachTo = target
	}
	program, err := loadProgram(spec)
	if err != nil {
		return err
	}
	defer program.Close()
	if k.inCgroup() || k.attach == ebpf.AttachTraceIter {
		return nil // attaching it needs a cgroup or a map
	}
	attached, err := k.link(target, program)
	if err != nil {
		return err
	}
	return attached.Close()
}

// loadProgram loads one program, with the types that are kept.
func loadProgram(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	loaded, err := ebpf.NewCollectionWithOptions(
		&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{spec.Name: spec}},
		ebpf.CollectionOptions{Cache: typeCache()},
	)
	if inner := errors.Unwrap(err); inner != nil {
		return nil, inner // without the name of the only program
	}
	if err != nil {
		return nil, err
	}
	defer loaded.Close()
	return loaded.DetachProgram(spec.Name), nil
}

// anyFunction is the target to try a kind of hook with if none is given.
const anyFunction = "sock_alloc_file"

// emptyProgram returns a program that does nothing. If programs of its kind read kernel memory it
// reads a little, because lockdown forbids that.
func (k kind) emptyProgram() asm.Instructions {
	var read asm.Instructions
	if k.reads {
		read = asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.RFP),
			asm.Add.Imm(asm.R1, -8),
			asm.Mov.Imm(asm.R2, 8),
			asm.Mov.Imm(asm.R3, 0),
			asm.FnProbeReadKernel.Call(),
		}
	}
	return append(read, asm.Mov.Imm(asm.R0, 0), asm.Return())
}

// link attaches a program that belongs neither to a cgroup nor to an iterator.
func (k kind) link(target string, program *ebpf.Program) (io.Closer, error) {
	f := Function{Name: target}
	if !k.many {
		return k.linkFunction(program, f, 0)
	}
	if k.program == ebpf.Tracing {
		types, err := Types()
		if err != nil {
			return nil, err
		}
		if f, err = FunctionType(types, target); err != nil {
			return nil, err
		}
	}
	return k.linkAll(program, []Function{f}, []uint64{0})
}

// linkCgroup attaches a program of a cgroup to the root of the host whose / is at rootPath.
func (k kind) linkCgroup(rootPath string, program *ebpf.Program) (link.Link, error) {
	root, err := host.CgroupRoot(rootPath)
	if err != nil {
		return nil, err
	}
	attached, err := link.AttachCgroup(link.CgroupOptions{Path: root, Program: program, Attach: k.attach})
	if !errors.Is(err, unix.EPERM) {
		return attached, err
	}
	if reason := k.attachedAlone(root); reason != nil {
		err = fmt.Errorf("%w (%w)", reason, err)
	}
	return nil, err
}

// attachedAlone returns an error that names the program of the kind that is attached to a cgroup
// alone. It may be there without BPF_F_ALLOW_MULTI, and then the kernel attaches no other one. If
// there is none or several it returns nil.
//
// Source: __cgroup_bpf_attach in kernel/bpf/cgroup.c.
func (k kind) attachedAlone(path string) error {
	cgroup, err := os.Open(path)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	attached, err := link.QueryPrograms(link.QueryOptions{Target: int(cgroup.Fd()), Attach: k.attach})
	if err != nil || len(attached.Programs) != 1 {
		return err
	}
	id := attached.Programs[0].ID
	return fmt.Errorf("program %s of another application is attached to the cgroup %s so that no other can be: "+
		"let it be attached with BPF_F_ALLOW_MULTI or detach it (bpftool cgroup show %s)", describe(id), path, path)
}

// describe returns the id of a program and, if this process may ask for it, its name.
func describe(id ebpf.ProgramID) string {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprint(id)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil || info.Name == "" {
		return fmt.Sprint(id)
	}
	return fmt.Sprintf("%d, %q,", id, info.Name)
}

// ProbeSocketStorage returns nil if tracing programs can store what they know of a socket with the
// socket, and can exchange values atomically. Otherwise the error matches [ErrUnsupported].
func ProbeSocketStorage() error {
	if err := host.RequireHeld(tracing...); err != nil {
		return err
	}
	if err := trySocketStorage(); err != nil {
		return fmt.Errorf("socket storage in tracing programs and atomic exchange, which are in Linux 5.12 and newer: %w: %w", err, ErrUnsupported)
	}
	return nil
}

func trySocketStorage() error {
	return tryStorage(ebpf.AttachTraceRawTp, "inet_sock_set_state", func(storage *ebpf.Map) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.DWord), // the socket
			asm.LoadMapPtr(asm.R1, storage.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnSkStorageGet.Call(),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreMem(asm.RFP, -8, asm.R1, asm.DWord),
			asm.Xchg.Mem(asm.RFP, asm.R1, asm.DWord, -8),
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		}
	})
}

// ProbeStorageOfFiles returns nil if a program may use the storage of a socket that it finds in a table of open files.
// Otherwise the error matches [ErrUnsupported].
func ProbeStorageOfFiles() error {
	types, err := Types()
	if err != nil {
		return err
	}
	sk, err := offsetOf(types, "socket", "sk")
	if err != nil {
		return err
	}
	err = tryStorage(ebpf.AttachTraceIter, "task_file", func(storage *ebpf.Map) asm.Instructions {
		return asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, fileOfContext, asm.DWord),
			asm.JEq.Imm(asm.R1, 0, "out"),
			asm.FnSockFromFile.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.LoadMem(asm.R2, asm.R0, sk, asm.DWord),
			asm.JEq.Imm(asm.R2, 0, "out"),
			asm.LoadMapPtr(asm.R1, storage.FD()),
			asm.Mov.Imm(asm.R3, 0),
			asm.Mov.Imm(asm.R4, 0),
			asm.FnSkStorageGet.Call(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
			asm.Return(),
		}
	})
	if err != nil {
		return fmt.Errorf("storage of the sockets of open files: %w: %w", err, ErrUnsupported)
	}
	return nil
}

// fileOfContext is where the context of iter/task_file has the file.
//
// Source: struct bpf_iter__task_file in kernel/bpf/task_iter.c.
const fileOfContext = 24

// offsetOf returns where a struct has a member.
func offsetOf(types *btf.Spec, of, name string) (int16, error) {
	var found *btf.Struct
	if err := types.TypeByName(of, &found); err != nil {
		return 0, fmt.Errorf("struct %s: %w", of, err)
	}
	for _, member := range found.Members {
		if member.Name == name {
			return int16(member.Offset.Bytes()), nil
		}
	}
	return 0, fmt.Errorf("struct %s has no member %s: %w", of, name, ErrUnsupported)
}

// tryStorage loads a program that uses the storage of sockets.
func tryStorage(attach ebpf.AttachType, to string, program func(storage *ebpf.Map) asm.Instructions) error {
	storage, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "nettap_probe", Type: ebpf.SkStorage, Flags: unix.BPF_F_NO_PREALLOC, KeySize: 4, ValueSize: 8,
		Key: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}, Value: &btf.Int{Name: "unsigned long long", Size: 8},
	})
	if err != nil {
		return err
	}
	defer storage.Close()
	loaded, err := loadProgram(&ebpf.ProgramSpec{
		Name: "nettap_probe", Type: ebpf.Tracing, AttachType: attach, AttachTo: to,
		Instructions: program(storage), License: "Dual BSD/GPL",
	})
	if err != nil {
		return err
	}
	return loaded.Close()
}
