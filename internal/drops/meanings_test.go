// SPDX-License-Identifier: Apache-2.0

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

// unclassified returns the reasons for which the table has no class.
func unclassified(t *testing.T, reasons []string) []string {
	t.Helper()
	table, err := readMeanings(reasonsCSV)
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
	if diff := cmp.Diff([]string(nil), unclassified(t, reasons)); diff != "" {
		t.Errorf("reasons without a class differ (-want +got):\n%s", diff)
	}
}

func TestClassesOf(t *testing.T) {
	table, err := readMeanings(`reason,function,class,why,advice
no_socket,,loss,why,advice
queue_purge,,benign,why,advice
queue_purge,neigh_destroy,loss,why,advice
,unix_stream_connect,benign,why,advice
not_specified,,unknown,why,advice
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
		"a reason that says nothing has its own":           {"not_specified", "ip_error", metadata.AttributeNettapDropClassUnknown},
		"what is not in the table is unknown":              {"new_in_linux_9", "ip_error", metadata.AttributeNettapDropClassUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := table.of(test.reason, test.function); got != test.want {
				t.Errorf("of(%q, %q) = %v, want %v", test.reason, test.function, got, test.want)
			}
		})
	}
}

func TestReadMeaningsErrors(t *testing.T) {
	for name, text := range map[string]string{
		"a class that there is not":     "reason,function,class,why,advice\nno_socket,,bad,why,advice\n",
		"a row twice":                   "reason,function,class,why,advice\nno_socket,,loss,why,advice\nno_socket,,benign,why,advice\n",
		"a row for nothing":             "reason,function,class,why,advice\n,,loss,why,advice\n",
		"a row without an advice":       "reason,function,class,why,advice\nno_socket,,loss,why,\n",
		"a row that is short of fields": "reason,function,class,why,advice\nno_socket,loss\n",
	} {
		t.Run(name, func(t *testing.T) {
			if table, err := readMeanings(text); err == nil {
				t.Errorf("readMeanings() = %v, want an error", table)
			}
		})
	}
}

func TestExplanations(t *testing.T) {
	for name, test := range map[string]struct {
		series series
		want   string
	}{
		"a reason": {
			series{reason: "no_socket", function: "tcp_v4_rcv", class: loss},
			"Nobody listens; the sender may get a reset or an ICMP error. Start what should listen on the port, or find out who sends there.",
		},
		"one that the kernel does not name": {
			series{reason: "reason_196615", class: unknown},
			"A reason that the types of this kernel do not name, such as that of a module without BTF. Look at the function.",
		},
		"an empty segment": {
			series{reason: "no_socket", function: "tcp_v4_rcv", class: benign},
			"A TCP segment without data or SYN for a connection that is gone: a reset or FIN or ACK. Nothing is to be done.",
		},
		"a function, where the reason says nothing": {
			series{reason: "not_specified", function: "unix_stream_connect", class: benign},
			"The notice of a connection that was not made: connect() fails with an error. Look at the error that connect() gave: its listener was full or gone.",
		},
		"a loss for a reason that is mostly none, of a function that is not known": {series{reason: "queue_purge", class: loss}, ""},
		"what the table does not have":                                             {series{reason: "new_in_linux_9", class: unknown}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.series.explanation(); got != test.want {
				t.Errorf("explanation() = %q, want %q", got, test.want)
			}
		})
	}
}
