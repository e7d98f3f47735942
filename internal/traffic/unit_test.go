// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitLearn(t *testing.T) {
	// These are ten skbs of a stream, which a wire would carry as 440 frames.
	stream := bpfCount{Packets: 10, Bytes: 600_660, Frames: 440, FrameBytes: 629_040}
	exactly := func(packets, bytes int64) span {
		return span{from: tally{packets, bytes}, to: tally{packets, bytes}}
	}

	yes, no, maybe := property{is: true, known: true}, property{known: true}, property{is: true}
	for name, test := range map[string]struct {
		usual   unit
		counted span
		want    unit
	}{
		"a counter of skbs": {
			usual:   unit{frames: maybe},
			counted: exactly(10, 600_660),
			want:    unit{frames: no, bare: no},
		},
		"a counter of frames": {
			counted: exactly(440, 629_040),
			want:    unit{frames: yes, bare: no},
		},
		"a counter of frames without link headers": {
			counted: exactly(440, 622_880),
			want:    unit{frames: yes, bare: yes},
		},
		"a counter that went on while the accounts were read": {
			counted: span{from: tally{9, 540_594}, to: tally{12, 720_792}},
			want:    unit{frames: no, bare: maybe},
		},
		"a counter that went on so far that nothing can be said yet": {
			usual:   unit{frames: maybe},
			counted: span{to: tally{500, 700_000}},
			want:    unit{bare: maybe},
		},
		"a counter far from all is taken to be as usual": {
			usual:   unit{frames: maybe},
			counted: exactly(90_000, 90_000_000),
			want:    unit{frames: yes, bare: no},
		},
		"what is known stays": {
			usual:   unit{frames: yes, bare: yes},
			counted: exactly(10, 600_660),
			want:    unit{frames: yes, bare: yes},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.usual
			got.learn(test.counted, stream, 14)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(unit{}, property{})); diff != "" {
				t.Errorf("learn() differs (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUnitLearnWithoutAPacket has packets of 70 bytes in the accounts, one of which is missing in the counter. That is as many bytes as
// the link headers of five packets.
func TestUnitLearnWithoutAPacket(t *testing.T) {
	type look struct {
		packets uint64 // in the accounts
		counted tally
		want    property // bare
	}
	pending := func(since uint64) property { return property{is: true, since: since} }
	for name, looks := range map[string][]look{
		"that is on its way": {
			{5, tally{4, 4 * 70}, pending(5)},
			{5, tally{5, 5 * 70}, property{known: true}},
		},
		"at any time": {
			{5, tally{4, 4 * 70}, pending(5)},
			{6, tally{5, 5 * 70}, property{known: true}},
		},
		"at any time, without link headers": {
			{10, tally{9, 9 * 56}, pending(10)},
			{39, tally{38, 38 * 56}, pending(10)},
			{40, tally{39, 39 * 56}, property{is: true, known: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var u unit
			for _, look := range looks {
				u = usualUnit(u, bpfInterfaceEntry{}, bpfDirectionTRANSMIT)
				moved := bpfCount{Packets: look.packets, Bytes: look.packets * 70, Frames: look.packets, FrameBytes: look.packets * 70}
				u.learn(span{from: look.counted, to: look.counted}, moved, 14)
				if diff := cmp.Diff(look.want, u.bare, cmp.AllowUnexported(property{})); diff != "" {
					t.Errorf("after %+v (-want +got):\n%s", look, diff)
				}
			}
		})
	}
}
