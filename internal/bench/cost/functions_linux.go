// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// onPath are the functions of net/socket.c that the operations of the load go through, on any kernel.
// What only prepares the load is not among them. A star at the end stands for any text.
var onPath = []string{
	"sock_write_iter", "__sock_sendmsg*", "sock_sendmsg*", "sock_read_iter", "sock_recvmsg*", "call_trace_sock_*",
	"__x64_sys_socket", "__sys_socket", "__sys_socket_create*", "update_socket_protocol", "sock_create", "__sock_create",
	"sock_alloc", "sock_alloc_file", "sock_alloc_inode",
	"__x64_sys_connect", "__sys_connect*", "connect_socket", "move_addr_to_kernel*", "sock_from_file", "sockfd_lookup_light",
	"__x64_sys_accept4", "__sys_accept4*", "do_accept", "move_addr_to_user",
	"sock_close", "__sock_release", "sock_evict_inode", "sock_free_inode",
}

// atEnds are functions at both ends of net/socket.c, as compilers have arranged it.
var atEnds = []string{"sock_show_fdinfo", "sockfs_security_xattr_set", "kernel_sock_shutdown", "__x64_sys_socketcall", "sock_is_registered", "socket_seq_show"}

// symbolTable is the file in which the receiver finds the functions of the kernel.
const symbolTable = "/proc/kallsyms"

// onlyInGuests is an environment variable which tells that this machine exists only for the
// measurement, and is emulated.
const onlyInGuests = "NETTAP_BENCH_GUEST"

// hideFunctions removes those functions from the table of symbols that the load never reaches, and
// returns a function that puts them back. If each function has programs of its own, an emulated
// machine takes minutes to load them, and programs that never run cost nothing. So the receiver
// has its defaults, on a kernel with fewer functions. The table is then a file, which the kernel
// does not have to make for each start.
func hideFunctions() (show func() error, err error) {
	table, err := os.ReadFile(symbolTable)
	if err != nil {
		return nil, err
	}
	few := filepath.Join(os.TempDir(), "kallsyms")
	kept, hidden := withFewFunctions(table)
	log.Printf("%d functions are hidden", hidden)
	if err := os.WriteFile(few, kept, 0o644); err != nil {
		return nil, err
	}
	if err := unix.Mount(few, symbolTable, "", unix.MS_BIND, ""); err != nil {
		return nil, errors.Join(err, os.Remove(few))
	}
	return func() error { return errors.Join(unix.Unmount(symbolTable, 0), os.Remove(few)) }, nil
}

// maxBetween is the maximum number of names for the functions of net/socket.c. If there are more
// from one end of it to the other, a linker has mixed the functions of several files.
const maxBetween = 512

// withFewFunctions returns a table of symbols without those functions of net/socket.c that are not
// on the path, and how many were removed. A linker has placed the functions of a file next to each
// other.
func withFewFunctions(table []byte) (few []byte, hidden int) {
	var first, last uint64
	for line := range bytes.Lines(table) {
		if address, name, ok := functionOf(line); ok && (isOnPath(name) || slices.Contains(atEnds, name)) {
			if first == 0 || address < first {
				first = address
			}
			last = max(last, address)
		}
	}
	inside := func(address uint64) bool { return first <= address && address <= last }
	for line := range bytes.Lines(table) {
		if address, name, ok := functionOf(line); ok && inside(address) && !isOnPath(name) {
			hidden++
			continue
		}
		few = append(few, line...)
	}
	if hidden > maxBetween {
		return table, 0
	}
	return few, hidden
}

// functionOf returns the address and the name of the kernel's own function that a line of the
// table is about. Parts of functions (foo.cold) are placed elsewhere.
func functionOf(line []byte) (address uint64, name string, ok bool) {
	fields := strings.Fields(string(line))
	if len(fields) != 3 || fields[1] != "t" && fields[1] != "T" || strings.Contains(fields[2], ".") {
		return 0, "", false
	}
	address, err := strconv.ParseUint(fields[0], 16, 64)
	return address, fields[2], err == nil && address != 0
}

func isOnPath(name string) bool {
	return slices.ContainsFunc(onPath, func(pattern string) bool {
		if start, many := strings.CutSuffix(pattern, "*"); many {
			return strings.HasPrefix(name, start)
		}
		return name == pattern
	})
}
