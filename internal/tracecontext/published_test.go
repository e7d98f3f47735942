// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

// published is a process's memory from address 0: a header, and a payload that
// names a service.
type published struct {
	memory []byte
	reads  int
	again  int // the number of the read before which the context is published again
}

func newPublished(change func(header []byte)) *published {
	payload := "\x0a\x1a\x0a\x18\x0a\x0cservice.name\x12\x08\x0a\x06orders"
	header := make([]byte, publishedHeader)
	copy(header, publishedSignature)
	binary.LittleEndian.PutUint32(header[8:], publishedVersion)
	binary.LittleEndian.PutUint32(header[12:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(header[16:], 42)
	binary.LittleEndian.PutUint64(header[24:], publishedHeader)
	change(header)
	return &published{memory: append(header, payload...)}
}

func (p *published) ReadAt(content []byte, at int64) (int, error) {
	p.reads++
	if p.reads == p.again {
		binary.LittleEndian.PutUint64(p.memory[16:], 43)
	}
	if at < 0 || at > int64(len(p.memory)) {
		return 0, io.EOF
	}
	n := copy(content, p.memory[at:])
	if n < len(content) {
		return n, io.EOF
	}
	return n, nil
}

func TestReadPublished(t *testing.T) {
	whole := publishedContext{publishedNanos: 42, resource: map[string]string{"service.name": "orders"}}
	for name, test := range map[string]struct {
		change  func(header []byte)
		again   int
		want    publishedContext
		problem string
	}{
		"whole":         {want: whole},
		"being written": {change: func(h []byte) { clear(h[16:24]) }, problem: "being written"},
		"published again before the header is read":  {again: 2, problem: "being written"},
		"published again before the payload is read": {again: 3, problem: "being written"},
		"published again, read in time":              {again: 5, want: whole},
		"another memory":                             {change: func(h []byte) { h[0] = 'X' }, problem: `begins with "XTEL_CTX"`},
		"another version":                            {change: func(h []byte) { h[8] = 3 }, problem: "version 3, not 2"},
		"too large":                                  {change: func(h []byte) { h[14] = 2 }, problem: "more than 65536"},
		"payload is not there":                       {change: func(h []byte) { h[31] = 0xff }, problem: "read the context: EOF"},
		"payload is cut":                             {change: func(h []byte) { h[12]-- }, problem: "decode the context"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.change == nil {
				test.change = func([]byte) {}
			}
			memory := newPublished(test.change)
			memory.again = test.again
			got, err := readPublished(memory, 0)
			if fmt.Sprint(err) != "<nil>" && (test.problem == "" || !strings.Contains(err.Error(), test.problem)) || err == nil && test.problem != "" {
				t.Errorf("readPublished() error = %v, want %q", err, test.problem)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(publishedContext{})); diff != "" {
				t.Errorf("readPublished() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindPublished(t *testing.T) {
	var mappings []mapping
	for i, path := range []string{
		"/memfd:OTEL_CTX (deleted)",
		"/tmp/memfd:OTEL_CTX",
		"[anon:OTEL_CTX]",
		"[anon_shmem:OTEL_CTX]",
		"[anon:OTHER_OTEL_CTX]",
		"",
		"/memfd:OTEL_CTX (deleted)",
		"/memfd:OTEL_CTX (deleted)",
	} {
		mappings = append(mappings, mapping{start: uint64(i), path: path})
	}
	if diff := cmp.Diff([]uint64{0, 2, 3, 6}, findPublished(mappings)); diff != "" {
		t.Errorf("findPublished() differs (-want +got):\n%s", diff)
	}
}

func TestDecodeResource(t *testing.T) {
	for name, test := range map[string]struct {
		payload string
		want    map[string]string
		matches error
	}{
		"nothing":                           {want: map[string]string{}},
		"a number":                          {payload: "\x0a\x09\x0a\x07\x0a\x01n\x12\x02\x18\x2a", want: map[string]string{}},
		"an empty string":                   {payload: "\x0a\x09\x0a\x07\x0a\x01n\x12\x02\x0a\x00", want: map[string]string{"n": ""}},
		"the last of two":                   {payload: "\x0a\x0a\x0a\x08\x0a\x01n\x12\x03\x0a\x01a\x0a\x0a\x0a\x08\x0a\x01n\x12\x03\x0a\x01b", want: map[string]string{"n": "b"}},
		"attributes beside of the resource": {payload: "\x12\x08\x0a\x01n\x12\x03\x0a\x01a", want: map[string]string{}},
		"not UTF-8":                         {payload: "\x0a\x0a\x0a\x08\x0a\x01n\x12\x03\x0a\x01\xff", matches: proto.Error},
		"cut off":                           {payload: "\x0a\x0a\x0a\x08\x0a\x01n\x12\x03\x0a\x01", matches: io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeResource([]byte(test.payload))
			if !errors.Is(err, test.matches) {
				t.Errorf("decodeResource() error = %v, want %v", err, test.matches)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("decodeResource() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzDecodeResource(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		resource, err := decodeResource(payload)
		if err != nil {
			return
		}
		text := strings.Join(slices.Concat(slices.Collect(maps.Keys(resource)), slices.Collect(maps.Values(resource))), "")
		if !utf8.ValidString(text) || len(text) > len(payload) {
			t.Errorf("decodeResource() = %q", resource)
		}
	})
}
