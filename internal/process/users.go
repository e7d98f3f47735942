// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// users knows the names of the host's users from its passwd file. Package os/user would read that
// of the container.
type users struct {
	file string

	mu    sync.Mutex
	read  time.Time // modification time of the file when it was read
	names map[uint32]string
}

func newUsers(rootPath string) *users {
	return &users{file: filepath.Join("/", rootPath, "/etc/passwd")}
}

// name returns the name of a user, or "" if it is not known.
func (u *users) name(id uint32) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(u.file)
	if err != nil {
		return ""
	}
	if !info.ModTime().Equal(u.read) {
		content, err := os.ReadFile(u.file)
		if err != nil {
			return ""
		}
		u.names, u.read = parsePasswd(string(content)), info.ModTime()
	}
	return u.names[id]
}

// parsePasswd returns the names of users by id. If an id has several names it is the first.
//
// Source: passwd(5).
func parsePasswd(content string) map[uint32]string {
	names := map[uint32]string{}
	for line := range strings.Lines(content) {
		fields := strings.Split(line, ":")
		if len(fields) < 3 {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, known := names[uint32(id)]; err == nil && !known {
			names[uint32(id)] = fields[0]
		}
	}
	return names
}
