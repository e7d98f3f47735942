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

// onPath are the functions of net/socket.c that the operations of the load can go through. A star
// at the end stands for any text.
var onPath = []string{
	"____sys_recvmsg", "____sys_sendmsg", "__sock_create", "__sock_recv_*", "__sock_release", "__sock_sendmsg", "__sock_tx_timestamp",
	"__sys_accept4*", "__sys_connect*", "__sys_setsockopt", "__sys_socket*",
	"__x64_sys_accept*", "__x64_sys_connect", "__x64_sys_setsockopt", "__x64_sys_socket*",
	"call_trace_sock_*", "connect_socket", "do_accept", "do_sock_setsockopt", "move_addr_to_*", "skb_get_tx_timestamp", "skb_has_tx_timestamp",
	"sock_alloc", "sock_alloc_file", "sock_alloc_inode", "sock_close", "sock_create", "sock_evict_inode", "sock_free_inode",
	"sock_from_file", "sock_read_iter", "sock_recvmsg*", "sock_release", "sock_sendmsg*", "sock_write_iter",
	"sockfd_lookup*", "sockfs_dname", "update_socket_protocol",
}

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
// between those on the path, a linker has mixed the functions of several files.
const maxBetween = 512

// withFewFunctions returns a table of symbols without those between the functions on the path,
// which a linker has placed next to each other, and how many functions were removed.
func withFewFunctions(table []byte) (few []byte, hidden int) {
	var first, last uint64
	for line := range bytes.Lines(table) {
		if address, name, ok := functionOf(line); ok && isOnPath(name) {
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
