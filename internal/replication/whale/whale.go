// Package whale is the replication protocol of the Whale paper (IPDPS 2023, doi 10.1109/IPDPS54959.2023.00019) as one
// [replication.Core]: metadata to all, data to the mirror, an answer after one round trip, the data along a chain.
//
// A write at the primary P costs each peer one batch that ends in one flush. The batch holds the slots of the records (64
// bytes of metadata each), and for a mirror their bytes too. S, the stable position, moves over a record when the flush
// behind its slot has completed at every backup, and the one behind its bytes at every mirror: never when the writes have,
// since a completed write is neither visible nor durable. Small records go to everybody directly; the others are
// forwarded by the last mirror, and by each member after it, to the next.
//
// docs/protocol.md is the specification.
package whale

import (
	"whale/internal/plog"
	"whale/internal/replication"
)

const (
	// DirectMax is the largest record, in bytes of log, that P sends to every backup itself: below it a forwarded record
	// costs more in messages than it saves in bytes.
	DirectMax = 640
	// notifyBytes is how much a mirror gets to forward before P rings it: some 0.3 ms of work. With more of it in one go others
	// wait longer for a processor; with less the ringing costs.
	notifyBytes = 256 << 10
	// tick is how long P leaves a backup that is behind alone.
	tick = 100e6
)

// What the completion of an operation means: the kind in its ID.
const (
	idFlush   = 1 // P: the peer has all slots up to seq visible, and all bytes sent to it durable
	idForward = 2 // chain: the successor holds everything up to seq
	idRefresh = 3 // P's S has been read
	idFetch   = 4 // bytes asked for are here
)

// Core is one member's side of the protocol. Make it with New.
type Core struct {
	replication.Batch
	bad Fault
	end uint64 // the last record this core was told of
	s   uint64
	dw  uint64

	primary
	backup
}

// New makes a core for a member whose memory has this geometry. It does nothing before its first view.
func New(geo plog.Geometry) *Core { return &Core{Batch: replication.Batch{Geo: geo}} }

// Name implements [replication.Core].
func (c *Core) Name() string { return "whale" }

// Reader implements [replication.Core]: every member answers reads.
func (c *Core) Reader(*replication.View) int { return -1 }

// Step implements [replication.Core].
func (c *Core) Step(in *replication.Input, out *replication.Effects) {
	out.Reset()
	if in.View != nil {
		c.begin(in.View, in.Now)
	}
	if c.View == nil {
		return
	}
	c.Clear()
	if c.View.Primary() {
		c.stepPrimary(in, out)
	} else {
		c.stepBackup(in, out)
	}
	c.Take(out)
	out.Stable, out.Every = c.s, c.dw
}

func (c *Core) begin(v *replication.View, now int64) {
	c.Begin(v)
	if v.Primary() {
		c.beginPrimary(v, now)
	} else {
		c.beginBackup(v)
	}
}

// Held implements [replication.Core].
func (c *Core) Held(member int) uint64 {
	if c.View == nil || member >= len(c.peers) {
		return 0
	}
	if member == c.View.Self {
		return c.end
	}
	return c.peers[member].durable
}
