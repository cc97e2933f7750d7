package whale

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// primary is what P keeps.
type primary struct {
	peers     []peer
	published uint64 // S and DW as the backups' control pages have them
	pubDW     uint64
	ask       uint64
	nextTick  int64
}

// peer is what P knows of a backup.
type peer struct {
	visible  uint64 // slots, behind a completed flush
	durable  uint64 // bytes: behind a completed durable flush, or reported
	reported replication.Progress
	rungAt   uint64 // end when it was last rung
	toRelay  uint64 // bytes sent to it since then that it must forward
}

func (c *Core) beginPrimary(v *replication.View, now int64) {
	c.peers = make([]peer, len(v.Members))
	base := v.Base()
	c.end, c.s, c.dw = base, base, 0
	c.published, c.pubDW = 0, 0
	c.nextTick = now + tick
	for i, m := range v.Members {
		c.peers[i] = peer{
			visible: base, durable: m.DataEnd, rungAt: base,
			reported: replication.Progress{Drained: m.DataEnd, Durable: m.DataEnd, Forwarded: m.DataEnd},
		}
	}
}

func (c *Core) stepPrimary(in *replication.Input, out *replication.Effects) {
	c.completed(in.Done)
	c.reports(in.Peers)
	c.advance()
	if len(in.Appended) > 0 {
		c.multicast(in.Appended, out)
		c.advance() // a cluster of one needs nobody's word
	}
	if in.Ask {
		c.askAll(func(p *peer) bool { return p.durable < c.end })
	}
	behind := c.behind()
	if behind && in.Now >= c.nextTick {
		c.askAll(func(p *peer) bool { return c.lags(p) })
		c.nextTick = in.Now + tick
	}
	if in.Idle && (c.published != c.s || c.pubDW != c.dw) {
		for i := 1; i < len(c.peers); i++ {
			c.publish(i, 0)
		}
		c.published, c.pubDW = c.s, c.dw
	}
	out.Ask = c.ask
	out.Room = c.room()
	if behind {
		out.Wake = c.nextTick
	} else {
		c.nextTick = in.Now + tick // the first tick comes a whole period after somebody falls behind
	}
}

// completed counts the flushes that ended. Only a flush says that slots are visible and bytes durable (trap 1).
func (c *Core) completed(done []replication.Done) {
	for _, d := range done {
		kind, seq := c.mine(d.ID)
		if kind != idFlush || d.Peer >= len(c.peers) {
			continue
		}
		p := &c.peers[d.Peer]
		p.visible = max(p.visible, seq)
		if c.mirror(d.Peer) {
			p.durable = max(p.durable, seq)
		}
	}
}

// reports takes what the members wrote into P's control page. It is their memory's word: nothing beyond P's own log end is
// believed.
func (c *Core) reports(reports []replication.Progress) {
	for i := 1; i < len(c.peers) && i < len(reports); i++ {
		p, r := &c.peers[i], reports[i]
		if r.Drained > c.end || r.Durable > c.end || r.Forwarded > c.end {
			continue
		}
		p.reported.Drained = max(p.reported.Drained, r.Drained)
		p.reported.Durable = max(p.reported.Durable, r.Durable)
		p.reported.Forwarded = max(p.reported.Forwarded, r.Forwarded)
		p.durable = max(p.durable, p.reported.Durable)
	}
}

// advance moves S and DW. S needs every backup's slot visible and the bytes durable at every mirror (P's own are: it was
// told of them after that). It lands on ends of batches only, hence on ends of groups, since a batch holds whole groups.
func (c *Core) advance() {
	s := c.end
	dw := c.end
	for i := 1; i < len(c.peers); i++ {
		p := &c.peers[i]
		if !(c.bad == FaultDataOnly && !c.mirror(i)) {
			s = min(s, p.visible)
		}
		if c.mirror(i) {
			s = min(s, p.durable)
		}
		dw = min(dw, p.durable, p.reported.Forwarded)
	}
	c.s = max(c.s, s)
	c.dw = max(c.dw, min(c.s, dw))
}

