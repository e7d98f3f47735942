// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel"
	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

// someSymbols has the symbols of a small kernel without any function of net/socket.c.
const someSymbols = `ffffffff81000000 T _stext
ffffffff81000100 T tcp_sendmsg
ffffffff81000200 T tcp_sendmsg_locked
ffffffff81000300 T tcp_recvmsg
ffffffff81000400 t tcp_push.isra.0
ffffffff81000500 t udp_sendmsg
ffffffff81000510 t __pfx_udp_recvmsg
ffffffff81000600 t udp_recvmsg
ffffffff81000700 t twice
ffffffff81000800 t twice
ffffffff81000900 T __x64_sys_getuid
ffffffff81000900 T __do_sys_getuid
ffffffff81000a00 T bpf_sk_storage_get
ffffffff81000b00 T do_exit
ffffffff81001000 T _etext
ffffffff82000000 t tcp_init
ffffffffc0001000 t nft_do_chain	[nf_tables]
`

func TestChooseFunctions(t *testing.T) {
	for name, test := range map[string]struct {
		patterns []string
		want     []string
		wantErr  string
	}{
		"nothing":                            {},
		"a name":                             {patterns: []string{"tcp_recvmsg"}, want: []string{"tcp_recvmsg"}},
		"each once, in order":                {patterns: []string{"udp_*", "tcp_sendmsg", "*_sendmsg"}, want: []string{"tcp_sendmsg", "udp_recvmsg", "udp_sendmsg"}},
		"a glob leaves out copies and boot":  {patterns: []string{"tcp_*"}, want: []string{"tcp_recvmsg", "tcp_sendmsg", "tcp_sendmsg_locked"}},
		"a letter of several":                {patterns: []string{"[a-t]?p_recvmsg"}, want: []string{"tcp_recvmsg"}},
		"a glob leaves out names of several": {patterns: []string{"t[cw]*"}, want: []string{"tcp_recvmsg", "tcp_sendmsg", "tcp_sendmsg_locked"}},
		"a function of two names by the one that has a type": {patterns: []string{"__*_getuid"}, want: []string{"__x64_sys_getuid"}},
		"a function of two names by the one written out":     {patterns: []string{"__*_getuid", "__do_sys_getuid"}, want: []string{"__do_sys_getuid"}},
		"a helper that is written out":                       {patterns: []string{"bpf_sk_storage_get"}, want: []string{"bpf_sk_storage_get"}},
		"a glob of helpers only": {
			patterns: []string{"bpf_*"},
			wantErr:  `functions: "bpf_*" matches only functions that serve tracing itself, which have to be written out`,
		},
		"all mistakes at once": {
			patterns: []string{"tcp_sendmsgg", "tcp_recvmsg", "sctp_*"},
			wantErr: `functions: "tcp_sendmsgg" matches no function of this kernel: /proc/kallsyms has the names of all
functions: "sctp_*" matches no function of this kernel: /proc/kallsyms has the names of all`,
		},
		"a name of several":      {patterns: []string{"twice"}, wantErr: `functions: "twice" is the name of 2 functions of this kernel, which cannot be told apart`},
		"a function of a module": {patterns: []string{"nft_do_chain"}, wantErr: `functions: "nft_do_chain" is of a kernel module, and only functions of the kernel itself can be traced`},
		"a function of the boot": {patterns: []string{"tcp_init"}, wantErr: `functions: "tcp_init" cannot be traced on this kernel`},
		"one that never returns": {patterns: []string{"do_exit"}, wantErr: `functions: "do_exit" cannot be traced on this kernel`},
		"a copy only":            {patterns: []string{"tcp_push"}, wantErr: `functions: "tcp_push" cannot be traced on this kernel, where the compiler made it tcp_push.isra.0`},
		"another file":           {patterns: []string{"net/ipv4/tcp.c"}, wantErr: `functions: "net/ipv4/tcp.c" is a file, and the only one whose functions are known is net/socket.c`},
		"no function of a file":  {patterns: []string{"net/socket.c"}, wantErr: `functions: "net/socket.c": none of its functions is known: ` + kernel.ErrUnsupported.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseFunctions(test.patterns, symbolsOf(t, someSymbols), typesOf("__x64_sys_getuid"))
			if text := fmt.Sprint(err); err != nil && text != test.wantErr || err == nil && test.wantErr != "" {
				t.Errorf("chooseFunctions() fails with\n%v\nwant\n%v", err, test.wantErr)
			}
			if diff := cmp.Diff(test.want, namesOf(got)); diff != "" {
				t.Errorf("chooseFunctions() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChooseFunctionsGivesAddressAndType(t *testing.T) {
	got, err := chooseFunctions([]string{"tcp_recvmsg"}, symbolsOf(t, someSymbols), typesOf("tcp_recvmsg"))
	if err != nil {
		t.Fatal(err)
	}
	want := []kernel.Function{{Name: "tcp_recvmsg", Address: 0xffffffff81000300, Type: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("chooseFunctions() differs (-want +got):\n%s", diff)
	}

	broken := errors.New("broken BTF")
	_, err = chooseFunctions([]string{"tcp_recvmsg"}, symbolsOf(t, someSymbols), func(string) (kernel.Function, error) { return kernel.Function{}, broken })
	if !errors.Is(err, broken) {
		t.Errorf("chooseFunctions() fails with %v, want %v", err, broken)
	}
}

func TestChooseFunctionsErrors(t *testing.T) {
	var many strings.Builder
	for i := range 1025 {
		fmt.Fprintf(&many, "%016x t many_%d\n", uint64(0xffffffff81000000)+uint64(i)*16, i)
	}
	_, err := chooseFunctions([]string{"many_*"}, symbolsOf(t, many.String()), typesOf())
	if want := "functions: the patterns match 1025 functions, and at most 1024 can be traced: narrow them"; err == nil || err.Error() != want {
		t.Errorf("chooseFunctions() of too many fails with %v, want %s", err, want)
	}
	_, err = chooseFunctions([]string{socketFile}, symbolsOf(t, someSymbols), typesOf())
	if !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("chooseFunctions() of no net/socket.c fails with %v, want %v", err, kernel.ErrUnsupported)
	}
}

func TestCheckFunctionPattern(t *testing.T) {
	for pattern, want := range map[string]string{
		"net/socket.c":   "",
		"tcp_sendmsg":    "",
		"tcp_*":          "",
		"[a-c]?p_*":      "",
		"foo.isra.0":     "",
		"":               `"" names no function`,
		"tcp_[":          `"tcp_[": syntax error in pattern`,
		"tcp_[a":         `"tcp_[a": syntax error in pattern`,
		"socket.c":       `"socket.c" is a file, and the only one whose functions are known is net/socket.c`,
		"net/ipv4/tcp*":  `"net/ipv4/tcp*" is a file, and the only one whose functions are known is net/socket.c`,
		"tcp_sendmsg ":   `"tcp_sendmsg " is no name of a function`,
		"tcp_sendmsg+10": `"tcp_sendmsg+10" is no name of a function`,
	} {
		err := CheckFunctionPattern(pattern)
		if got := fmt.Sprint(err); err != nil && got != want || err == nil && want != "" {
			t.Errorf("CheckFunctionPattern(%q) = %v, want %q", pattern, err, want)
		}
	}
}

func FuzzChooseFunctions(f *testing.F) {
	for _, pattern := range []string{"tcp_*", "twice", "tcp_sendmsgg*", "[", "*", "net/socket.c", "", `\`, "?[^a]"} {
		f.Add(pattern, someSymbols)
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		symbols, err := symbols.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		functions, err := chooseFunctions([]string{pattern}, symbols, typesOf())
		if (err == nil) != (len(functions) > 0) {
			t.Fatalf("chooseFunctions(%q) = %v, %v", pattern, functions, err)
		}
		if CheckFunctionPattern(pattern) != nil && err == nil {
			t.Errorf("chooseFunctions(%q) takes what CheckFunctionPattern refuses", pattern)
		}
		for i, f := range functions {
			if ok, _ := path.Match(pattern, f.Name); !ok && pattern != socketFile {
				t.Errorf("chooseFunctions(%q) gives %q", pattern, f.Name)
			}
			if name, _ := symbols.Function(f.Address); name == "" || strings.Contains(f.Name, ".") || i > 0 && functions[i-1].Name >= f.Name {
				t.Errorf("chooseFunctions(%q) gives %v", pattern, functions)
			}
		}
	})
}

// typesOf returns a function that has a type for each of these names, and none for others.
func typesOf(names ...string) func(string) (kernel.Function, error) {
	return func(name string) (kernel.Function, error) {
		f := kernel.Function{Name: name}
		if slices.Contains(names, name) {
			f.Type = 1
		}
		return f, nil
	}
}

func symbolsOf(t *testing.T, text string) *symbols.Table {
	t.Helper()
	symbols, err := symbols.Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return symbols
}

func namesOf(functions []kernel.Function) []string {
	var names []string
	for _, f := range functions {
		names = append(names, f.Name)
	}
	return names
}
