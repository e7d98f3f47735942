// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package child

import "os/exec"

// Start starts the command. Only on Linux does the process end with this one.
func Start(command *exec.Cmd) error { return command.Start() }
