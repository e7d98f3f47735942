// SPDX-License-Identifier: Apache-2.0

package calls

import (
	_ "embed"
	"math"
	"strings"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// socketText lists functions of net/socket.c.
//
//go:embed socket.txt
var socketText string

// socketAnchors are functions of net/socket.c alone. On most kernels they include the first and the
// last function of that file. The functions between them belong to the file, too, because a linker
// keeps the functions of a file together. On Linux 6.1 these are exactly the functions that SystemTap
// finds by the file's debug information.
var socketAnchors = []string{
	"__sock_create", "__sys_recvmsg", "__sys_sendto", "__sys_socket", "kernel_accept", "kernel_connect", "kernel_sock_shutdown",
	"sock_alloc", "sock_alloc_file", "sock_from_file", "sock_is_registered", "sock_register", "sock_release", "sock_show_fdinfo",
	"sock_unregister", "socket_seq_show",
}

// maxBetween is how many functions can be between the anchors. The file has about 145. If there are
// more between them, the linker has not kept the functions of a file together.
const maxBetween = 256

// socketFunctions returns the functions of net/socket.c: those in socketText, and those between the
// anchors if the linker has kept the functions together. Some are returned twice.
func socketFunctions(attachable []symbols.Symbol) []symbols.Symbol {
	found := between(attachable, socketAnchors)
	if len(found) > maxBetween {
		found = nil
	}
	for line := range strings.Lines(socketText) {
		found = append(found, lookup(attachable, strings.TrimSpace(line))...)
	}
	return found
}

// between returns the functions from the lowest to the highest of the anchors.
func between(attachable []symbols.Symbol, anchors []string) []symbols.Symbol {
	first, last := uint64(math.MaxUint64), uint64(0)
	for _, anchor := range anchors {
		for _, symbol := range lookup(attachable, anchor) {
			first, last = min(first, symbol.Address), max(last, symbol.Address)
		}
	}
	var found []symbols.Symbol
	for _, symbol := range attachable {
		if first <= symbol.Address && symbol.Address <= last && !isObserver(symbol.Name) {
			found = append(found, symbol)
		}
	}
	return found
}
