// SPDX-License-Identifier: Apache-2.0

package traffic

import "testing"

// TestNameOfAHostileInterface has hostile names of devices, which a user with a network namespace can choose.
func TestNameOfAHostileInterface(t *testing.T) {
	var entry bpfInterfaceEntry
	for i, b := range []byte("e\x1b[1m\xff\n") {
		entry.Name[i] = int8(b)
	}
	const want = "e\uFFFD[1m\uFFFD "
	if got := entry.identity().name; got != want {
		t.Errorf("the interface is called %q, want %q", got, want)
	}
}
