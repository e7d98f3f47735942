// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GoCommand returns a go command that builds static programs for Linux.
func GoCommand(ctx context.Context, arch string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	return command
}

// Output runs a command and returns its output. An error contains what the command wrote to
// stderr.
func Output(command *exec.Cmd) ([]byte, error) {
	var complaints bytes.Buffer
	command.Stderr = &complaints
	printed, err := command.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Base(command.Path), errors.Join(err, errors.New(strings.TrimSpace(complaints.String()))))
	}
	return printed, err
}
