// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"testing"

	"github.com/seed-7756021b/nettap/internal/kerneltest"
)

// TestStackOfPrograms requires that the programs fit into the stack of each kernel, whichever options
// they are loaded with. The kernel tests load most of them with few.
func TestStackOfPrograms(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	kerneltest.CheckStack(t, spec)
}
