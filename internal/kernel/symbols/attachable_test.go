// SPDX-License-Identifier: Apache-2.0

package symbols

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSymbolsAttachable(t *testing.T) {
	symbols, err := Read(strings.NewReader(`ffffffff81000000 T _text
ffffffff80ffff00 T before_the_text
ffffffff81000010 T _stext
ffffffff81000020 t plain
ffffffff81000020 T alias_of_plain
ffffffff81000030 t copied.isra.0
ffffffff81000030 t copied.cold
ffffffff81000040 t __pfx_plain
ffffffff81000050 t __cfi_plain
ffffffff81000060 t __SCT__tp_func_plain
ffffffff81000070 t of_two
ffffffff81000080 t of_two
ffffffff81000090 t listed_twice
ffffffff81000090 W listed_twice
ffffffff810000a0 t in_module_too
ffffffffc0000000 t in_module_too	[module]
ffffffffc0000010 t in_module	[module]
ffffffff810000b0 T migrate_disable
ffffffff810000c0 T do_exit
ffffffff81000100 T __entry_text_start
ffffffff81000110 T entry
ffffffff81000120 T __entry_text_end
ffffffff81000130 T behind_entry
ffffffff81000200 T __noinstr_text_start
ffffffff81000210 T noinstr
ffffffff81000220 T __noinstr_text_end
ffffffff81000220 T behind_noinstr
ffffffff81000300 T _etext
ffffffff82000000 t at_boot
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Symbol{
		{Name: "__entry_text_end", Address: 0xffffffff81000120},
		{Name: "__noinstr_text_end", Address: 0xffffffff81000220},
		{Name: "_stext", Address: 0xffffffff81000010},
		{Name: "alias_of_plain", Address: 0xffffffff81000020},
		{Name: "behind_entry", Address: 0xffffffff81000130},
		{Name: "behind_noinstr", Address: 0xffffffff81000220},
		{Name: "listed_twice", Address: 0xffffffff81000090},
		{Name: "plain", Address: 0xffffffff81000020},
	}
	if diff := cmp.Diff(want, symbols.Attachable()); diff != "" {
		t.Errorf("Attachable() differs (-want +got):\n%s", diff)
	}
}
