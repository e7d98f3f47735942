// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFirstFetched(t *testing.T) {
	newest, older, oldest := debianPackage{name: "c"}, debianPackage{name: "b"}, debianPackage{name: "a"}
	all := []debianPackage{newest, older, oldest}
	nowhere := errors.New("404 Not Found")

	for name, test := range map[string]struct {
		fails     map[string]error
		want      debianPackage
		wantOlder []debianPackage
		wantError string
	}{
		"the newest is there":              {want: newest, wantOlder: []debianPackage{older, oldest}},
		"the newest is not there any more": {fails: map[string]error{"c": nowhere}, want: older, wantOlder: []debianPackage{oldest}},
		"none is there":                    {fails: map[string]error{"a": nowhere, "b": nowhere, "c": nowhere}, wantError: "no such package can be had"},
	} {
		t.Run(name, func(t *testing.T) {
			got, gotOlder, err := firstFetched(all, func(p debianPackage) error { return test.fails[p.name] })
			if message(err) != test.wantError {
				t.Errorf("firstFetched() fails with %q, want %q", message(err), test.wantError)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(debianPackage{})); diff != "" {
				t.Errorf("firstFetched() differs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wantOlder, gotOlder, cmp.AllowUnexported(debianPackage{})); diff != "" {
				t.Errorf("firstFetched() has other older ones (-want +got):\n%s", diff)
			}
		})
	}
}
