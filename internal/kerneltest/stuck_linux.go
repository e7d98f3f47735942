// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// These tell a test's program to become the process with the stuck page, and how.
const (
	stuckEnv = "NETTAP_TEST_STUCK_PAGE" // the directory where FUSE is mounted
	stuckBy  = "NETTAP_TEST_STUCK_BY"
)

// Pager is a way in which a process serves its own memory.
type Pager string

const (
	// ByFUSE means that the page belongs to a file of which the process is the file system. Every
	// reader waits while the process exists.
	ByFUSE Pager = "FUSE"

	// ByFaults means that the process is to be told of faults of the page (userfaultfd), and that
	// the page is named as one in which a process publishes what it is. What a reader meets depends
	// on how it reads, and on the kernel: it waits, or gets an error.
	ByFaults Pager = "userfaultfd"
)

// StartStuck starts a process with a page of memory that it serves itself, but does not. It
// contains code and the command line of the process. The process runs the test's own program,
// whose TestMain calls [BeStuck].
func StartStuck(t *testing.T, by Pager) (pid int) {
	t.Helper()
	directory := t.TempDir()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), stuckEnv+"="+directory, stuckBy+"="+string(by))
	output := OutputOf(t, command)
	if by == ByFUSE {
		t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_DETACH) })
	}
	StartProgram(t, command)
	if by == ByFUSE {
		// it is busy; readers that wait for an answer get an error
		t.Cleanup(func() { _ = unix.Unmount(directory, unix.MNT_FORCE) })
	}
	if line := output.Line(); line != "ready" {
		t.Fatalf("a process with a stuck page: %s", line)
	}
	return command.Process.Pid
}

// BeStuck makes this process that of [StartStuck], if it was started as such.
func BeStuck() {
	directory := os.Getenv(stuckEnv)
	if directory == "" {
		return
	}
	var start uint64
	var err error
	if Pager(os.Getenv(stuckBy)) == ByFaults {
		start, err = pageOfFaults()
	} else {
		start, err = pageOfFile(directory)
	}
	if err == nil {
		err = moveCommandLine(start, start+64)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	// If the test is killed, one of its threads waits for the page and keeps the other end of
	// our input open, so this process has to end first.
	time.AfterFunc(30*time.Second, func() { os.Exit(0) })
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// pageOfFile returns the address of a page of a file that is served by FUSE.
func pageOfFile(directory string) (start uint64, err error) {
	server, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open /dev/fuse: %w", err)
	}
	if err := unix.Mount("nettap", directory, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", server)); err != nil {
		return 0, fmt.Errorf("mount: %w", err)
	}
	var silent atomic.Bool
	go serve(server, &silent)
	file, err := unix.Open(filepath.Join(directory, "page"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open the page: %w", err)
	}
	start, err = mapPage(file, unix.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	if err := unix.Close(file); err != nil { // which waits for an answer as well
		return 0, fmt.Errorf("close the page: %w", err)
	}
	silent.Store(true)
	return start, nil
}

func mapPage(file, flags int) (start uint64, err error) {
	page, err := unix.Mmap(file, 0, pageBytes, unix.PROT_READ|unix.PROT_EXEC, flags)
	if err != nil {
		return 0, fmt.Errorf("mmap: %w", err)
	}
	return uint64(uintptr(unsafe.Pointer(&page[0]))), nil
}

// Source: include/uapi/linux/userfaultfd.h.
const (
	faultsAPI        = 0xc018aa3f // UFFDIO_API
	faultsRegister   = 0xc020aa00 // UFFDIO_REGISTER
	faultsOfVersion  = 0xaa       // UFFD_API
	faultsOfNoMemory = 1          // UFFDIO_REGISTER_MODE_MISSING
)

// pageOfFaults returns the address of a page whose first fault is the process's to resolve.
func pageOfFaults() (start uint64, err error) {
	file, err := unix.MemfdCreate("OTEL_CTX", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(file, pageBytes); err != nil {
		return 0, fmt.Errorf("ftruncate: %w", err)
	}
	start, err = mapPage(file, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	faults, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("userfaultfd", errno)
	}
	api := struct{ version, features, requests uint64 }{version: faultsOfVersion}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, faults, faultsAPI, uintptr(unsafe.Pointer(&api))); errno != 0 {
		return 0, os.NewSyscallError("UFFDIO_API", errno)
	}
	register := struct{ start, bytes, mode, requests uint64 }{start: start, bytes: pageBytes, mode: faultsOfNoMemory}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, faults, faultsRegister, uintptr(unsafe.Pointer(&register))); errno != 0 {
		return 0, os.NewSyscallError("UFFDIO_REGISTER", errno)
	}
	return start, nil
}

const pageBytes = 4096

// The requests of FUSE that are answered.
//
// Source: include/uapi/linux/fuse.h.
const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseOpen    = 14
	fuseInit    = 26
)

// serve answers all requests until it is to be silent.
func serve(server int, silent *atomic.Bool) {
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(server, request)
		if err != nil || n < 40 {
			return
		}
		if silent.Load() {
			continue
		}
		kind, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[16:])
		answer := make([]byte, 16, 256) // size, error, id of the request
		copy(answer[8:], request[8:16])
		answer = append(answer, answerTo(kind, node)...)
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		_, _ = unix.Write(server, answer) // some requests want no answer
	}
}

