// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// readHostID returns the machine's id, from the files in which the Collector's
// resource detection looks for host.id, in the same order.
func readHostID(rootPath string) (string, error) {
	var errs error
	for _, name := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		file := filepath.Join("/", rootPath, name)
		content, err := os.ReadFile(file)
		id := strings.TrimSpace(string(content))
		if err == nil && len(id) == 32 {
			return id, nil
		}
		if err == nil {
			err = fmt.Errorf("%s does not hold 32 digits", file)
		}
		errs = errors.Join(errs, err)
	}
	return "", fmt.Errorf("host.id is unknown: %w", errs)
}
