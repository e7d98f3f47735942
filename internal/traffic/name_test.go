// SPDX-License-Identifier: Apache-2.0

package traffic

import "testing"

// A user with a network namespace may call a device anything.
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
