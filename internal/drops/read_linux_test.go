// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/kernel/symbols"
)

func TestLearnFunctions(t *testing.T) {
	symbols, err := symbols.Read(strings.NewReader("0000000000001000 T kfree_skb_partial\n" +
		"0000000000002000 t kfree_skb.part.0\n0000000000003000 T kfree_skb\n0000000000004000 T tcp_v4_rcv\n0000000000005000 T end\n"))
	if err != nil {
		t.Fatal(err)
	}
	d := &Drops{words: words{functions: map[uint64]string{}}, symbols: symbols, symbolsRead: time.Now()}

	if err := d.learnFunctions(&snapshot{detailed: map[bpfDropKey]uint64{{Location: 0x3010}: 1, {Location: 0x4010}: 1}}); err != nil {
		t.Fatal(err)
	}
	want := map[uint64]string{
		0x3010: "", // a part of kfree_skb told who called it
		0x4010: "tcp_v4_rcv",
	}
	if diff := cmp.Diff(want, d.words.functions); diff != "" {
		t.Errorf("the functions differ (-want +got):\n%s", diff)
	}
}
