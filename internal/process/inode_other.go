// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package process

import "io/fs"

// owner returns 0, since there are no cgroups whose owner is needed.
func owner(fs.FileInfo) uint32 { return 0 }

// inode returns 0, since there are no cgroups to identify.
func inode(fs.FileInfo) uint64 { return 0 }
