// SPDX-License-Identifier: Apache-2.0

package host

import "testing"

func TestCountListed(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-1": 2, "0-3,8": 5, "0,2-3,64-127": 67} {
		if got, err := countListed(list); got != want || err != nil {
			t.Errorf("%q has %d numbers, error %v; want %d", list, got, err, want)
		}
	}
	for _, list := range []string{"", "a", "0-", "-3", "3-1", "0,,1", "0-1-2"} {
		if got, err := countListed(list); err == nil {
			t.Errorf("%q has %d numbers, and is no list", list, got)
		}
	}
}
