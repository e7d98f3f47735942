// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The pictures of docs/cost.md show what is recorded.
func TestPicturesShowTheRecord(t *testing.T) {
	root := filepath.Join("..", "..")
	s, err := readScale(filepath.Join(root, scaleFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range palettes {
		file := filepath.Join(root, pictureDirectory, p.file())
		drawn, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(drawn) != s.picture(p) {
			t.Errorf("%s is not what %s gives: run go run ./internal/bench -table", file, scaleFile)
		}
	}
}

func TestPictureHasAPlotForEachDimension(t *testing.T) {
	s := scale{Points: []point{
		{Of: ofNothing, CPU: 0.5, Memory: 100, Maps: 10},
		{Of: ofProcesses, Number: 100, CPU: 1, Memory: 120, Maps: 10},
		{Of: ofProcesses, Number: 8000, CPU: 4, Memory: 200, Maps: 20},
		{Of: ofCores, Number: 1, CPU: 2, Memory: 130, Maps: 10},
	}}
	got := s.picture(palettes[0])
	for _, want := range []string{
		">8,000</text>", ">processes</text>", ">cores, with 1,000 processes</text>", ">interfaces</text>", ">4.0</text>", ">200</text>", "stroke-dasharray",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the picture lacks %s:\n%s", want, got)
		}
	}
}

func TestNiceStep(t *testing.T) {
	got := map[float64]float64{}
	for _, most := range []float64{0, 0.9, 1, 4.4, 7, 200, 260} {
		got[most] = niceStep(most)
	}
	want := map[float64]float64{0: 1, 0.9: 0.2, 1: 0.2, 4.4: 1, 7: 2, 200: 50, 260: 100}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("niceStep() differs (-want +got):\n%s", diff)
	}
}

func TestPointsUseTheCoresThatThereAre(t *testing.T) {
	var got []int
	for _, p := range points(6) {
		if p.Of == ofCores {
			got = append(got, p.Number)
		}
	}
	if diff := cmp.Diff([]int{1, 2, 4}, got); diff != "" {
		t.Errorf("points() differ (-want +got):\n%s", diff)
	}
}
