// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// functionTable returns a table with functions at 0, 16, 32 and so on.
func functionTable(names ...string) []byte {
	header := make([]byte, goFunctionsSize)
	copy(header, goFunctionsMagic+"\x01\x08")
	text := []byte(strings.Join(names, "\x00") + "\x00")
	var entries, records []byte
	offset := 0
	for i, name := range names {
		entries = binary.LittleEndian.AppendUint32(entries, uint32(16*i))
		entries = binary.LittleEndian.AppendUint32(entries, uint32(8*len(names)+8*i))
		records = binary.LittleEndian.AppendUint32(records, uint32(16*i))
		records = binary.LittleEndian.AppendUint32(records, uint32(offset))
		offset += len(name) + 1
	}
	for word, value := range map[int]int{0: len(names), 3: len(header), 7: len(header) + len(text)} {
		binary.LittleEndian.PutUint64(header[8+8*word:], uint64(value))
	}
	return slices.Concat(header, text, entries, records)
}

func TestPooled(t *testing.T) {
	many := slices.Repeat([]string{"net/http.(*Transport).dialConn.gowrap"}, 20)
	for name, test := range map[string]struct {
		version   string
		functions []string
		want      []uint64
	}{
		"none": {version: "go1.26.0", functions: []string{"main.main"}},
		"in the order of the list": {
			version:   "go1.26.0",
			functions: []string{"main.main", "database/sql.OpenDB.gowrap1", "net/http.(*Transport).dialConn.gowrap3", "net/http.(*Transport).dialConn"},
			want:      []uint64{0x1020, 0x1010},
		},
		"literals start goroutines in Go 1.21": {
			version:   "go1.21.3",
			functions: []string{"net/http.(*Transport).dialConn.func5"},
			want:      []uint64{0x1000},
		},
		"and not later": {version: "go1.22.0", functions: []string{"net/http.(*Transport).dialConn.func5"}},
		"no more than the kernel side compares": {
			version:   "go1.26.0",
			functions: many,
			want:      []uint64{0x1000, 0x1010, 0x1020, 0x1030, 0x1040, 0x1050, 0x1060, 0x1070, 0x1080, 0x1090, 0x10a0, 0x10b0, 0x10c0, 0x10d0, 0x10e0, 0x10f0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			functions, err := newGoFunctions(functionTable(test.functions...), 0x1000)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, functions.pooled(test.version)); diff != "" {
				t.Errorf("pooled() differs (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzGoFunctions(f *testing.F) {
	f.Fuzz(func(t *testing.T, content []byte) {
		functions, err := newGoFunctions(content, 0x1000)
		if err != nil {
			return
		}
		if pooled := functions.pooled("go1.26.0"); len(pooled) > maxPooled {
			t.Errorf("pooled() returns %d functions, more than %d", len(pooled), maxPooled)
		}
	})
}

func TestDecodeStackcheck(t *testing.T) {
	for name, test := range map[string]struct {
		code string
		want int32 // 0 for an error
	}{
		"at a fixed address":                   {"\x64\x48\x8b\x04\x25\xf8\xff\xff\xff\x48\x39\x60\x08\x77\x05", -8},
		"with C, static":                       {"\x64\x48\x8b\x04\x25\xa0\xff\xff\xff\x48\x39\x60\x08\x77\x05", -96},
		"position-independent":                 {"\x48\xc7\xc1\xf8\xff\xff\xff\x64\x48\x8b\x01\x48\x39\x60\x08", -8},
		"an offset that only the loader knows": {"\x48\x8b\x0d\x01\x02\x03\x04\x64\x48\x8b\x01\x48\x39\x60\x08", 0},
		"another use of what it loads":         {"\x64\x48\x8b\x04\x25\xf8\xff\xff\xff\x48\x39\x60\x10\x77\x05", 0},
		"an offset that is none":               {"\x64\x48\x8b\x04\x25\x08\x00\x00\x00\x48\x39\x60\x08\x77\x05", 0},
		"an offset between words":              {"\x64\x48\x8b\x04\x25\xf9\xff\xff\xff\x48\x39\x60\x08\x77\x05", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decodeStackcheck([15]byte([]byte(test.code)))
			if got != test.want || (err == nil) != (test.want != 0) {
				t.Errorf("decodeStackcheck(% x) = %d, %v, want %d", test.code, got, err, test.want)
			}
		})
	}
}
