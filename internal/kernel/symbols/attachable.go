// SPDX-License-Identifier: Apache-2.0

package symbols

import (
	"cmp"
	"slices"
	"strings"
)

// Attachable returns the functions that programs can be attached to by name, in the order of the
// names, as far as the table tells. It leaves out:
//
//   - functions of modules, whose BTF is separate from the kernel's;
//   - a name that several functions have, including those of modules: the kernel refuses it, or
//     takes the first;
//   - copies and parts of a function that the compiler made (foo.isra.0, foo.cold), which take
//     other arguments, and symbols that are no functions (__pfx_foo, __cfi_foo, __SCT__foo);
//   - functions that exist only at boot (after _etext), and the sections that run before the
//     kernel is ready to be observed (.entry.text, .noinstr.text, .kprobes.text);
//   - functions that run within every program, or never return, and are refused by name.
//
// The kernel refuses more, such as functions marked notrace, which this table does not show.
func (s *Table) Attachable() []Symbol {
	var named []Symbol
	sections := s.sections()
	for symbol := range s.All() {
		if !isFragment(symbol.Name) {
			named = append(named, symbol)
		}
	}
	slices.SortFunc(named, func(a, b Symbol) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Address, b.Address))
	})
	attachable := named[:0]
	for len(named) > 0 {
		first, same := named[0], 1
		for same < len(named) && named[same].Name == first.Name {
			same++
		}
		one := named[same-1].Address == first.Address
		if one && !first.Module && sections.attachable(first.Address) && !refused[first.Name] {
			attachable = append(attachable, first)
		}
		named = named[same:]
	}
	return attachable
}

// isFragment reports whether a symbol is not a function of the source.
func isFragment(name string) bool {
	if strings.Contains(name, ".") {
		return true
	}
	for _, prefix := range []string{"__pfx_", "__cfi_", "__SCT__"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// sections are the addresses of the symbols that delimit parts of the kernel.
type sections map[string]uint64

// refusedSections are what populate_kprobe_blacklist of kernel/kprobes.c refuses
// on every architecture that has them. Ftrace has none of them either.
var refusedSections = [][2]string{
	{"__entry_text_start", "__entry_text_end"},
	{"__noinstr_text_start", "__noinstr_text_end"},
	{"__kprobes_text_start", "__kprobes_text_end"},
}

func (s *Table) sections() sections {
	edges := sections{"_stext": 0, "_etext": 0}
	for _, section := range refusedSections {
		edges[section[0]], edges[section[1]] = 0, 0
	}
	for symbol := range s.All() {
		if _, ok := edges[symbol.Name]; ok && !symbol.Module {
			edges[symbol.Name] = symbol.Address
		}
	}
	return edges
}

func (s sections) attachable(address uint64) bool {
	if address < s["_stext"] || (s["_etext"] != 0 && address >= s["_etext"]) {
		return false
	}
	for _, section := range refusedSections {
		if s[section[0]] <= address && address < s[section[1]] {
			return false
		}
	}
	return true
}

// refused are the functions that recent kernels refuse to trace with BPF: those that run before
// each program, and those that never return.
//
// Source: btf_id_deny (5.14) and noreturn_deny (6.16) in kernel/bpf/verifier.c.
var refused = map[string]bool{
	"___migrate_enable":      true,
	"__migrate_enable":       true,
	"migrate_disable":        true,
	"migrate_enable":         true,
	"rcu_read_unlock_strict": true,
	"preempt_count_add":      true,
	"preempt_count_sub":      true,
	"__rcu_read_lock":        true,
	"__rcu_read_unlock":      true,

	"__ia32_sys_exit":               true,
	"__ia32_sys_exit_group":         true,
	"__kunit_abort":                 true,
	"kunit_try_catch_throw":         true,
	"__module_put_and_kthread_exit": true,
	"__x64_sys_exit":                true,
	"__x64_sys_exit_group":          true,
	"do_exit":                       true,
	"do_group_exit":                 true,
	"kthread_complete_and_exit":     true,
	"kthread_exit":                  true,
	"make_task_dead":                true,
}

// TellsDroppers reports whether the kernel's reports of drops name the function that drops. They
// do not if the compiler has put them into a part of kfree_skb that it split off, since the caller
// is then kfree_skb.
func (s *Table) TellsDroppers() bool {
	for symbol := range s.All() {
		if strings.HasPrefix(symbol.Name, "kfree_skb.part.") {
			return false
		}
	}
	return true
}
