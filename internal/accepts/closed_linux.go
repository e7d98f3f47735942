// SPDX-License-Identifier: Apache-2.0

package accepts

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"golang.org/x/sys/unix"

	"github.com/seed-7756021b/nettap/internal/closings"
	"github.com/seed-7756021b/nettap/internal/metadata"
	"github.com/seed-7756021b/nettap/internal/plain"
	"github.com/seed-7756021b/nettap/internal/process"
)

// maxAccepted is for how many open connections it is remembered who accepted them: some 15 MB.
const maxAccepted = 65_536

// acceptor is the process that accepted a connection.
type acceptor struct {
	process     process.ID
	seen        process.Seen
	established uint64 // CLOCK_BOOTTIME
}

// ends matches the ends of connections with the processes that accepted them.
type ends struct {
	accepted map[closings.ID]acceptor
	// ends that wait for the record of their accept, as a connection that was reset may end
	// before
	waiting []closings.Closing
}

// note remembers the processes that accepted connections.
func (e *ends) note(accepts []accept) {
	for _, a := range accepts {
		if len(e.accepted) >= maxAccepted {
			e.forgetOne()
		}
		e.accepted[a.id()] = acceptor{a.process, a.seen, a.established()}
	}
}

// forgetOne makes room. A connection that was remembered long ago has probably ended unseen.
func (e *ends) forgetOne() {
	for id := range e.accepted {
		delete(e.accepted, id)
		return
	}
}

// join returns the connections whose process is known, and how many ended that no process accepted
// while nettap ran. Incoming connections that have just ended wait for one more collection.
func (e *ends) join(ended []closings.Closing) (known []closings.Closing, nobodys int) {
	late := len(e.waiting)
	var waiting []closings.Closing
	for i, c := range append(e.waiting, ended...) {
		by, accepted := e.accepted[c.ID]
		switch {
		case !c.Incoming:
			known = append(known, c)
		case accepted:
			c.Process, c.Seen, c.Established = by.process, by.seen, by.established
			known = append(known, c)
			delete(e.accepted, c.ID)
		case i < late:
			nobodys++
		default:
			waiting = append(waiting, c)
		}
	}
	e.waiting = waiting
	return known, nobodys
}

// emitClosed adds a log record for each connection that ended, on the resource of the process
// that accepted or made it.
func emitClosed(logs plog.Logs, builder *metadata.LogsBuilder, describe func(process.ID, process.Seen) process.Process,
	wall func(bootNanos uint64) time.Time, now time.Time, ended []closings.Closing,
) {
	for _, group := range process.Group(ended, func(c closings.Closing) process.ID { return c.Process }) {
		for _, c := range group {
			recordClosed(builder, wall(c.Closed), c)
		}
		who := describe(group[0].Process, group[0].Seen)
		batch := builder.Emit(metadata.WithLogsResource(who.Resource(builder.NewResourceBuilder())))
		complete(batch, now, func(i int, record plog.LogRecord) {
			record.SetSeverityNumber(plog.SeverityNumberInfo)
			record.Body().SetStr(closedLine(group[i]))
		})
		batch.ResourceLogs().MoveAndAppendTo(logs.ResourceLogs())
	}
}

func recordClosed(builder *metadata.LogsBuilder, closed time.Time, c closings.Closing) {
	options := []metadata.EventAttributeOption{
		metadata.WithNetworkTransportEventAttribute("tcp"),
		metadata.WithNetworkTypeEventAttribute(networkType(c.Local.Addr())),
		metadata.WithNettapConnectionIDEventAttribute(c.ID.String()),
	}
	if c.ClosedBy != "" {
		options = append(options, metadata.WithNettapConnectionClosedByEventAttribute(c.ClosedBy))
	}
	if c.Error != 0 {
		options = append(options, metadata.WithErrorTypeEventAttribute(errorName(c.Error)))
	}
	if c.SmoothedRoundTrip > 0 {
		options = append(options, metadata.WithNettapConnectionRttSmoothedEventAttribute(c.SmoothedRoundTrip.Seconds()))
	}
	if c.LeastRoundTrip > 0 {
		options = append(options, metadata.WithNettapConnectionRttLeastEventAttribute(c.LeastRoundTrip.Seconds()))
	}
	role := "client"
	if c.Incoming {
		role = "server"
	}
	builder.RecordNettapConnectionClosedEvent(context.Background(), pcommon.NewTimestampFromTime(closed),
		c.Local.Addr().String(), int64(c.Local.Port()), c.Peer.Addr().String(), int64(c.Peer.Port()), int64(c.NetnsInode),
		role, duration(c).Seconds(), int64(c.BytesSent), int64(c.SegmentsSent), int64(c.BytesReceived), int64(c.SegmentsReceived),
		int64(c.Retransmits), options...)
}

func duration(c closings.Closing) time.Duration { return time.Duration(c.Closed - c.Established) }

func errorName(number uint32) string {
	if name := unix.ErrnoName(unix.Errno(number)); name != "" {
		return name
	}
	return fmt.Sprintf("errno_%d", number)
}

// closedLine describes the end of a connection in one line for people:
//
//	sshd[3165] uid 0: 10.64.0.5:22 with 10.64.0.227:51514 ended after 1.5s, 4096 bytes sent, 2048 received
func closedLine(c closings.Closing) string {
	return fmt.Sprintf("%s[%d] uid %d: %s with %s ended after %v, %d bytes sent, %d received", plain.Text(c.Seen.Comm), c.Process.PID,
		c.Process.RealUserID, c.Local, c.Peer, duration(c).Round(time.Microsecond), c.BytesSent, c.BytesReceived)
}
