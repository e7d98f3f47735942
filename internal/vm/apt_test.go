// SPDX-License-Identifier: Apache-2.0

package vm

import "testing"

func TestMirrorOf(t *testing.T) {
	const targets = "Another http://other.example/apt\nDebian-Security http://mirror.example/security\nDebian http://mirror.example/debian\n"

	for name, test := range map[string]struct {
		suite, targets  string
		want, wantError string
	}{
		"a suite":             {suite: "trixie-backports", targets: targets, want: "http://mirror.example/debian"},
		"a suite of security": {suite: "trixie-security", targets: targets, want: "http://mirror.example/security"},
		"a machine without Debian's sources": {
			suite: "sid", targets: "Ubuntu http://mirror.example/ubuntu\n",
			wantError: "no apt source of this machine is labelled Debian, or apt-get update has not been run yet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mirrorOf(test.suite, test.targets)
			if got != test.want || message(err) != test.wantError {
				t.Errorf("mirrorOf() = %q, %q, want %q, %q", got, message(err), test.want, test.wantError)
			}
		})
	}
}
