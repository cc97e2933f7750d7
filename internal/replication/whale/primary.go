package whale

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// primary is what P keeps.
type primary struct {
	peers     []peer
	recs      []plog.Rec // scratch of multicast
	published uint64     // S and DW as the backups' control pages have them
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
		if !c.mirror(i) && m.DataEnd < v.End {
			// Its log may end inside a group, which a restart cuts: it counts what it says in this view.
			c.peers[i].durable, c.peers[i].reported.Durable = 0, 0
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
		c.askAll(func(p *peer) bool { return p.reported.Lags(c.end) })
		c.nextTick = in.Now + tick
	}
	if in.Idle && (c.published != c.s || c.pubDW != c.dw) {
		for i := 1; i < len(c.peers); i++ {
			c.Publish(i, 0)
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
		kind, seq := c.Mine(d.ID)
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

// reports takes what the members wrote into P's control page.
func (c *Core) reports(reports []replication.Progress) {
	for i := 1; i < len(c.peers) && i < len(reports); i++ {
		p := &c.peers[i]
		p.reported.Add(reports[i], c.end)
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
	switch {
	case c.bad == FaultOffByOne && s < c.end:
		s++
	case c.bad == FaultEarlyEverywhere:
		dw = s
	}
	c.s = max(c.s, s)
	c.dw = max(c.dw, min(c.s, dw))
}

// multicast sends the slots of the records to every backup, and their bytes to the mirrors and, small ones or those sent
// again, to all.
func (c *Core) multicast(recs []plog.Rec, out *replication.Effects) {
	c.recs = c.recs[:0]
	for _, r := range recs {
		c.end = r.Seq
		if r.Len <= DirectMax || r.Seq <= c.View.End || c.View.Policy == replication.All {
			r.Flags |= plog.Direct
		}
		out.Slots = append(out.Slots, plog.Slot{Rec: r, S: c.s, DW: c.dw, Epoch: c.View.Epoch})
		c.recs = append(c.recs, r)
	}
	for i := 1; i < len(c.peers); i++ {
		p := &c.peers[i]
		recs := c.recs
		for len(recs) > 0 && recs[0].Seq <= c.View.Members[i].DataEnd {
			recs = recs[1:] // it has them
		}
		if len(recs) == 0 {
			p.visible = c.end
			continue
		}
		relayed := func(r *plog.Rec) bool { return r.Flags&plog.Direct == 0 }
		if c.mirror(i) {
			c.Bytes(i, recs, nil, 0)
			for k := range recs {
				if relayed(&recs[k]) {
					p.toRelay += uint64(recs[k].Len)
				}
			}
		} else {
			c.Bytes(i, recs, func(r *plog.Rec) bool { return !relayed(r) }, 0)
		}
		c.Slots(i, recs[0].Seq, uint64(len(recs)), 0)
		switch {
		case c.bad == FaultEarlyCommit:
			c.Signal(i, c.ID(idFlush, c.end))
		case c.bad == FaultVisibleData:
			c.Flush(i, fabric.Visible, c.ID(idFlush, c.end))
		case c.mirror(i) || c.View.Policy == replication.Metadata && c.bad != FaultVisibleSlots:
			c.Flush(i, fabric.Durable, c.ID(idFlush, c.end))
		default:
			c.Flush(i, fabric.Visible, c.ID(idFlush, c.end))
		}
		if i == 1 && c.View.Policy == replication.Metadata {
			// P is the head of the chain itself. Nobody waits for these bytes.
			p.toRelay += c.Bytes(i, recs, relayed, 0)
		}
		if c.bad == FaultSilent {
			continue
		}
		if c.end-p.rungAt >= c.Geo.RingSlots/4 || p.toRelay >= notifyBytes {
			c.Notify(i)
			p.rungAt, p.toRelay = c.end, 0
		}
	}
	// The slots carried them.
	c.published, c.pubDW = max(c.published, out.Slots[len(out.Slots)-1].S), max(c.pubDW, out.Slots[len(out.Slots)-1].DW)
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
		if c.bad == FaultSilent {
			c.Publish(i, 0)
		} else {
			c.Publish(i, fabric.Notify)
		}
		c.peers[i].rungAt, c.peers[i].toRelay = c.end, 0
	}
}

func (c *Core) behind() bool {
	for i := 1; i < len(c.peers); i++ {
		if c.peers[i].reported.Lags(c.end) {
			return true
		}
	}
	return false
}

// room is the number of slots that every ring still takes.
func (c *Core) room() int {
	room := int(c.Geo.RingSlots)
	if c.bad == FaultNoRoom {
		return room
	}
	for i := 1; i < len(c.peers); i++ {
		room = min(room, c.Room(c.peers[i].reported.Drained, c.end))
	}
	return room
}

// mirror tells whether the member with this index gets the bytes before a write is acknowledged.
func (c *Core) mirror(i int) bool { return i >= 1 && i <= c.View.Mirrors }
