// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/refusals"
)

// emitRefused adds a log record for each kind of refused attempts, on the resource of the host,
// since they reached no process. wall converts CLOCK_BOOTTIME to wall time; now is when they were
// read.
func emitRefused(logs plog.Logs, builder *metadata.LogsBuilder, host pcommon.Resource,
	wall func(bootNanos uint64) time.Time, now time.Time, refused []refusals.Refusal,
) {
	for _, r := range refused {
		recordRefused(builder, wall(r.FirstNanos), r)
	}
	batch := builder.Emit(metadata.WithLogsResource(host))
	complete(batch, now, func(i int, record plog.LogRecord) {
		record.SetSeverityNumber(plog.SeverityNumberInfo)
		record.Body().SetStr(refusedLine(refused[i]))
	})
	batch.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
}

func recordRefused(builder *metadata.LogsBuilder, first time.Time, r refusals.Refusal) {
	options := []metadata.EventAttributeOption{metadata.WithNetworkTransportEventAttribute("tcp")}
	if r.Peer.IsValid() {
		options = append(options, metadata.WithNetworkPeerAddressRefusedEventAttribute(r.Peer.String()),
			metadata.WithNetworkTypeEventAttribute(networkType(r.Peer)))
	}
	if r.Local.IsValid() {
		options = append(options, metadata.WithNetworkLocalAddressRefusedEventAttribute(r.Local.String()))
	}
	if r.Port != 0 {
		options = append(options, metadata.WithNetworkLocalPortRefusedEventAttribute(int64(r.Port)))
	}
	if r.NetnsInode != 0 {
		options = append(options, metadata.WithNettapNetnsInodeRefusedEventAttribute(int64(r.NetnsInode)))
	}
	builder.RecordNettapConnectionRefusedEvent(context.Background(), pcommon.NewTimestampFromTime(first), r.Cause, int64(r.Count), options...)
}

// refusedLine describes refused attempts in one line for people:
//
//	192.0.2.99 was refused on 10.64.0.5:23, closed_port, 3 times
//	192.0.2.99 was refused on many ports, closed_port, 65519 times
//	many were refused on port 22, queue_full, 1000000 times
//	many were refused on many ports, closed_port, 1000000 times
func refusedLine(r refusals.Refusal) string {
	who, where := "many were", "many ports"
	if r.Peer.IsValid() {
		who = r.Peer.String() + " was"
	}
	if r.Port != 0 {
		where = fmt.Sprintf("port %d", r.Port)
	}
	if r.Local.IsValid() {
		where = netip.AddrPortFrom(r.Local, r.Port).String()
	}
	return fmt.Sprintf("%s refused on %s, %s, %d times", who, where, r.Cause, r.Count)
}
