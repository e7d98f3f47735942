// SPDX-License-Identifier: Apache-2.0

package calls

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSocketFunctionsAreThoseOfTheFile uses the part around net/socket.c of the symbols of Debian's
// 6.1.0-56-cloud-amd64, which is in testdata.
func TestSocketFunctionsAreThoseOfTheFile(t *testing.T) {
	text, err := os.ReadFile("testdata/kallsyms-6.1.txt")
	if err != nil {
		t.Fatal(err)
	}
	want := listed("Linux 6.1, x86-64") // what SystemTap finds, without init_once, which is the name of several functions

	got, err := chooseFunctions([]string{"net/socket.c"}, symbolsOf(t, string(text)), typesOf())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, namesOf(got)); diff != "" {
		t.Errorf("the functions of net/socket.c differ (-want +got):\n%s", diff)
	}

	var found []string
	for _, symbol := range between(symbolsOf(t, string(text)).Attachable(), socketAnchors) {
		found = append(found, symbol.Name)
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("the functions between the anchors differ (-want +got):\n%s", diff)
	}
}

func TestSocketFunctions(t *testing.T) {
	var apart strings.Builder
	for i := range 300 {
		fmt.Fprintf(&apart, "%016x t other_%d\n", uint64(0xffffffff81001000)+uint64(i)*16, i)
	}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"what is between, and what is listed": {
			text: `ffffffff81000100 T sock_create
ffffffff81000200 T before
ffffffff81000300 T sock_alloc
ffffffff81000400 t new_in_this_kernel
ffffffff81000500 T __sys_sendto
ffffffff81000600 T behind
`,
			want: []string{"__sys_sendto", "new_in_this_kernel", "sock_alloc", "sock_create"},
		},
		"a single anchor": {
			text: "ffffffff81000100 T sock_alloc\nffffffff81000200 T other\n",
			want: []string{"sock_alloc"},
		},
		"functions in an order of their own": {
			text: "ffffffff81000100 T sock_alloc\nffffffff81100000 T __sys_sendto\n" + apart.String(),
			want: []string{"__sys_sendto", "sock_alloc"},
		},
		"an anchor's name of several functions": {
			text: "ffffffff81000100 T sock_alloc\nffffffff81000200 T other\nffffffff81000300 T sock_release\nffffffff81000400 T sock_release\n",
			want: []string{"sock_alloc"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseFunctions([]string{"net/socket.c"}, symbolsOf(t, test.text), typesOf())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, namesOf(got)); diff != "" {
				t.Errorf("chooseFunctions() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSocketTextListsEachFunctionOnce(t *testing.T) {
	seen := map[string]bool{}
	for line := range strings.Lines(socketText) {
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' {
			continue
		}
		if seen[name] || CheckFunctionPattern(name) != nil || strings.Contains(name, ".") {
			t.Errorf("%q is there twice, or no name", name)
		}
		seen[name] = true
	}
	for _, anchor := range socketAnchors {
		if !seen[anchor] {
			t.Errorf("the anchor %s is not in the list", anchor)
		}
	}
}

// listed returns the names below a heading in socket.txt.
func listed(heading string) []string {
	_, text, _ := strings.Cut(socketText, "# "+heading)
	_, text, _ = strings.Cut(text, "\n")
	text, _, _ = strings.Cut(text, "\n#")
	return strings.Fields(text)
}
