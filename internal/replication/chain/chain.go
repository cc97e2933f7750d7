// Package chain is classic chain replication (van Renesse and Schneider, OSDI 2004) as a [replication.Core]: writes enter at
// the head, which is P, each member passes slots and bytes on to its successor, the tail acknowledges, and the tail alone
// answers reads. It is the yardstick for package whale, over the same log, slots and fabric.
//
// What costs it time is what whale avoids: every member's CPU has to take a write in and pass it on before it is
// acknowledged, so that a write takes as many hops, and as many wake-ups, as there are members.
//
// Views begin as those of whale do: what members lack of the log up to the view's end P sends to all of them itself.
package chain

import (
	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

const (
	tick     = 100e6   // how long P leaves a member that is behind alone
	maxWrite = 1 << 20 // bytes of one operation
)

// The kind of a completion stands in the highest byte of the operation's ID, the low 8 bits of the epoch in the next, a seq
// in the rest.
const (
	idSent = uint64(1) // the successor (at a view's beginning, P: any member) holds slots and bytes up to seq durably
)

// Core is one member's side. Make it with New.
type Core struct {
	geo  plog.Geometry
	bad  Fault
	view *replication.View
	end  uint64
	s    uint64
	dw   uint64
	ops  [][]fabric.Op
	mine []plog.Rec // scratch

	peers     []peer // P
	published uint64
	pubDW     uint64
	ask       uint64
	nextTick  int64

	forwarded, sent uint64 // backup: the successor holds; was sent
	asked           uint64
	told            replication.Progress
	toldLoud        uint64
}

type peer struct {
	sent     uint64 // behind a completed flush of P
	reported replication.Progress
}

// Fault takes one rule away, for tests.
type Fault uint8

const (
	FaultNone Fault = iota
	// FaultHeadCommits acknowledges when the head's successor has the write.
	FaultHeadCommits
)

// Break makes the core obey the protocol but for one rule.
func (c *Core) Break(f Fault) { c.bad = f }

// New makes a core for a member whose memory has this geometry.
func New(geo plog.Geometry) *Core { return &Core{geo: geo} }

// Name implements [replication.Core].
func (c *Core) Name() string { return "chain" }

// Reader implements [replication.Core]: the tail.
func (c *Core) Reader(v *replication.View) int { return len(v.Members) - 1 }

// Held implements [replication.Core].
func (c *Core) Held(member int) uint64 {
	switch {
	case c.view == nil || member >= len(c.peers):
		return 0
	case member == c.view.Self:
		return c.end
	}
	return c.peers[member].reported.Durable
}

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
		c.stepHead(in, out)
	} else {
		c.stepMember(in, out)
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
	c.peers, c.s, c.dw = nil, 0, 0
	c.published, c.pubDW, c.nextTick = 0, 0, now+tick
	have := v.Members[v.Self].DataEnd
	c.end, c.forwarded, c.sent, c.told, c.toldLoud = have, have, have, replication.Progress{}, have
	if !v.Primary() {
		return
	}
	c.end = v.Base()
	c.s = c.end
	for _, m := range v.Members {
		c.peers = append(c.peers, peer{sent: m.DataEnd, reported: replication.Progress{Drained: m.DataEnd, Durable: m.DataEnd, Forwarded: m.DataEnd}})
	}
}

func (c *Core) tail() int { return len(c.view.Members) - 1 }

// stepHead is P's step.
func (c *Core) stepHead(in *replication.Input, out *replication.Effects) {
	for _, d := range in.Done {
		if seq, ok := c.sentTo(d.ID); ok && d.Peer < len(c.peers) {
			c.peers[d.Peer].sent = max(c.peers[d.Peer].sent, seq)
		}
	}
	for i := 1; i < len(c.peers) && i < len(in.Peers); i++ {
		p, r := &c.peers[i].reported, in.Peers[i]
		if r.Drained <= c.end && r.Durable <= c.end && r.Forwarded <= c.end {
			*p = replication.Progress{Drained: max(p.Drained, r.Drained), Durable: max(p.Durable, r.Durable), Forwarded: max(p.Forwarded, r.Forwarded)}
		}
	}
	c.enter(in.Appended, out)
	c.commit()
	behind := false
	for i := 1; i < len(c.peers); i++ {
		r := &c.peers[i].reported
		behind = behind || r.Drained < c.end || r.Durable < c.end || r.Forwarded < c.end
	}
	if in.Ask || behind && in.Now >= c.nextTick {
		c.ask++
		for i := 1; i < len(c.peers); i++ {
			c.publish(i, fabric.Notify)
		}
		c.nextTick = in.Now + tick
	}
	if in.Idle && (c.published != c.s || c.pubDW != c.dw) {
		for i := 1; i < len(c.peers); i++ {
			c.publish(i, 0)
		}
		c.published, c.pubDW = c.s, c.dw
	}
	out.Ask = c.ask
	room := c.geo.RingSlots
	for i := 1; i < len(c.peers); i++ {
		used := c.end - min(c.end, c.peers[i].reported.Drained)
		room = min(room, c.geo.RingSlots-min(used, c.geo.RingSlots))
	}
	out.Room = int(room)
	if behind {
		out.Wake = c.nextTick
	} else {
		c.nextTick = in.Now + tick
	}
}

