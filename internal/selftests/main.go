// SPDX-License-Identifier: Apache-2.0

// Command selftests builds some of the kernel's own network tests (tools/testing/selftests/net), as
// static programs beside their scripts:
//
//	go run ./internal/selftests build/selftests
//
// The source is Debian's package of Linux 6.12, which is fetched like the kernels of internal/vm. It
// needs apt, dpkg, gcc, tar and xz.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/seed-7756021b/nettap/internal/vm"
)

const (
	suite, arch = "trixie-security", "amd64"
	source      = "linux-source-6.12"
	headers     = "linux-libc-dev" // of the same version, since Debian 12 has those of 6.1
)

// below is where the tests are in the kernel's source.
const below = "tools/testing/selftests"

// programs are built from the C file of the same name. tls is missing: in Debian's Linux 6.12.118 some of
// its calls have more arguments than the function has parameters, so it does not compile. It would need
// a kernel with CONFIG_TLS, too.
var programs = strings.Fields(`
	bind_bhash bind_timewait bind_wildcard gro io_uring_zerocopy_tx ip_defrag ipv6_flowlabel ipv6_flowlabel_mgr msg_zerocopy netlink-dumps
	psock_fanout psock_snd psock_tpacket reuseaddr_conflict reuseaddr_ports_exhausted reuseport_addr_any reuseport_bpf reuseport_bpf_cpu
	reuseport_dualstack rxtimestamp sk_bind_sendto_listen sk_connect_zero_addr sk_so_peek_off so_incoming_cpu so_netns_cookie
	tcp_fastopen_backup_key tcp_inq tcp_mmap tun txring_overwrite udpgso udpgso_bench_rx udpgso_bench_tx
	mptcp/mptcp_connect mptcp/mptcp_inq mptcp/mptcp_sockopt mptcp/pm_nl_ctl
`)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 2 {
		log.Fatal("selftests: usage: selftests DIRECTORY")
	}
	if err := build(ctx, os.Args[1]); err != nil {
		log.Fatal("selftests: ", err)
	}
}

// build fetches the source and builds the programs, unless the directory has them already.
func build(ctx context.Context, directory string) error {
	store := vm.NewStore(vm.DefaultStore())
	kernel, err := store.Package(ctx, suite, arch, source)
	if err != nil {
		return err
	}
	library, err := store.Package(ctx, suite, arch, headers)
	if err != nil {
		return err
	}
	mark, version := filepath.Join(directory, "version"), []byte(filepath.Base(kernel)+"\n")
	if built, err := os.ReadFile(mark); err == nil && string(built) == string(version) {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := extract(ctx, filepath.Join(kernel, "usr/src", source+".tar.xz"), directory); err != nil {
		return err
	}
	if err := shorten(filepath.Join(directory, below, "net/tcp_mmap.c")); err != nil {
		return err
	}
	for _, program := range programs {
		if err := compile(ctx, directory, filepath.Join(library, "usr/include"), program); err != nil {
			return err
		}
	}
	return os.WriteFile(mark, version, 0o644)
}

// extract replaces the directory by the parts of the source that the tests include.
func extract(ctx context.Context, archive, directory string) error {
	log.Printf("selftests: extracting %s", filepath.Base(archive))
	if err := os.RemoveAll(directory); err != nil {
		return err
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	_, err := vm.Output(exec.CommandContext(ctx, "tar", "--extract", "--xz", "--file", archive, "--directory", directory, "--strip-components", "1",
		"--wildcards", source+"/"+below+"/net", source+"/"+below+"/*.h", source+"/tools/include"))
	return err
}

// shorten makes the test of receiving into mapped memory send 256 MB. It sends 32 GB as it is.
func shorten(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	shorter := strings.Replace(string(text), "(1ULL << 35)", "(1ULL << 28)", 1)
	if shorter == string(text) {
		return fmt.Errorf("%s does not say how much it sends", file)
	}
	return os.WriteFile(file, []byte(shorter), 0o644)
}

// compile builds a static program beside its C file.
func compile(ctx context.Context, directory, include, program string) error {
	tests, err := filepath.Abs(filepath.Join(directory, below))
	if err != nil {
		return err
	}
	net := filepath.Join(tests, "net")
	_, err = vm.Output(exec.CommandContext(ctx, "gcc", "-static", "-O2", "-w", "-I"+include, "-I"+filepath.Join(include, "x86_64-linux-gnu"), "-I"+tests,
		"-I"+filepath.Join(tests, "../../include"), "-o", filepath.Join(net, program), filepath.Join(net, program+".c"), "-lcrypto", "-lpthread"))
	return err
}
