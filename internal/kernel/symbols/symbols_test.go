// SPDX-License-Identifier: Apache-2.0

package symbols

import (
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel/host"
)

func TestSymbolsFunction(t *testing.T) {
	symbols, err := Read(strings.NewReader(`ffffffff81000300 t second
0000000000000000 A fixed_percpu_data
ffffffff81000100 T first
ffffffff81000200 D between_but_data
ffffffff81000300 W second_by_another_name
ffffffffc0001000 t in_module.isra.0	[nf_tables]
ffffffff81000500 w weak
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		address uint64
		want    string
		own     bool // it certainly belongs to the kernel itself
	}{
		"the first byte of a function":           {0xffffffff81000100, "first", true},
		"inside, with data behind it":            {0xffffffff810002ff, "first", true},
		"of two names the first":                 {0xffffffff81000304, "second", true},
		"the last byte before the next":          {0xffffffff810004ff, "second", true},
		"a weak function, or a module behind it": {0xffffffff81000500, "weak", false},
		"a module's, with the compiler's suffix": {0xffffffffc0001010, "in_module.isra.0", false},
		"below all functions":                    {0xffffffff810000ff, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := symbols.Function(test.address)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("Function(%#x) = %q, %v, want %q", test.address, got, ok, test.want)
			}
			if got, ok := symbols.OwnFunction(test.address); ok != test.own || ok && got != test.want {
				t.Errorf("OwnFunction(%#x) = %q, %v, want %v", test.address, got, ok, test.own)
			}
		})
	}
}

func TestSymbolsAll(t *testing.T) {
	symbols, err := Read(strings.NewReader(`ffffffff81000300 t second
ffffffffc0001000 t in_module	[nf_tables]
ffffffff81000300 W alias
ffffffff81000100 T first
ffffffffc0002000 t bpf_prog_1c5d_count	[bpf]
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Symbol{
		{Name: "first", Address: 0xffffffff81000100},
		{Name: "second", Address: 0xffffffff81000300},
		{Name: "alias", Address: 0xffffffff81000300},
		{Name: "in_module", Address: 0xffffffffc0001000, Module: true},
		{Name: "bpf_prog_1c5d_count", Address: 0xffffffffc0002000, Module: true},
	}
	if diff := cmp.Diff(want, slices.Collect(symbols.All())); diff != "" {
		t.Errorf("All() differs (-want +got):\n%s", diff)
	}
}

func TestReadErrors(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		want    string
		matches error
	}{
		"hidden addresses": {
			text:    "0000000000000000 T _stext\n0000000000000000 t tcp_v4_rcv\n",
			want:    "CAP_SYSLOG is missing, or the sysctl kernel.kptr_restrict is 2",
			matches: os.ErrPermission,
		},
		"no functions": {
			text:    "ffffffff81000200 D jiffies\n",
			want:    "no functions among the kernel symbols",
			matches: host.ErrUnsupported,
		},
		"lines of another form": {
			text:    "\nzzz T not_hexadecimal\nffffffff81000200 T\n",
			want:    "no functions among the kernel symbols",
			matches: host.ErrUnsupported,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.text))
			if !errors.Is(err, test.matches) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %q, want %q in it, and a match of %v", err, test.want, test.matches)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add("ffffffff81000300 t second\t[module]\nffffffff81000100 T first\n", uint64(0xffffffff81000301))
	f.Add("0000000000000000 T _stext\n", uint64(0))
	f.Add("ffffffff81000100 T one\nffffffff81000100 T two\n", uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, text string, address uint64) {
		symbols, err := Read(strings.NewReader(text))
		if err != nil {
			return
		}
		if name, ok := symbols.Function(address); ok && !strings.Contains(text, name) {
			t.Errorf("Function(%#x) = %q, which is not in the text", address, name)
		}
	})
}

func TestRequireAddresses(t *testing.T) {
	hidden := strings.Repeat("0000000000000000 T hidden\n", 15)
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"there":                   {text: "ffffffff81000100 T first\n"},
		"behind some without":     {text: "0000000000000000 A percpu\n" + hidden + "ffffffff81000100 T first\n"},
		"hidden from this reader": {text: hidden + hidden + "ffffffff81000100 T first\n", want: os.ErrPermission},
		"of nothing":              {text: "0000000000000000 A percpu\n", want: os.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			if err := RequireAddresses(strings.NewReader(test.text)); !errors.Is(err, test.want) {
				t.Errorf("RequireAddresses() = %v, want %v", err, test.want)
			}
		})
	}
}

func TestExtent(t *testing.T) {
	table, err := Read(strings.NewReader("00000000000020a0 T next\n0000000000002000 T tcp_v4_rcv\n0000000000002000 T alias\n0000000000003000 t tcp_v4_rcv\t[module]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if begin, end, ok := table.Extent("tcp_v4_rcv"); !ok || begin != 0x2000 || end != 0x20a0 {
		t.Errorf("Extent() = %x, %x, %v", begin, end, ok)
	}
	if _, _, ok := table.Extent("nobody"); ok {
		t.Error("there is a function that is not in the table")
	}
}