// answerTo returns the answer of a directory with number 1, which has one file.
func answerTo(kind uint32, node uint64) []byte {
	var answer []byte
	word := func(values ...uint64) {
		for _, value := range values {
			answer = binary.NativeEndian.AppendUint64(answer, value)
		}
	}
	const forever = 1 << 30 // seconds
	switch kind {
	case fuseInit:
		answer = binary.NativeEndian.AppendUint32(answer, 7) // version 7.31
		answer = binary.NativeEndian.AppendUint32(answer, 31)
		return append(answer, make([]byte, 56)...)
	case fuseLookup:
		word(2, 0, forever, forever, 0)
		return append(answer, attributes(2)...)
	case fuseGetattr:
		word(forever, 0)
		return append(answer, attributes(node)...)
	case fuseOpen:
		word(0, 0)
	}
	return answer
}

// attributes is struct fuse_attr.
func attributes(node uint64) []byte {
	const directory, file = unix.S_IFDIR | 0o755, unix.S_IFREG | 0o755
	attributes := make([]byte, 88)
	binary.NativeEndian.PutUint64(attributes, node)
	binary.NativeEndian.PutUint64(attributes[8:], pageBytes)
	mode := uint32(file)
	if node == 1 {
		mode = directory
	}
	binary.NativeEndian.PutUint32(attributes[60:], mode)
	binary.NativeEndian.PutUint32(attributes[64:], 1)
	return attributes
}

// memoryMap is struct prctl_mm_map.
type memoryMap struct {
	startCode, endCode, startData, endData, startBreak, breaks, startStack uint64
	argStart, argEnd, envStart, envEnd                                     uint64
	_                                                                      uint64
	_, executable                                                          uint32
}

// moveCommandLine tells the kernel that the arguments are at another address, which needs no
// capability if everything else stays the same.
func moveCommandLine(start, end uint64) error {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	words := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	field := func(number int) uint64 { // numbered as in proc_pid_stat(5)
		n, _ := strconv.ParseUint(words[number-3], 10, 64)
		return n
	}
	breaks, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	m := memoryMap{
		startCode: field(26), endCode: field(27), startStack: field(28), startData: field(45), endData: field(46),
		startBreak: field(47), breaks: uint64(breaks), argStart: start, argEnd: end, envStart: field(50), envEnd: field(51),
		executable: ^uint32(0),
	}
	_, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(&m)), unsafe.Sizeof(m), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("PR_SET_MM_MAP", errno)
	}
	return nil
}
