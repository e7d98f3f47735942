// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io/fs"
	"syscall"
)

func owner(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }
