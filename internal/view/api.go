// SPDX-License-Identifier: Apache-2.0

package view

// The JSON that the server returns. docs/view.md explains each field.

// State is what happened in the last 15 minutes.
type State struct {
	Version      int    `json:"version"`
	Instance     string `json:"instance"`
	Seq          int64  `json:"seq"`
	AtMS         int64  `json:"at_ms"`
	StartedMS    int64  `json:"started_ms"`
	Receiver     string `json:"receiver"`
	Host         Host   `json:"host"`
	TraceURL     string `json:"trace_url,omitempty"`
	CommandLines bool   `json:"command_lines"`
	Slots        Slots  `json:"slots"`

	Processes        []Process   `json:"processes"`
	ProcessesLeftOut int         `json:"processes_left_out"`
	Interfaces       []Interface `json:"interfaces"`
	Drops            []Drop      `json:"drops"`
	Losses           []Drop      `json:"losses"`
	Listeners        []Listener  `json:"listeners"`
	Accepts          []Accept    `json:"accepts"`
	AcceptsLeftOut   int         `json:"accepts_left_out"`
	Notices          []Notice    `json:"notices"`
	NoticesLeftOut   int         `json:"notices_left_out"`
	Resets           []Drop      `json:"resets"`
	Unseen           []Drop      `json:"unseen"`
	Deeds            []Drop      `json:"deeds"`
	Queues           []Queue     `json:"queues"`
	Durations        []Duration  `json:"durations"`
	Packets          []Notice    `json:"packets"`
	PacketsLeftOut   int         `json:"packets_left_out"`
	Calls            []Call      `json:"calls"`
	CallsLeftOut     int         `json:"calls_left_out"`
	Health           Health      `json:"health"`
}

// Host describes the machine.
type Host struct {
	Name string `json:"name,omitempty"`
	ID   string `json:"id,omitempty"`
}

// Slots describes the slots of all series in a state. The last slot contains the present moment.
type Slots struct {
	FirstMS int64   `json:"first_ms"`
	StepS   int     `json:"step_s"`
	Count   int     `json:"count"`
	LastS   float64 `json:"last_s"`
}

// Process is a process that has sent, received, accepted or lost something, or made a call that
// was kept.
type Process struct {
	ID          string `json:"id"`
	PID         int64  `json:"pid,omitempty"`
	StartedMS   int64  `json:"started_ms,omitempty"`
	Comm        string `json:"comm,omitempty"`
	Executable  string `json:"executable,omitempty"`
	UID         *int64 `json:"uid,omitempty"`
	EUID        *int64 `json:"euid,omitempty"`
	Container   string `json:"container,omitempty"`
	Pod         string `json:"pod,omitempty"`
	Service     string `json:"service,omitempty"`
	CommandLine string `json:"command_line,omitempty"`
	EndedMS     int64  `json:"ended_ms,omitempty"`

	Interfaces []ProcessInterface `json:"interfaces,omitempty"`
}

// ProcessInterface is what a process moved over one interface.
type ProcessInterface struct {
	Interface string         `json:"interface,omitempty"`
	TxBytes   uint64         `json:"tx_bytes"`
	RxBytes   uint64         `json:"rx_bytes"`
	TxPackets uint64         `json:"tx_packets"`
	RxPackets uint64         `json:"rx_packets"`
	Series    *ProcessSeries `json:"series,omitempty"`
}

// ProcessSeries is the same for each slot.
type ProcessSeries struct {
	TxBytes   []number `json:"tx_bytes,omitempty"`
	RxBytes   []number `json:"rx_bytes,omitempty"`
	TxPackets []number `json:"tx_packets,omitempty"`
	RxPackets []number `json:"rx_packets,omitempty"`
}

// Interface is an interface with its accounts.
type Interface struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Netns   int64  `json:"netns,omitempty"`
	Stacked bool   `json:"stacked"`
	EndedMS int64  `json:"ended_ms,omitempty"`
	Tx      *Sides `json:"tx,omitempty"`
	Rx      *Sides `json:"rx,omitempty"`
}

// Sides are what an interface moved in one direction, in both units.
type Sides struct {
	Bytes   AccountTotals `json:"bytes"`
	Packets AccountTotals `json:"packets"`
}

// AccountTotals are what is on each account, and what is on none.
type AccountTotals struct {
	Accounts   map[string]int64    `json:"accounts"`
	Unobserved *int64              `json:"unobserved,omitempty"`
	Total      int64               `json:"total"`
	Series     map[string][]number `json:"series,omitempty"`
}

// Drop is one place and reason of drops, or what a process has lost for one reason.
type Drop struct {
	ID        string      `json:"id"`
	Symbol    string      `json:"symbol,omitempty"`
	Reason    string      `json:"reason,omitempty"`
	Class     string      `json:"class,omitempty"`
	Why       string      `json:"why,omitempty"`
	Advice    string      `json:"advice,omitempty"`
	Interface string      `json:"interface,omitempty"`
	Transport string      `json:"transport,omitempty"`
	Type      string      `json:"type,omitempty"`
	Process   string      `json:"process,omitempty"`
	Direction string      `json:"direction,omitempty"`
	Victim    string      `json:"victim,omitempty"`
	Packets   uint64      `json:"packets"`
	Series    *DropSeries `json:"series,omitempty"`
}

// DropSeries is the same for each slot.
type DropSeries struct {
	Packets []number `json:"packets"`
}

// Listener is a process that accepted connections on a port.
type Listener struct {
	ID          string          `json:"id"`
	Process     string          `json:"process"`
	Address     string          `json:"address,omitempty"`
	Port        int             `json:"port"`
	Connections uint64          `json:"connections"`
	Unexpected  uint64          `json:"unexpected"`
	Series      *ListenerSeries `json:"series,omitempty"`
}

// ListenerSeries is the same for each slot.
type ListenerSeries struct {
	Connections []number `json:"connections"`
}

// End is one side of a connection.
type End struct {
	Address string `json:"address,omitempty"`
	Port    int    `json:"port,omitempty"`
}

// Accept is one accepted connection.
type Accept struct {
	ID          string   `json:"id"`
	AtMS        int64    `json:"at_ms"`
	Process     string   `json:"process"`
	Thread      int64    `json:"thread,omitempty"`
	Local       End      `json:"local"`
	Peer        End      `json:"peer"`
	Transport   string   `json:"transport,omitempty"`
	Type        string   `json:"type,omitempty"`
	QueueMS     *float64 `json:"queue_ms,omitempty"`
	QueueLength *int64   `json:"queue_length,omitempty"`
	QueueLimit  *int64   `json:"queue_limit,omitempty"`
	Verdict     string   `json:"verdict,omitempty"`
	TraceID     string   `json:"trace_id,omitempty"`
}

// Call is a socket call that was kept.
type Call struct {
	ID            string  `json:"id"`
	AtMS          float64 `json:"at_ms"`
	DurationMS    float64 `json:"duration_ms"`
	Name          string  `json:"name"`
	Syscall       string  `json:"syscall,omitempty"`
	FD            *int64  `json:"fd,omitempty"`
	Process       string  `json:"process"`
	Thread        int64   `json:"thread,omitempty"`
	ThreadName    string  `json:"thread_name,omitempty"`
	Kept          string  `json:"kept,omitempty"`
	Error         string  `json:"error,omitempty"`
	CPUMS         float64 `json:"cpu_ms"`
	RunnableMS    float64 `json:"runnable_ms"`
	BlockedMS     float64 `json:"blocked_ms"`
	IdleMS        float64 `json:"idle_ms"`
	BlockedOn     string  `json:"blocked_on,omitempty"`
	Wait          *Wait   `json:"wait,omitempty"`
	Bytes         *int64  `json:"bytes,omitempty"`
	Local         *End    `json:"local,omitempty"`
	Peer          *End    `json:"peer,omitempty"`
	Transport     string  `json:"transport,omitempty"`
	Type          string  `json:"type,omitempty"`
	TraceID       string  `json:"trace_id,omitempty"`
	SpanID        string  `json:"span_id,omitempty"`
	ParentSpanID  string  `json:"parent_span_id,omitempty"`
	Functions     int     `json:"functions"`
	LostFunctions int64   `json:"lost_functions,omitempty"`
	Nodes         []Node  `json:"nodes,omitempty"`
}

// Wait is an operation that began in one call and ended in another.
type Wait struct {
	Kind    string  `json:"kind"`
	PeerMS  float64 `json:"peer_ms"`
	LocalMS float64 `json:"local_ms"`
}

// Node is one function of a call, or time off the CPU.
type Node struct {
	Parent     int         `json:"parent"`
	Name       string      `json:"name"`
	StartUS    float64     `json:"start_us"`
	DurationUS float64     `json:"duration_us"`
	Error      string      `json:"error,omitempty"`
	Errno      string      `json:"errno,omitempty"`
	BlockedOn  string      `json:"blocked_on,omitempty"`
	ExitMissed bool        `json:"exit_missed,omitempty"`
	Events     []NodeEvent `json:"events,omitempty"`
}

// NodeEvent is a tracepoint that fired in a node.
type NodeEvent struct {
	Name string  `json:"name"`
	AtUS float64 `json:"at_us"`
}

// Notice is an event of a connection or a listener beside accepts: "refused", "closed",
// "listener_opened" or "listener_closed"; or a single dropped packet, "dropped".
type Notice struct {
	ID      string `json:"id"`
	AtMS    int64  `json:"at_ms"`
	Event   string `json:"event"`
	Process string `json:"process,omitempty"`
	Local   End    `json:"local"`
	Peer    End    `json:"peer"`
	Text    string `json:"text"`
}

// Queue is the accept queue of a listener.
type Queue struct {
	Process string `json:"process"`
	Local   End    `json:"local"`
	Socket  int64  `json:"socket"`
	Length  int64  `json:"length"`
	Limit   int64  `json:"limit"`
}

// Duration is a distribution of durations of a process: of the round trips of its connections, or of
// its waits.
type Duration struct {
	Process string   `json:"process"`
	Kind    string   `json:"kind"`
	Part    string   `json:"part,omitempty"`
	Local   End      `json:"local"`
	Peer    End      `json:"peer"`
	Count   uint64   `json:"count"`
	MeanMS  float64  `json:"mean_ms"`
	MostMS  *float64 `json:"p99_ms,omitempty"`
}

// Increment is what happened since the previous increment.
type Increment struct {
	Seq        int64       `json:"seq"`
	AtMS       int64       `json:"at_ms"`
	SpanS      float64     `json:"span_s"`
	Processes  []Process   `json:"processes,omitempty"`
	Interfaces []Interface `json:"interfaces,omitempty"`
	Drops      []Drop      `json:"drops,omitempty"`
	Losses     []Drop      `json:"losses,omitempty"`
	Resets     []Drop      `json:"resets,omitempty"`
	Unseen     []Drop      `json:"unseen,omitempty"`
	Deeds      []Drop      `json:"deeds,omitempty"`
	Listeners  []Listener  `json:"listeners,omitempty"`
	Queues     *[]Queue    `json:"queues,omitempty"`
	Durations  *[]Duration `json:"durations,omitempty"`

	Moved      [][]any `json:"moved,omitempty"`
	Booked     [][]any `json:"booked,omitempty"`
	Dropped    [][]any `json:"dropped,omitempty"`
	Lost       [][]any `json:"lost,omitempty"`
	Reset      [][]any `json:"reset,omitempty"`
	Overlooked [][]any `json:"overlooked,omitempty"`
	Done       [][]any `json:"done,omitempty"`
	Accepted   [][]any `json:"accepted,omitempty"`

	Accepts        []Accept `json:"accepts,omitempty"`
	AcceptsLeftOut int      `json:"accepts_left_out,omitempty"`
	Notices        []Notice `json:"notices,omitempty"`
	NoticesLeftOut int      `json:"notices_left_out,omitempty"`
	Packets        []Notice `json:"packets,omitempty"`
	PacketsLeftOut int      `json:"packets_left_out,omitempty"`
	Calls          []Call   `json:"calls,omitempty"`
	CallsLeftOut   int      `json:"calls_left_out,omitempty"`
	Gone           *Gone    `json:"gone,omitempty"`
	Health         Health   `json:"health"`
}

