// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// maxFiles is how many files an elfCache remembers, at some 100 bytes each.
const maxFiles = 4096

// elfCache remembers which files have the thread's variable, so that libc is read once and not for
// every process. Its zero value is empty. It may be used by several goroutines.
type elfCache struct {
	mu        sync.Mutex
	variables map[fileID]*threadVariable // nil for a file without the variable
}

// fileID identifies a file in its present state. A file that replaces it has another inode, and a
// change gives it another time.
type fileID struct {
	device, inode uint64
	size          int64
	modifiedNanos int64
}

func identify(info fs.FileInfo) fileID {
	device, inode := deviceAndInode(info)
	return fileID{device, inode, info.Size(), info.ModTime().UnixNano()}
}

// read returns the variable of the file that a process has mapped, or nil if the file does not
// have it.
func (c *elfCache) read(process string, m mapping) (*threadVariable, error) {
	path, info, err := findMapped(process, m)
	if err != nil {
		return nil, err
	}
	if variable, ok := c.get(identify(info)); ok {
		return variable, nil
	}
	// O_NONBLOCK, because the file may have been replaced by a pipe since it was examined.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	opened, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !os.SameFile(info, opened) {
		return nil, errReplaced
	}
	variable, err := readThreadVariable(file)
	if err != nil {
		return nil, err
	}
	c.put(identify(opened), variable)
	return variable, nil
}

func (c *elfCache) get(id fileID) (variable *threadVariable, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	variable, ok = c.variables[id]
	return variable, ok
}

func (c *elfCache) put(id fileID, variable *threadVariable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.variables == nil {
		c.variables = map[fileID]*threadVariable{}
	}
	for old := range c.variables {
		if len(c.variables) < maxFiles {
			break
		}
		delete(c.variables, old) // any one, as it is read again when it is needed
	}
	c.variables[id] = variable
}

var errReplaced = errors.New("the file has been deleted or replaced since the process mapped it")

// findMapped returns a path by which we can open the file that a process has mapped. That is its
// entry in map_files, which needs CAP_CHECKPOINT_RESTORE, and also leads to a file that was
// deleted or replaced. Otherwise it is the path as the process sees it, or that of the program, if
// the file has the inode that the process has mapped. The devices are not compared, since on btrfs
// and overlayfs they differ for the same file.
func findMapped(process string, m mapping) (string, fs.FileInfo, error) {
	path := filepath.Join(process, "map_files", fmt.Sprintf("%x-%x", m.start, m.end))
	info, err := os.Stat(path)
	for _, other := range []string{filepath.Join("root", m.path), "exe"} {
		if err == nil {
			break
		}
		path = filepath.Join(process, other)
		info, err = statInode(path, m.inode)
	}
	if err != nil {
		return "", nil, err
	}
	if !info.Mode().IsRegular() {
		return "", nil, fmt.Errorf("it is no regular file, but %v", info.Mode().Type())
	}
	return path, info, nil
}

func statInode(path string, want uint64) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if _, inode := deviceAndInode(info); inode != want {
		return nil, errReplaced
	}
	return info, nil
}
