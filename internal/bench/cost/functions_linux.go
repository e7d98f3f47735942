package main

import (
	"path"
	"slices"

	"github.com/seed-7756021b/nettap/internal/kernel"
)

// onPath are the functions of net/socket.c that the load's operations can go through.
var onPath = []string{
	"____sys_recvmsg", "____sys_sendmsg", "__sock_create", "__sock_recv_*", "__sock_release", "__sock_sendmsg", "__sock_tx_timestamp",
	"__sys_accept4*", "__sys_connect*", "__sys_setsockopt", "__sys_socket*",
	"__x64_sys_accept*", "__x64_sys_connect", "__x64_sys_setsockopt", "__x64_sys_socket*",
	"call_trace_sock_*", "connect_socket", "do_accept", "do_sock_setsockopt", "move_addr_to_*", "skb_get_tx_timestamp", "skb_has_tx_timestamp",
	"sock_alloc", "sock_alloc_file", "sock_alloc_inode", "sock_close", "sock_create", "sock_evict_inode", "sock_free_inode",
	"sock_from_file", "sock_read_iter", "sock_recvmsg*", "sock_release", "sock_sendmsg*", "sock_write_iter",
	"sockfd_lookup*", "sockfs_dname", "update_socket_protocol",
}

// onEach is the hook that has programs for each function.
const onEach = "fentry"

// fewFunctions returns the functions on the path that can be traced here, if calls may
// take fentry when those hooks are avoided, and else nil.
func fewFunctions(avoid []string) ([]string, error) {
	types, err := kernel.Types()
	if err != nil {
		return nil, err
	}
	if slices.Contains(avoid, onEach) || !slices.Contains(avoid, "kprobe.multi") && !kernel.ExitsFromPool(types) {
		return nil, nil
	}
	symbols, err := kernel.RunningSymbols()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, symbol := range symbols.Attachable() {
		matches := func(pattern string) bool {
			matches, _ := path.Match(pattern, symbol.Name)
			return matches
		}
		if slices.ContainsFunc(onPath, matches) {
			names = append(names, symbol.Name)
		}
	}
	return names, nil
}
