package traffic

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitLearn(t *testing.T) {
	// Ten skbs of a stream, which a wire would carry as 440 frames.
	stream := bpfCount{Packets: 10, Bytes: 600_660, Frames: 440, FrameBytes: 629_040}
	exactly := func(packets, bytes int64) span {
		return span{from: tally{packets, bytes}, to: tally{packets, bytes}}
	}

	for name, test := range map[string]struct {
		usual   unit
		counted span
		want    unit
	}{
		"a counter of skbs": {
			usual:   unit{frames: true},
			counted: exactly(10, 600_660),
			want:    unit{framesKnown: true, bareKnown: true},
		},
		"a counter of frames": {
			counted: exactly(440, 629_040),
			want:    unit{frames: true, framesKnown: true, bareKnown: true},
		},
		"a counter of frames without link headers": {
			counted: exactly(440, 622_880),
			want:    unit{frames: true, framesKnown: true, bare: true, bareKnown: true},
		},
		"a counter that went on while the books were read": {
			counted: span{from: tally{9, 540_594}, to: tally{12, 720_792}},
			want:    unit{framesKnown: true, bare: true},
		},
		"a counter that went on so far that nothing can be said yet": {
			usual:   unit{frames: true},
			counted: span{to: tally{500, 700_000}},
			want:    unit{bare: true},
		},
		"a counter far from all is taken to be as usual": {
			usual:   unit{frames: true},
			counted: exactly(90_000, 90_000_000),
			want:    unit{frames: true, framesKnown: true, bareKnown: true},
		},
		"what is known stays": {
			usual:   unit{frames: true, framesKnown: true, bare: true, bareKnown: true},
			counted: exactly(10, 600_660),
			want:    unit{frames: true, framesKnown: true, bare: true, bareKnown: true},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := test.usual
			got.learn(test.counted, stream, 14)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(unit{})); diff != "" {
				t.Errorf("learn() differs (-want +got):\n%s", diff)
			}
		})
	}
}
