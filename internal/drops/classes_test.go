package drops

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-7756021b/nettap/internal/metadata"
)

//go:embed testdata/reasons.txt
var reasonsTXT string

// unclassified returns those of the reasons whose class the table leaves open.
func unclassified(t *testing.T, reasons []string) []string {
	t.Helper()
	table, err := readClasses(classesCSV)
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, reason := range reasons {
		if _, ok := table[place{reason: reason}]; !ok {
			missing = append(missing, reason)
		}
	}
	return missing
}

func TestClassesCoverTheReasonsOfLinux(t *testing.T) {
	var reasons []string
	for line := range strings.Lines(reasonsTXT) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
			reasons = append(reasons, line)
		}
	}
	want := []string{"not_specified"} // it says nothing: black holes are among it
	if diff := cmp.Diff(want, unclassified(t, reasons)); diff != "" {
		t.Errorf("reasons without a class differ (-want +got):\n%s", diff)
	}
}

func TestClassesOf(t *testing.T) {
	table, err := readClasses(`reason,function,class,why
no_socket,,loss,
queue_purge,,benign,
queue_purge,neigh_destroy,loss,
,unix_stream_connect,benign,
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		reason, function string
		want             class
	}{
		"a reason has its class":                          {"no_socket", "tcp_v4_rcv", metadata.AttributeNettapDropClassLoss},
		"a reason goes before a function":                 {"no_socket", "unix_stream_connect", metadata.AttributeNettapDropClassLoss},
		"a function that gives a reason goes before both": {"queue_purge", "neigh_destroy", metadata.AttributeNettapDropClassLoss},
		"a function counts where the reason says nothing": {"not_specified", "unix_stream_connect", metadata.AttributeNettapDropClassBenign},
		"the compiler's copy of a function is that function": {
			"queue_purge", "neigh_destroy.isra.0", metadata.AttributeNettapDropClassLoss,
		},
		"a drop without a function has its reason's class": {"queue_purge", "", metadata.AttributeNettapDropClassBenign},
		"what is not in the table is unknown":              {"not_specified", "ip_error", metadata.AttributeNettapDropClassUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := table.of(test.reason, test.function); got != test.want {
				t.Errorf("of(%q, %q) = %v, want %v", test.reason, test.function, got, test.want)
			}
		})
	}
}

func TestReadClassesErrors(t *testing.T) {
	for name, text := range map[string]string{
		"a class that there is not":     "reason,function,class,why\nno_socket,,bad,\n",
		"a row twice":                   "reason,function,class,why\nno_socket,,loss,\nno_socket,,benign,\n",
		"a row for nothing":             "reason,function,class,why\n,,loss,\n",
		"a row that is short of fields": "reason,function,class,why\nno_socket,loss\n",
	} {
		t.Run(name, func(t *testing.T) {
			if table, err := readClasses(text); err == nil {
				t.Errorf("readClasses() = %v, want an error", table)
			}
		})
	}
}
