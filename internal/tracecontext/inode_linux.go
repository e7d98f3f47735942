// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"io/fs"
	"syscall"
)

func deviceAndInode(info fs.FileInfo) (device, inode uint64) {
	stat := info.Sys().(*syscall.Stat_t)
	return stat.Dev, stat.Ino
}
