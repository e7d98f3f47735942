// SPDX-License-Identifier: Apache-2.0

package kerneltest

import (
	"fmt"
	"os"
	"testing"
)

// NextID makes the next process or thread get an id, unless another one gets it before.
func NextID(t testing.TB, id int) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, id-1), 0); err != nil {
		t.Fatal(err)
	}
}
