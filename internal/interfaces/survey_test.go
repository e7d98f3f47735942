// SPDX-License-Identifier: Apache-2.0

package interfaces

import "testing"

func TestSurveyKnowsWhatIsGone(t *testing.T) {
	const inhabited, uninhabited, vanished, crowded = 1, 2, 3, 4
	survey := Survey{Epoch: 7, Whole: true, All: map[uint64]Namespace{
		inhabited:   {Epoch: 7, Pid: 1, Whole: 1},
		crowded:     {Epoch: 7, Pid: 2},
		uninhabited: {Epoch: 7},
	}}
	for name, test := range map[string]struct {
		netns, epoch uint64
		want         bool
	}{
		"one that was found":                          {inhabited, 7, false},
		"one that was met after the survey":           {vanished, 8, false},
		"one that was not found":                      {inhabited, 6, true},
		"one of a namespace that is no more":          {vanished, 6, true},
		"one of a namespace that was not looked into": {uninhabited, 6, false},
		"one of a namespace that has too many":        {crowded, 6, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := survey.Gone(Key{Netns: test.netns, Ifindex: 4}, Entry{Epoch: test.epoch}); got != test.want {
				t.Errorf("Gone() = %v, want %v", got, test.want)
			}
		})
	}
	survey.Whole = false
	if survey.Gone(Key{Netns: vanished}, Entry{Epoch: 6}) {
		t.Error("an interface is gone though its namespace may not have been found")
	}
	if got := len(survey.Namespaces()); got != 2 {
		t.Errorf("%d namespaces have a process, want 2", got)
	}
}