// enter takes in what was appended: records up to the view's end go to every member that lacks them, later ones to the
// successor alone.
func (c *Core) enter(recs []plog.Rec, out *replication.Effects) {
	for _, r := range recs {
		c.end = r.Seq
		if r.Seq <= c.view.End {
			r.Flags |= plog.Direct
		}
		out.Slots = append(out.Slots, plog.Slot{Rec: r, S: c.s, DW: c.dw, Epoch: c.view.Epoch})
	}
	for i := 1; i < len(c.peers); i++ {
		mine := c.mine[:0]
		for k := range out.Slots {
			r := out.Slots[k].Rec
			if r.Seq > c.view.Members[i].DataEnd && (i == 1 || r.Seq <= c.view.End) {
				mine = append(mine, r)
			}
		}
		if c.mine = mine; len(mine) > 0 {
			c.pass(i, mine)
		}
	}
}

// commit moves S: what P sent to all itself is stable when all have it, what came later when the tail reports it.
func (c *Core) commit() {
	old := c.end
	for i := 1; i < len(c.peers); i++ {
		old = min(old, max(c.peers[i].sent, c.peers[i].reported.Durable))
	}
	s := min(old, c.view.End)
	if old >= c.view.End {
		s = c.end
		if t := c.tail(); t > 0 {
			s = max(c.view.End, c.peers[t].reported.Durable)
			if c.bad == FaultHeadCommits {
				s = max(s, c.peers[1].sent)
			}
		}
	}
	c.s = max(c.s, min(s, c.end))
	dw := c.s
	for i := 1; i < len(c.peers); i++ {
		dw = min(dw, c.peers[i].reported.Durable, c.peers[i].reported.Forwarded)
	}
	c.dw = max(c.dw, dw)
}

// stepMember is a backup's step.
func (c *Core) stepMember(in *replication.Input, out *replication.Effects) {
	for _, d := range in.Done {
		if seq, ok := c.sentTo(d.ID); ok {
			c.forwarded = max(c.forwarded, seq)
		}
	}
	if n := len(in.Appended); n > 0 {
		c.end = in.Appended[n-1].Seq
		next := c.view.Self + 1
		mine := c.mine[:0]
		for _, r := range in.Appended {
			if r.Seq > c.view.End {
				mine = append(mine, r)
			}
		}
		c.mine = mine
		switch {
		case next > c.tail() || len(mine) == 0:
			c.forwarded, c.sent = max(c.forwarded, c.end), c.end
		default:
			c.pass(next, mine)
			c.sent = c.end
		}
	}
	if c.view.Self == c.tail() {
		c.s = c.end // what the tail holds is committed
		if in.Refresh {
			out.Fresh, out.FreshHere = true, true
		}
	}
	c.report(in, out)
}

// report tells P how far this member is. The tail's report is the acknowledgement: it goes out at once, and rings.
func (c *Core) report(in *replication.Input, out *replication.Effects) {
	now := replication.Progress{Drained: in.Drained, Durable: c.end, Forwarded: c.forwarded}
	asked := in.Asked != c.asked && in.Idle
	full := now.Drained-min(now.Drained, c.toldLoud) >= c.geo.RingSlots/4
	loud := asked || full || c.view.Self == c.tail() && now.Durable > c.told.Durable
	if !loud && !(in.Idle && now != c.told) {
		return
	}
	var flags fabric.Flags
	if loud {
		flags, c.toldLoud = fabric.Notify, now.Drained
	}
	if asked {
		c.asked = in.Asked
	}
	c.told = now
	out.Report, out.HasReport = now, true
	c.copyTo(0, c.geo.Control()+plog.OffPeer(c.view.Members[c.view.Self].ID), 24, flags)
}

// pass posts bytes and slots of records in seq order to a member, with one flush behind them, and rings it: the next step
// is its own.
func (c *Core) pass(to int, recs []plog.Rec) {
	var off, n uint64
	for _, r := range recs {
		o, l := c.geo.Span(r)
		if n > 0 && o == off+n {
			n += l
			continue
		}
		c.copyTo(to, c.geo.Arena()+off, n, 0)
		off, n = o, l
	}
	c.copyTo(to, c.geo.Arena()+off, n, 0)
	for len(recs) > 0 {
		k := min(uint64(len(recs)), c.geo.RingSlots-recs[0].Seq%c.geo.RingSlots)
		c.copyTo(to, c.geo.SlotOff(recs[0].Seq), k*plog.SlotSize, fabric.Notify)
		recs = recs[k:]
	}
	c.ops[to] = append(c.ops[to], fabric.Op{
		Kind: fabric.Flush, Flags: fabric.Signaled, ID: c.id(c.end), A: fabric.Durable, B: fabric.Region,
		Remote: fabric.Addr{Key: c.view.Members[to].Key},
	})
}

func (c *Core) publish(i int, flags fabric.Flags) {
	c.copyTo(i, c.geo.Control(), replication.OffAsk+8, flags)
}

// copyTo writes [off, off+n) of this member's memory to the same place in the peer's.
func (c *Core) copyTo(peer int, off, n uint64, flags fabric.Flags) {
	at := off - c.geo.Control()
	for n > 0 {
		k := min(n, maxWrite)
		c.ops[peer] = append(c.ops[peer], fabric.Op{
			Kind: fabric.Write, Flags: flags, Len: k,
			Local:  fabric.Span{Key: c.view.Members[c.view.Self].Key, Off: at},
			Remote: fabric.Addr{Key: c.view.Members[peer].Key, Off: at},
		})
		at, n = at+k, n-k
	}
}

func (c *Core) id(seq uint64) uint64 {
	return idSent<<56 | uint64(uint8(c.view.Epoch))<<48 | seq&(1<<48-1)
}

// sentTo is the seq in the ID of a completion of this view.
func (c *Core) sentTo(id uint64) (seq uint64, ok bool) {
	return id & (1<<48 - 1), id>>56 == idSent && uint8(id>>48) == uint8(c.view.Epoch)
}
