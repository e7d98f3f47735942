// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// palette is the set of colours of a picture. A document shows the picture that fits the reader's
// background, which is left transparent.
type palette struct {
	name                       string // also part of the picture's name
	text, faint, first, second string
}

// palettes are those of GitHub's light and dark pages.
var palettes = []palette{
	{name: "light", text: "#1f2328", faint: "#d1d9e0", first: "#0969da", second: "#bc4c00"},
	{name: "dark", text: "#f0f6fc", faint: "#3d444d", first: "#4493f8", second: "#db6d28"},
}

// The sizes of a picture, in pixels.
const (
	plotWidth, plotHeight = 165.0, 130.0
	gapX, gapY            = 40.0, 88.0
	marginLeft, marginTop = 60.0, 46.0
	markRadius            = 3.5
)

// curve is one curve of a plot.
type curve struct {
	name   string
	of     func(point) float64
	colour func(palette) string
}

// rows are the figures that a picture shows, one below the other.
var rows = []struct {
	title  string
	format string
	curves []curve
}{
	{"CPU, % of a core", "%.1f", []curve{
		{"", func(p point) float64 { return p.CPU }, func(p palette) string { return p.first }},
	}},
	{"memory, MB", "%.0f", []curve{
		{"the Collector", func(p point) float64 { return p.Memory }, func(p palette) string { return p.first }},
		{"BPF maps", func(p point) float64 { return p.Maps }, func(p palette) string { return p.second }},
	}},
}

// columns are the dimensions, next to each other, and the text below each.
var columns = []struct{ of, title string }{
	{ofProcesses, "processes"},
	{ofSockets, "sockets of one process"},
	{ofInterfaces, "interfaces"},
	{ofCores, "cores, with 1,000 processes"},
}

// draw writes the pictures of a record into a directory.
func (s scale) draw(directory string) error {
	var errs error
	for _, p := range palettes {
		errs = errors.Join(errs, os.WriteFile(filepath.Join(directory, p.file()), []byte(s.picture(p)), 0o644))
	}
	return errs
}

func (p palette) file() string { return "cost-" + p.name + ".svg" }

// picture returns the record as SVG: a plot for each figure and dimension.
func (s scale) picture(colours palette) string {
	width := marginLeft + float64(len(columns))*(plotWidth+gapX)
	height := marginTop + float64(len(rows))*(plotHeight+gapY)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" font-family="system-ui, sans-serif" font-size="12" fill="%s">`+"\n",
		width, height, width, height, colours.text)
	fmt.Fprintln(&b, "<title>What a Collector takes by processes, sockets, interfaces and cores</title>")
	for i, row := range rows {
		top := marginTop + float64(i)*(plotHeight+gapY)
		fmt.Fprintf(&b, `<text x="%.0f" y="%.1f" font-weight="600">%s</text>`+"\n", marginLeft, top-24, row.title)
		if len(row.curves) > 1 {
			for j, c := range row.curves {
				x := marginLeft + 120 + float64(j)*130
				fmt.Fprintf(&b, `<circle cx="%.0f" cy="%.1f" r="%.1f" fill="%s"/><text x="%.0f" y="%.1f">%s</text>`+"\n",
					x, top-28, markRadius, c.colour(colours), x+10, top-24, c.name)
			}
		}
		most := 0.0
		for _, p := range s.Points {
			for _, c := range row.curves {
				most = max(most, c.of(p))
			}
		}
		step := niceStep(most)
		axis := axis{top: top, most: step * math.Ceil(most/step), step: step}
		for j, column := range columns {
			left := marginLeft + float64(j)*(plotWidth+gapX)
			axis.draw(&b, colours, left, j == 0)
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", left+plotWidth/2, top+plotHeight+36, column.title)
			s.plot(&b, colours, column.of, left, axis, row.curves, row.format)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// axis is the vertical axis of a row of plots.
type axis struct{ top, most, step float64 }

func (a axis) y(value float64) float64 { return a.top + plotHeight*(1-value/a.most) }

// draw draws the lines of the steps, with their values next to the first plot.
func (a axis) draw(b *strings.Builder, colours palette, left float64, valued bool) {
	for value := 0.0; value <= a.most*1.001; value += a.step {
		fmt.Fprintf(b, `<path d="M%.1f %.1fh%.0f" stroke="%s"/>`+"\n", left, a.y(value), plotWidth, colours.faint)
		if valued {
			fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="end">%g</text>`+"\n", left-8, a.y(value)+4, value)
		}
	}
}

// niceStep returns a step of 1, 2 or 5 times a power of ten that makes at most five steps.
func niceStep(most float64) float64 {
	if most <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(most/5)))
	for _, times := range []float64{1, 2, 5} {
		if most <= 5*times*unit {
			return times * unit
		}
	}
	return 10 * unit
}

// plot draws the curves of a dimension on a logarithmic scale. A dotted line shows what a
// Collector takes without a load.
func (s scale) plot(b *strings.Builder, colours palette, of string, left float64, a axis, curves []curve, format string) {
	const inset = 22.0
	var points []point
	for _, p := range s.Points {
		if p.Of == of {
			points = append(points, p)
		}
	}
	if len(points) == 0 {
		return
	}
	first, last := math.Log10(float64(points[0].Number)), math.Log10(float64(points[len(points)-1].Number))
	x := func(p point) float64 {
		if first == last {
			return left + plotWidth/2
		}
		return left + inset + (plotWidth-2*inset)*(math.Log10(float64(p.Number))-first)/(last-first)
	}
	for _, p := range points {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(p), a.top+plotHeight+18, thousands(float64(p.Number)))
	}
	for _, c := range curves {
		colour := c.colour(colours)
		for _, p := range s.Points {
			if p.Of == ofNothing {
				fmt.Fprintf(b, `<path d="M%.1f %.1fh%.0f" stroke="%s" stroke-dasharray="2 4"/>`+"\n", left, a.y(c.of(p)), plotWidth, colour)
			}
		}
		var line []string
		for _, p := range points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", x(p), a.y(c.of(p))))
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(line, " "), colour)
		for _, p := range points {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"/><text x="%.1f" y="%.1f" text-anchor="middle" font-size="11">%s</text>`+"\n",
				x(p), a.y(c.of(p)), markRadius, colour, x(p), a.y(c.of(p))-8, fmt.Sprintf(format, c.of(p)))
		}
	}
}