// multicast sends the slots of the records to every backup, and their bytes to the mirrors and, small ones or those sent
// again, to all.
func (c *Core) multicast(recs []plog.Rec, out *replication.Effects) {
	for _, r := range recs {
		c.end = r.Seq
		if r.Len <= DirectMax || r.Seq <= c.view.End || c.view.Policy == replication.All {
			r.Flags |= plog.Direct
		}
		out.Slots = append(out.Slots, plog.Slot{Rec: r, S: c.s, DW: c.dw, Epoch: c.view.Epoch})
	}
	for i := 1; i < len(c.peers); i++ {
		p := &c.peers[i]
		slots := out.Slots
		for len(slots) > 0 && slots[0].Seq <= c.view.Members[i].DataEnd {
			slots = slots[1:] // it has them
		}
		if len(slots) == 0 {
			p.visible = c.end
			continue
		}
		c.bytes(i, slots, func(direct bool) bool { return direct || c.mirror(i) })
		c.slots(i, slots)
		switch {
		case c.bad == FaultEarlyCommit:
			c.signal(i, c.id(idFlush, c.end))
		case c.mirror(i) || c.view.Policy == replication.Metadata && c.bad != FaultVisibleSlots:
			c.flush(i, fabric.Durable, c.id(idFlush, c.end))
		default:
			c.flush(i, fabric.Visible, c.id(idFlush, c.end))
		}
		if i == 1 && c.view.Policy == replication.Metadata {
			// P is the head of the chain itself. Nobody waits for these bytes.
			c.bytes(i, slots, func(direct bool) bool { return !direct })
		}
		if c.end-p.rungAt >= c.geo.RingSlots/4 || p.toRelay >= notifyBytes {
			c.notify(i)
			p.rungAt, p.toRelay = c.end, 0
		}
	}
	// The slots carried them.
	c.published, c.pubDW = max(c.published, out.Slots[len(out.Slots)-1].S), max(c.pubDW, out.Slots[len(out.Slots)-1].DW)
}

// bytes posts to peer i the log bytes of the records that want chooses by being direct or not, adjacent ones as one write.
func (c *Core) bytes(i int, slots []plog.Slot, want func(direct bool) bool) {
	p := &c.peers[i]
	var off, n uint64
	for k := range slots {
		r := &slots[k].Rec
		direct := r.Flags&plog.Direct != 0
		if !want(direct) {
			continue
		}
		o, l := c.geo.Span(*r)
		if !direct {
			p.toRelay += l
		}
		if n > 0 && o == off+n {
			n += l
			continue
		}
		if n > 0 {
			c.copyTo(i, c.geo.Arena()+off, n, 0)
		}
		off, n = o, l
	}
	if n > 0 {
		c.copyTo(i, c.geo.Arena()+off, n, 0)
	}
}

// slots posts a run of slots, in two writes where it crosses the ring's end.
func (c *Core) slots(i int, slots []plog.Slot) {
	first, n := slots[0].Seq, uint64(len(slots))
	if room := c.geo.RingSlots - first%c.geo.RingSlots; n > room {
		c.copyTo(i, c.geo.SlotOff(first), room*plog.SlotSize, 0)
		first, n = first+room, n-room
	}
	c.copyTo(i, c.geo.SlotOff(first), n*plog.SlotSize, 0)
}

// publish posts S, DW and the count of questions from P's own control page. A word there may grow before the write has
// completed: what leaves then is newer, and as true.
func (c *Core) publish(i int, flags fabric.Flags) {
	c.copyTo(i, c.geo.Control(), replication.OffAsk+8, flags)
}

// askAll rings the backups that answer to want, and asks them to report at once.
func (c *Core) askAll(want func(*peer) bool) {
	asked := false
	for i := 1; i < len(c.peers); i++ {
		if !want(&c.peers[i]) {
			continue
		}
		if !asked {
			c.ask++
			asked = true
		}
		c.publish(i, fabric.Notify)
		c.peers[i].rungAt, c.peers[i].toRelay = c.end, 0
	}
}

// lags tells whether a backup's report is behind P's log.
func (c *Core) lags(p *peer) bool {
	r := &p.reported
	return r.Drained < c.end || r.Durable < c.end || r.Forwarded < c.end
}

func (c *Core) behind() bool {
	for i := 1; i < len(c.peers); i++ {
		if c.lags(&c.peers[i]) {
			return true
		}
	}
	return false
}

// room is the number of slots that every ring still takes: a slot is never overwritten before it was drained.
func (c *Core) room() int {
	room := c.geo.RingSlots
	for i := 1; i < len(c.peers); i++ {
		used := c.end - min(c.end, c.peers[i].reported.Drained)
		room = min(room, c.geo.RingSlots-min(used, c.geo.RingSlots))
	}
	return int(room)
}

// mirror tells whether the member with this index gets the bytes before a write is acknowledged.
func (c *Core) mirror(i int) bool { return i >= 1 && i <= c.view.Mirrors }
