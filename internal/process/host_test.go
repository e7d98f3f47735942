// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadHostID(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"systemd's file":                 {files: map[string]string{"etc/machine-id": hostID + "\n"}, want: hostID},
		"D-Bus's file when it is alone":  {files: map[string]string{"var/lib/dbus/machine-id": hostID + "\n"}, want: hostID},
		"a machine that is being set up": {files: map[string]string{"etc/machine-id": "uninitialized\n"}},
		"no file":                        {},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range test.files {
				writeFile(t, root, file, content)
			}
			got, err := readHostID(root)
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("readHostID() = %q, %v, want %q", got, err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), filepath.Join(root, "etc/machine-id")) {
				t.Errorf("%v does not name the file", err)
			}
		})
	}
}

func TestParsePasswd(t *testing.T) {
	got := parsePasswd("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n# comment\nhalf:x\nbad:x:-1:0\n" +
		"nobody:x:65534:65534:a:b:c\nlast:x:4294967295:0")
	want := map[uint32]string{0: "root", 65534: "nobody", 4294967295: "last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parsePasswd() differs (-want +got):\n%s", diff)
	}
}

func TestUsersSeesANewUser(t *testing.T) {
	root := t.TempDir()
	users := newUsers(root)
	if got := users.name(33); got != "" {
		t.Errorf("without a file user 33 is %q", got)
	}
	writeFile(t, root, "etc/passwd", "root:x:0:0\n")
	if got := users.name(33); got != "" {
		t.Errorf("before it exists user 33 is %q", got)
	}
	writeFile(t, root, "etc/passwd", "root:x:0:0\nwww:x:33:33\n")
	later := time.Now().Add(time.Second) // the clock of the file system may be coarse
	if err := os.Chtimes(filepath.Join(root, "etc/passwd"), later, later); err != nil {
		t.Fatal(err)
	}
	if got := users.name(33); got != "www" {
		t.Errorf("user 33 is %q, want www", got)
	}
}
