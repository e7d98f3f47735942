// SPDX-License-Identifier: Apache-2.0

package kernel

import "testing"

func TestKeep(t *testing.T) {
	if a, b := typeCache(), typeCache(); a == b {
		t.Error("types are kept for nobody")
	}
	first, second := Keep(), Keep()
	same := typeCache()
	first()
	first()
	if typeCache() != same {
		t.Error("types are gone before the second keeper has released them")
	}
	second()
	if typeCache() == same {
		t.Error("types are kept after both keepers have released them")
	}
}
