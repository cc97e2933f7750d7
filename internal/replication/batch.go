package replication

import (
	"whale/fabric"
	"whale/internal/plog"
)

// maxWrite bounds one operation, so that a queue's other operations are not held up for long.
const maxWrite = 1 << 20

// Batch collects what a core posts in a step. Because a place in one member's memory is the same place in every other's,
// all that is to be said is which range goes to whom.
//
// The ID of an operation says what its completion means: a kind of the core's own in the highest byte, the low 8 bits of
// the view's epoch in the next (a completion of an earlier view means nothing in this one), a seq in the other 48.
type Batch struct {
	Geo  plog.Geometry
	View *View
	ops  [][]fabric.Op // by peer
}

// Begin starts a view.
func (b *Batch) Begin(v *View) {
	b.View = v
	b.ops = make([][]fabric.Op, len(v.Members))
}

// Clear empties the batch for another step.
func (b *Batch) Clear() {
	for i := range b.ops {
		b.ops[i] = b.ops[i][:0]
	}
}

// Take adds the batch to the effects.
func (b *Batch) Take(out *Effects) {
	for i, ops := range b.ops {
		if len(ops) > 0 {
			out.Posts = append(out.Posts, PeerOps{Peer: i, Ops: ops})
		}
	}
}

// Post adds one operation.
func (b *Batch) Post(peer int, op fabric.Op) { b.ops[peer] = append(b.ops[peer], op) }

// CopyTo writes [off, off+n) of this member's memory to the same place in the peer's.
func (b *Batch) CopyTo(peer int, off, n uint64, flags fabric.Flags) {
	b.copy(fabric.Write, peer, off, off, n, flags)
}

// CopyFrom reads [off, off+n) of the peer's memory to the same place in this member's.
func (b *Batch) CopyFrom(peer int, off, n uint64) { b.copy(fabric.Read, peer, off, off, n, 0) }

// CopyWord reads the word at off in the peer's memory to another place in this member's.
func (b *Batch) CopyWord(peer int, off, to uint64) { b.copy(fabric.Read, peer, to, off, 8, 0) }

// copy: a registration begins at the control page.
func (b *Batch) copy(kind fabric.Kind, peer int, local, remote, n uint64, flags fabric.Flags) {
	base := b.Geo.Control()
	for n > 0 {
		k := min(n, maxWrite)
		b.Post(peer, fabric.Op{
			Kind: kind, Flags: flags, Len: k,
			Local:  fabric.Span{Key: b.View.Members[b.View.Self].Key, Off: local - base},
			Remote: fabric.Addr{Key: b.View.Members[peer].Key, Off: remote - base},
		})
		local, remote, n = local+k, remote+k, n-k
	}
}

// Bytes writes the log bytes of those records that want chooses (nil: all), adjacent ones as one write, and says how many
// bytes that were.
func (b *Batch) Bytes(peer int, recs []plog.Rec, want func(*plog.Rec) bool, flags fabric.Flags) (total uint64) {
	var off, n uint64
	for i := range recs {
		if want != nil && !want(&recs[i]) {
			continue
		}
		o, l := b.Geo.Span(recs[i])
		total += l
		if n > 0 && o == off+n {
			n += l
			continue
		}
		b.CopyTo(peer, b.Geo.Arena()+off, n, 0)
		off, n = o, l
	}
	b.CopyTo(peer, b.Geo.Arena()+off, n, flags)
	return total
}

// Slots writes a run of n slots from this member's ring, in two writes where it crosses the ring's end.
func (b *Batch) Slots(peer int, first, n uint64, flags fabric.Flags) {
	if room := b.Geo.RingSlots - first%b.Geo.RingSlots; n > room {
		b.CopyTo(peer, b.Geo.SlotOff(first), room*plog.SlotSize, 0)
		first, n = first+room, n-room
	}
	b.CopyTo(peer, b.Geo.SlotOff(first), n*plog.SlotSize, flags)
}

// Flush ends a peer's batch: its completion, with this ID, covers everything posted to the peer before.
func (b *Batch) Flush(peer int, placement, id uint64) {
	b.Post(peer, fabric.Op{
		Kind: fabric.Flush, Flags: fabric.Signaled, ID: id, A: placement, B: fabric.Region,
		Remote: fabric.Addr{Key: b.View.Members[peer].Key},
	})
}

// Publish posts S, DW and the count of questions from P's own control page. A word there may grow before the write has
// completed: what leaves then is newer, and as true.
func (b *Batch) Publish(peer int, flags fabric.Flags) {
	b.CopyTo(peer, b.Geo.Control(), OffAsk+8, flags)
}

// Report posts this member's line of its control page to P.
func (b *Batch) Report(flags fabric.Flags) {
	b.CopyTo(0, b.Geo.Control()+plog.OffPeer(b.View.Members[b.View.Self].ID), 24, flags)
}

// Signal makes the last operation for the peer report its completion under id.
func (b *Batch) Signal(peer int, id uint64) {
	ops := b.ops[peer]
	ops[len(ops)-1].Flags |= fabric.Signaled
	ops[len(ops)-1].ID = id
}

// Notify lets the last write for the peer ring it.
func (b *Batch) Notify(peer int) {
	ops := b.ops[peer]
	for i := len(ops) - 1; i >= 0; i-- {
		if ops[i].Kind == fabric.Write {
			ops[i].Flags |= fabric.Notify
			return
		}
	}
}

// ID makes an operation's ID.
func (b *Batch) ID(kind, seq uint64) uint64 {
	return kind<<56 | uint64(uint8(b.View.Epoch))<<48 | seq&(1<<48-1)
}

// Mine takes an ID apart; kind is 0 if it belongs to another view.
func (b *Batch) Mine(id uint64) (kind, seq uint64) {
	if uint8(id>>48) != uint8(b.View.Epoch) {
		return 0, 0
	}
	return id >> 56, id & (1<<48 - 1)
}

// Add takes a report in. It is a member's word, and words only grow: nothing beyond P's own log end is believed.
func (p *Progress) Add(r Progress, end uint64) {
	if r.Drained > end || r.Durable > end || r.Forwarded > end {
		return
	}
	p.Drained, p.Durable, p.Forwarded = max(p.Drained, r.Drained), max(p.Durable, r.Durable), max(p.Forwarded, r.Forwarded)
}

// Lags tells whether a member with this report is behind P's log end.
func (p *Progress) Lags(end uint64) bool {
	return p.Drained < end || p.Durable < end || p.Forwarded < end
}

// Room is the number of slots that a ring drained up to here still takes: none is overwritten before it was drained.
func (b *Batch) Room(drained, end uint64) int {
	return int(b.Geo.RingSlots - min(end-min(end, drained), b.Geo.RingSlots))
}