// Gone are the ids of objects that the view has forgotten.
type Gone struct {
	Processes  []string `json:"processes,omitempty"`
	Interfaces []string `json:"interfaces,omitempty"`
	Drops      []string `json:"drops,omitempty"`
	Losses     []string `json:"losses,omitempty"`
	Resets     []string `json:"resets,omitempty"`
	Unseen     []string `json:"unseen,omitempty"`
	Deeds      []string `json:"deeds,omitempty"`
	Listeners  []string `json:"listeners,omitempty"`
}

// Health is the state of nettap itself.
type Health struct {
	Instruments []Instrument `json:"instruments"`
	Watchers    int          `json:"watchers"`
	Cost        Cost         `json:"cost"`
	Limit       *Limit       `json:"limit,omitempty"`
	View        Own          `json:"view"`
	NotSeen     []string     `json:"not_seen"`
}

// Cost is what the whole Collector uses.
type Cost struct {
	CPUPercent  float64 `json:"cpu_percent"`
	MemoryBytes int64   `json:"memory_bytes"`
}

// Limit is what nettap's own programs and loops use of the machine, and may use.
type Limit struct {
	MaxPercent      float64 `json:"max_percent"`
	ProgramsPercent float64 `json:"programs_percent"`
	LoopsPercent    float64 `json:"loops_percent"`
	Step            string  `json:"step"`
	Exceeded        bool    `json:"exceeded,omitempty"` // although everything that can be left out is
	Why             string  `json:"why,omitempty"`      // the reason if nothing is measured
}

// Own is what the view itself stores, and what it has left out.
type Own struct {
	MemoryBytes int64          `json:"memory_bytes"`
	ReadMS      float64        `json:"read_ms"`
	Dropped     map[string]int `json:"dropped"`
}

// Instrument is an instrument of the receiver.
type Instrument struct {
	Name        string            `json:"name"`
	Signal      string            `json:"signal,omitempty"`
	State       string            `json:"state"`
	For         string            `json:"for,omitempty"`
	Why         string            `json:"why,omitempty"`
	Error       string            `json:"error,omitempty"`
	IntervalS   float64           `json:"interval_s,omitempty"`
	ReadMS      int64             `json:"read_ms,omitempty"`
	Hooks       []Hook            `json:"hooks,omitempty"`
	Seen        uint64            `json:"seen"`
	Exported    uint64            `json:"exported"`
	Aggregated  uint64            `json:"aggregated"`
	SampledOut  uint64            `json:"sampled_out"`
	RateLimited map[string]uint64 `json:"rate_limited,omitempty"`
	Lost        map[string]uint64 `json:"lost,omitempty"`
	MissedRuns  uint64            `json:"missed_runs"`
	Copies      uint64            `json:"copies"`

	WithoutProcess uint64 `json:"without_process"`
	Unmeasured     uint64 `json:"unmeasured"`

	Maps map[string]MapUsage `json:"maps,omitempty"`
}

// Hook is a place in the kernel that an instrument uses.
type Hook struct {
	Job      string   `json:"job"`
	Name     string   `json:"name"`
	NotSeen  string   `json:"not_seen,omitempty"`
	Unproven string   `json:"unproven,omitempty"`
	Refused  []string `json:"refused,omitempty"`
}

// MapUsage is how full a map of the kernel is.
type MapUsage struct {
	Entries int `json:"entries"`
	Limit   int `json:"limit"`
}
