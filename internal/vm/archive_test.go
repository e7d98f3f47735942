// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"strings"
	"testing"
)

func TestArchive(t *testing.T) {
	var written strings.Builder
	a := &Archive{to: &written}
	a.Directory("bin")
	a.File("bin/sh", []byte("hello"))
	if err := a.close(); err != nil {
		t.Fatal(err)
	}

	// The archive as cpio --format=newc writes it, except for the times and the number of
	// links.
	const zeros = "00000000"
	want := "070701" + "00000001" + "000041ED" + zeros + zeros + "00000001" + zeros + zeros + zeros + zeros + zeros + zeros + "00000004" + zeros + "bin\x00\x00\x00" +
		"070701" + "00000002" + "000081ED" + zeros + zeros + "00000001" + zeros + "00000005" + zeros + zeros + zeros + zeros + "00000007" + zeros + "bin/sh\x00\x00\x00\x00" +
		"hello\x00\x00\x00" +
		"070701" + "00000003" + zeros + zeros + zeros + "00000001" + zeros + zeros + zeros + zeros + zeros + zeros + "0000000B" + zeros + "TRAILER!!!\x00\x00\x00\x00"
	if written.String() != want {
		t.Errorf("archive is\n%q, want\n%q", written.String(), want)
	}
}
