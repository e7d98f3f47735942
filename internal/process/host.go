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
	for _, file := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		content, err := os.ReadFile(filepath.Join("/", rootPath, file))
		if err == nil && len(strings.TrimSpace(string(content))) != 32 {
			err = fmt.Errorf("%s does not hold 32 digits", file)
		}
		if err == nil {
			return strings.TrimSpace(string(content)), nil
		}
		errs = errors.Join(errs, err)
	}
	return "", fmt.Errorf("host.id is unknown: %w", errs)
}
