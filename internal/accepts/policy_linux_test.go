// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/policy"
)

func TestEmitSaysWhatThePolicyDoes(t *testing.T) {
	a := New(metadata.NewLogsBuilder(metadata.DefaultLogsBuilderConfig(), settings()), nil, nil, nil, nil,
		Options{Expect: []policy.Rule{{Commands: []string{"sshd"}, Peers: []netip.Prefix{netip.MustParsePrefix("10.64.0.227/32")}}}})
	stranger := decodedAccept()
	stranger.peer = netip.MustParseAddrPort("192.0.2.99:4000")
	logs := emit(a.builder, describe, a.judge, wall, now, []accept{decodedAccept(), stranger})

	type said struct {
		verdict, body string
		severity      plog.SeverityNumber
	}
	var got []said
	for record := range records(logs) {
		verdict, _ := record.Attributes().Get("nettap.policy.verdict")
		got = append(got, said{verdict.Str(), record.Body().Str(), record.SeverityNumber()})
	}
	want := []said{
		{"expected", "sshd[3165] uid 0 accepted 10.64.0.227:51514 on 10.64.0.5:22", plog.SeverityNumberInfo},
		{"unexpected", "sshd[3165] uid 0 accepted 192.0.2.99:4000 on 10.64.0.5:22, unexpected", plog.SeverityNumberWarn},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(said{})); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
}
