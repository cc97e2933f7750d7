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
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

const (
	// DirectMax is the largest record, in bytes of log, that P sends to every backup itself: below it a forwarded record
	// costs more in messages than it saves in bytes.
	DirectMax = 640
	// notifyBytes is how much a mirror gets to forward before P rings it.
	notifyBytes = 1 << 20
	// tick is how long P leaves a backup that is behind alone.
	tick = 100e6
	// maxWrite bounds one operation, so that a queue's other operations are not held up for long.
	maxWrite = 1 << 20
)

// What a completion means: the kind stands in the highest byte of the operation's ID, the low 8 bits of the view's epoch
// in the next (a completion of an earlier view means nothing in this one), a seq in the other 48.
const (
	idFlush   = uint64(1) // P: the peer has all slots up to seq visible, and all bytes sent to it durable
	idForward = uint64(2) // chain: the successor holds everything up to seq
	idRefresh = uint64(3) // P's S has been read
	idFetch   = uint64(4) // bytes asked for are here
)

func (c *Core) id(kind, seq uint64) uint64 {
	return kind<<56 | uint64(uint8(c.view.Epoch))<<48 | seq&(1<<48-1)
}

// mine takes an ID apart; kind is 0 if it belongs to another view.
func (c *Core) mine(id uint64) (kind, seq uint64) {
	if uint8(id>>48) != uint8(c.view.Epoch) {
		return 0, 0
	}
	return id >> 56, id & (1<<48 - 1)
}

// Core is one member's side of the protocol. Make it with New.
type Core struct {
	geo  plog.Geometry
	bad  Fault
	view *replication.View
	end  uint64 // the last record this core was told of
	s    uint64
	dw   uint64
	ops  [][]fabric.Op // by peer, for the next Effects.Posts

	primary
	backup
}

// New makes a core for a member whose memory has this geometry. It does nothing before its first view.
func New(geo plog.Geometry) *Core { return &Core{geo: geo} }

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
	if c.view == nil {
		return
	}
	for i := range c.ops {
		c.ops[i] = c.ops[i][:0]
	}
	if c.view.Primary() {
		c.stepPrimary(in, out)
	} else {
		c.stepBackup(in, out)
	}
	for i, ops := range c.ops {
		if len(ops) > 0 {
			out.Posts = append(out.Posts, replication.PeerOps{Peer: i, Ops: ops})
		}
	}
	out.Stable, out.Every = c.s, c.dw
}

func (c *Core) begin(v *replication.View, now int64) {
	c.view = v
	c.ops = make([][]fabric.Op, len(v.Members))
	if v.Primary() {
		c.beginPrimary(v, now)
	} else {
		c.beginBackup(v)
	}
}

// Held implements [replication.Core].
func (c *Core) Held(member int) uint64 {
	if c.view == nil || member >= len(c.peers) {
		return 0
	}
	if member == c.view.Self {
		return c.end
	}
	return c.peers[member].durable
}

// at turns an offset in a member's memory into one in its registration, which begins at the control page.
func (c *Core) at(memoryOff uint64) uint64 { return memoryOff - c.geo.Control() }

// copyTo writes [off, off+n) of this member's memory to the same place in the peer's.
func (c *Core) copyTo(peer int, off, n uint64, flags fabric.Flags) {
	for n > 0 {
		k := min(n, maxWrite)
		c.post(peer, fabric.Op{
			Kind: fabric.Write, Flags: flags, Len: k,
			Local:  fabric.Span{Key: c.self().Key, Off: c.at(off)},
			Remote: fabric.Addr{Key: c.view.Members[peer].Key, Off: c.at(off)},
		})
		off, n = off+k, n-k
	}
}

// copyFrom reads [off, off+n) of the peer's memory to the same place in this member's.
func (c *Core) copyFrom(peer int, off, n uint64) {
	for n > 0 {
		k := min(n, maxWrite)
		c.post(peer, fabric.Op{
			Kind: fabric.Read, Len: k,
			Local:  fabric.Span{Key: c.self().Key, Off: c.at(off)},
			Remote: fabric.Addr{Key: c.view.Members[peer].Key, Off: c.at(off)},
		})
		off, n = off+k, n-k
	}
}

// flush ends a batch: its completion, with this id, covers everything posted to the peer before.
func (c *Core) flush(peer int, placement, id uint64) {
	c.post(peer, fabric.Op{
		Kind: fabric.Flush, Flags: fabric.Signaled, ID: id, A: placement, B: fabric.Region,
		Remote: fabric.Addr{Key: c.view.Members[peer].Key},
	})
}

func (c *Core) post(peer int, op fabric.Op) { c.ops[peer] = append(c.ops[peer], op) }

// signal makes the last operation for the peer report its completion under id.
func (c *Core) signal(peer int, id uint64) {
	ops := c.ops[peer]
	ops[len(ops)-1].Flags |= fabric.Signaled
	ops[len(ops)-1].ID = id
}

func (c *Core) notify(peer int) {
	ops := c.ops[peer]
	for i := len(ops) - 1; i >= 0; i-- {
		if ops[i].Kind == fabric.Write {
			ops[i].Flags |= fabric.Notify
			return
		}
	}
}

func (c *Core) self() *replication.Member { return &c.view.Members[c.view.Self] }
