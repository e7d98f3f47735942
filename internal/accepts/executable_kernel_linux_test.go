// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The kernel keeps a short name in another place than a long one. The name is read when the connection is
// accepted, since the process may be gone when the record is read.
func TestKernelReportsTheExecutableOfAnAcceptThatIsGone(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.MkdirTemp(filepath.Dir(own), "names") //nolint:usetesting // on the same file system
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	long := strings.Repeat("n", 200)
	o := observe(t)
	for _, test := range []struct{ name, renamed, want string }{
		{name: "n", want: "n"},
		{name: long[:15], want: long[:15]},
		{name: long[:16], want: long[:16]},
		{name: long[:31], want: long[:31]},
		{name: long[:32], want: long[:32]},
		{name: long[:63], want: long[:63]},
		{name: long[:64], want: long[:63]},
		{name: "l" + long, renamed: "short", want: "short"},
		{name: "brief", renamed: long[:50], want: long[:50]},
	} {
		file := filepath.Join(directory, test.name)
		if err := os.Link(own, file); err != nil {
			t.Fatal(err)
		}
		listener, address := listen(t, "127.0.0.1:0")
		server := newServer(t, "blocking", listener, 0, 0)
		server.Path = file
		start(t, server)
		if test.renamed != "" {
			if err := os.Rename(file, filepath.Join(directory, test.renamed)); err != nil {
				t.Fatal(err)
			}
		}
		connect(t, address)
		end(server)
		accepts, err := o.accepts.drain()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range accepts {
			if a.local.Port() == address.Port() {
				got = append(got, a.seen.Executable)
			}
		}
		if len(got) != 1 || got[0] != test.want {
			t.Errorf("%s, renamed to %q: the executables are %q, want %q", test.name, test.renamed, got, test.want)
		}
	}
}
