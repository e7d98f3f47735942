// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Processors returns how many processors of the machine are online, including those that this
// process may not use.
//
// Source: Documentation/admin-guide/cputopology.rst.
func Processors() (int, error) {
	const file = "/sys/devices/system/cpu/online"
	list, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	count, err := countListed(strings.TrimSpace(string(list)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return count, nil
}

// countListed returns how many numbers are in a list such as "0-3,8".
func countListed(list string) (int, error) {
	count := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is no list of numbers", list)
		}
		to, err := strconv.ParseUint(last, 10, 16)
		if err != nil || to < from {
			return 0, fmt.Errorf("%q is no list of numbers", list)
		}
		count += int(to-from) + 1
	}
	return count, nil
}
