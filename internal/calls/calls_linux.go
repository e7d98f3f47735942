// Package calls reports the socket calls of each thread as trees of the kernel
// functions they go through. Kernel side: bpf/calls.bpf.c.
package calls

//go:generate go tool -modfile=../tools/go.mod bpf2go -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -type node_flag -type wait -type reason -type point -type book bpf ../../bpf/calls.bpf.c -- -I/usr/include/x86_64-linux-gnu -mcpu=v3 -Wall -Werror
